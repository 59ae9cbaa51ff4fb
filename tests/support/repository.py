"""A signed repository of a track's packages and some more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bedplate.flows.advisories import advisories_for
from bedplate.flows.definition import read_definition
from bedplate.flows.imports import import_locked
from bedplate.flows.keys import key_store
from bedplate.flows.lock import make_track_lock
from bedplate.flows.own import build_own
from bedplate.flows.repository import updateinfo
from bedplate.flows.workspace import Workspace
from bedplate.model.lock import Lock
from bedplate.model.package import Nevra
from bedplate.packages.repository import RepositoryPackage, write_repository
from bedplate.packages.rpm.sign import sign_rpms


def make_repository(
    workspace: Workspace, track: str, more: Sequence[str], root: Path, before: Lock | None = None
) -> Path:
    """Packages of ``track`` and those called ``more``, with all they need, signed by the workspace's key, as
    ``root/STREAM/x86_64``; gives ``root``. Those in the lock ``before`` are of its versions."""
    definition = read_definition(workspace)
    known = definition.track(track)
    wanted = known.model_copy(update={"packages": [*known.packages, *more], "exclude": known.exclude})
    lock, _ = make_track_lock(workspace, definition, wanted, before, more)
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
