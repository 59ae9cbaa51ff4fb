"""The cache's layout: which part lies where, and how large each is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.flows.workspace import Workspace
from bedplate.upstream.store import ContentStore


@dataclass(frozen=True, slots=True)
class PartSize:
    """Files in a part of the cache and their bytes."""

    files: int
    size: int


def content_store(workspace: Workspace) -> ContentStore:
    """The store of downloaded files."""
    return ContentStore(workspace.cache / "store")


def part(workspace: Workspace, name: str) -> Path:
    """The directory of one part of the cache; made when it is not there."""
    directory = workspace.cache / name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def cache_sizes(workspace: Workspace) -> dict[str, PartSize]:
    """Every part's size by its name, and all parts' under "total"."""
    parts = sorted(entry for entry in workspace.cache.iterdir()) if workspace.cache.is_dir() else []
    sizes = {entry.name: measure(entry) for entry in parts}
    total = PartSize(sum(part.files for part in sizes.values()), sum(part.size for part in sizes.values()))
    return {**sizes, "total": total}


def measure(path: Path) -> PartSize:
    """The size of a file, or of every file below a directory; what another process removes meanwhile is not counted."""
    files = size = 0
    for entry in (path, *path.rglob("*")):
        try:
            status = entry.lstat()
        except FileNotFoundError:
            continue
        if entry.is_symlink() or entry.is_file():
            files, size = files + 1, size + status.st_size
    return PartSize(files, size)
