"""States of a repository that a server moves between, and releases that stand for them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from bedplate.flows.definition import read_definition
from bedplate.flows.keys import key_store
from bedplate.flows.own import build_own_packages
from bedplate.flows.workspace import Workspace
from bedplate.packages.repository import RepositoryPackage, write_repository
from bedplate.packages.rpm.sign import sign_rpms

CHANGED = "bedplate-repos"


def add_state(workspace: Workspace, repository: Path, release: str, more: Mapping[str, str] | None = None) -> str:
    """A state of ``repository`` that has a newer release of one package; gives the state's name.

    Args:
        more: Files that are new in it: path and content.
    """
    definition = read_definition(workspace)
    old = definition.own[CHANGED]
    files = {**old.files, **{path: type(old.files[REPO])(content=text) for path, text in (more or {}).items()}}
    changed = old.model_copy(update={"release": release, "files": files})
    definition = replace(definition, own={**definition.own, CHANGED: changed})
    (built,) = build_own_packages(workspace, definition, [CHANGED])
    place = f"{definition.distro.stream}/x86_64"
    name = f"20261121T101112Z-{release:0>12}"
    folder = repository / "states" / name / place
    (folder / "Packages").mkdir(parents=True)
    for path in (repository / place / "Packages").iterdir():
        if not path.name.startswith(f"{CHANGED}-"):
            os.link(path, folder / "Packages" / path.name)
    signer = key_store(workspace, definition).signer("packages")
    sign_rpms([(built.path, folder / "Packages" / f"{built.nevra}.rpm")], signer, workspace.jobs)
    packages = [RepositoryPackage(path, f"Packages/{path.name}") for path in sorted((folder / "Packages").iterdir())]
    write_repository(
        folder,
        packages,
        revision=definition.distro.source_date_epoch,
        cache=repository / "descriptions",
        signer=signer,
    )
    return name


def snapshot(repository: Path, state: str, version: str, expires: int) -> bytes:
    """What a release's file says of a state."""
    (metadata,) = (repository / "states" / state).glob("*/x86_64/repodata/repomd.xml")
    return json.dumps(
        {
            "format": 1,
            "track": "server",
            "version": version,
            "expires": expires,
            "stream": "1",
            "state": state,
            "repomd_sha256": sha256(metadata.read_bytes()).hexdigest(),
        }
    ).encode()


REPO = "/etc/yum.repos.d/bedplate.repo"
