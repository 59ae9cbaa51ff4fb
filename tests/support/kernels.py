"""A small signed repository of kernel packages: rebuilds of a track's kernel, good and bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.flows.definition import read_definition
from bedplate.flows.imports import import_locked
from bedplate.flows.kernels import kernel_packages
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock
from bedplate.flows.make import image_inputs, opened_packages
from bedplate.flows.owned import owned_sets
from bedplate.flows.tools import prepare_tools
from bedplate.flows.track import locked_track
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.track import Kernel
from bedplate.packages.repository import RepositoryPackage, write_repository
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.sign import sign_rpms
from bedplate.trust.keys import KeyStore


@dataclass(frozen=True)
class KernelShop:
    """Makes kernel packages of ``track`` and a repository of them in ``root``."""

    workspace: Workspace
    track: str
    root: Path

    def rebuilt(self, revision: int, *, keys: KeyStore | None = None, **changes: object) -> RpmPackage:
        """The track's own kernel once more, with ``changes`` of its definition; signed by ``keys`` for firmware."""
        definition = read_definition(self.workspace)
        track = definition.track(self.track)
        kernel = Kernel.model_validate({**track.kernel.model_dump(), "revision": revision, **changes})
        changed = track.model_copy(update={"kernel": kernel})
        lock = locked_track(self.workspace, definition, self.track, Relock.WHEN_NEEDED).lock
        packages = opened_packages(self.workspace, definition, lock, import_locked(self.workspace, definition, lock))
        store = keys or key_store(self.workspace, definition)
        toolbox = prepare_tools(self.workspace, "tools", Relock.WHEN_NEEDED)
        sets = owned_sets(self.workspace, track)
        inputs = image_inputs(definition, changed, sets, packages, store, toolbox, "1")
        (made,) = kernel_packages(self.workspace, inputs, store, packages)
        return made

    def offer(self, packages: Sequence[RpmPackage]) -> None:
        """Sign ``packages`` and let the repository hold just these."""
        definition = read_definition(self.workspace)
        folder = self.root / definition.distro.stream / "x86_64"
        (folder / "Packages").mkdir(parents=True, exist_ok=True)
        placed = [(one.path, folder / "Packages" / one.nevra.filename) for one in packages]
        signer = key_store(self.workspace, definition).signer("packages")
        sign_rpms([pair for pair in placed if not pair[1].exists()], signer, self.workspace.jobs)
        write_repository(
            folder,
            [RepositoryPackage(target, f"Packages/{target.name}") for _, target in placed],
            revision=definition.distro.source_date_epoch,
            cache=self.root / "descriptions",
            signer=signer,
        )
