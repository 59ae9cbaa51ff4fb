"""The files a track's definition owns."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bedplate.compose.owned import OwnedSet, load_sets
from bedplate.flows.cache import part
from bedplate.flows.programs import own_program
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.track import Track
from bedplate.model.digest import sha256
from bedplate.packages.atomic import caching
from bedplate.trust.keys import KeyStore


def owned_sets(workspace: Workspace, track: Track) -> tuple[OwnedSet, ...]:
    """The sets of owned files a track names, read from ``distro/files``."""

    def keyring(role: str) -> Path:
        data = KeyStore(workspace.keys).keyring(role)
        path = part(workspace, "keyrings") / sha256(data)
        if not path.is_file():
            with caching(path) as stream:
                stream.write(data)
        return path

    return load_sets(workspace.distro / "files", track.files, keyring, partial(own_program, workspace))


def owned_paths(workspace: Workspace, track: Track) -> frozenset[str]:
    """Every path the distribution owns in a track's image."""
    return frozenset(entry.path for owned in owned_sets(workspace, track) for entry in owned.files)
