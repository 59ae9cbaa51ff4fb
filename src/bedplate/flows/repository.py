"""Our packages signed and laid out as a plain rpm-md repository."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bedplate.flows.cache import part
from bedplate.flows.definition import read_definition
from bedplate.flows.imports import import_locked
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock
from bedplate.flows.own import build_own
from bedplate.flows.track import locked_track
from bedplate.flows.workspace import Workspace
from bedplate.model.package import Nevra
from bedplate.packages.repository import Repository, RepositoryPackage, write_repository
from bedplate.packages.rpm.sign import sign_rpms


@dataclass(frozen=True)
class ImportResult:
    """What an import of a track did: the repository and the number of packages in it."""

    repository: Repository
    packages: tuple[Nevra, ...]


def import_track(workspace: Workspace, name: str, relock: Relock = Relock.NEVER) -> ImportResult:
    """Import everything a track's lock names, sign it, and write the repository that holds it."""
    definition = read_definition(workspace)
    lock = locked_track(workspace, definition, name, relock).lock
    imported = import_locked(workspace, definition, lock)
    built = [(one.nevra, one.path, one.rpm_sha256) for one in imported]
    built += [(one.nevra, one.path, one.rpm_sha256) for one in build_own(workspace, definition, lock)]
    signer = key_store(workspace, definition).signer("packages")
    directory = part(workspace, "repository") / definition.distro.stream / "x86_64"
    # A signature depends on the key: another key's packages lie elsewhere.
    signed = part(workspace, "signed") / key_store(workspace, definition).ensure("packages").fingerprint[:16]
    work = [(path, signed / f"{digest}.rpm") for _, path, digest in built]
    missing = [(source, target) for source, target in work if not target.exists()]
    signed.mkdir(parents=True, exist_ok=True)
    if missing:
        with workspace.progress.task("sign", len(missing), "packages") as task:
            task.advance(len(sign_rpms(missing, signer, workspace.jobs)))
    packages = []
    for (nevra, _, _), (_, target) in zip(built, work, strict=True):
        location = f"Packages/{nevra.name[0]}/{nevra.filename}"
        _link(target, directory / location)
        packages.append(RepositoryPackage(directory / location, location))
    repository = write_repository(
        directory,
        packages,
        revision=definition.distro.source_date_epoch,
        cache=part(workspace, "descriptions") / "rpm-md",
        signer=signer,
    )
    return ImportResult(repository, tuple(nevra for nevra, _, _ in built))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.hardlink_to(source)
    temporary.rename(target)
