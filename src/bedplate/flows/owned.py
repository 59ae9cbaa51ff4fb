"""The files a track's definition owns."""

from __future__ import annotations

from bedplate.compose.owned import OwnedSet, load_sets
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.track import Track


def owned_sets(workspace: Workspace, track: Track) -> tuple[OwnedSet, ...]:
    """The sets of owned files a track names, read from ``distro/files``."""
    return load_sets(workspace.distro / "files", track.files)


def owned_paths(workspace: Workspace, track: Track) -> frozenset[str]:
    """Every path the distribution owns in a track's image."""
    return frozenset(entry.path for owned in owned_sets(workspace, track) for entry in owned.files)
