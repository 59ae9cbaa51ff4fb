"""A signed repository of a track's packages and some more, served on the loopback address."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bedplate.flows.advisories import advisories_for
from bedplate.flows.definition import read_definition
from bedplate.flows.imports import import_locked
from bedplate.flows.keys import key_store
from bedplate.flows.lock import make_track_lock
from bedplate.flows.own import build_own
from bedplate.flows.repository import updateinfo
from bedplate.flows.workspace import Workspace
from bedplate.model.package import Nevra
from bedplate.packages.repository import RepositoryPackage, write_repository
from bedplate.packages.rpm.sign import sign_rpms


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read what they assert."""


def make_repository(workspace: Workspace, track: str, more: Sequence[str], root: Path) -> Path:
    """Packages of ``track`` and those called ``more``, with all they need, signed by the workspace's key, as
    ``root/STREAM/x86_64``; gives ``root``."""
    definition = read_definition(workspace)
    known = definition.track(track)
    wanted = known.model_copy(update={"packages": [*known.packages, *more], "exclude": known.exclude})
    lock, _ = make_track_lock(workspace, definition, wanted)
    imported = import_locked(workspace, definition, lock)
    ready: list[tuple[Nevra, Path]] = [(one.nevra, one.path) for one in imported]
    ready += [(one.nevra, one.path) for one in build_own(workspace, definition, lock)]
    folder = root / definition.distro.stream / "x86_64"
    (folder / "Packages").mkdir(parents=True)
    placed = [(path, folder / "Packages" / f"{nevra}.rpm") for nevra, path in ready]
    signer = key_store(workspace, definition).signer("packages")
    sign_rpms(placed, signer, workspace.jobs)
    packages = [RepositoryPackage(target, f"Packages/{target.name}") for _, target in placed]
    write_repository(
        folder,
        packages,
        revision=definition.distro.source_date_epoch,
        cache=root / "descriptions",
        signer=signer,
        extra={"updateinfo": updateinfo(definition, advisories_for(workspace, definition, imported))},
    )
    return root


@contextmanager
def served(root: Path) -> Iterator[int]:
    """Serve ``root`` over HTTP on the loopback address; gives the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
