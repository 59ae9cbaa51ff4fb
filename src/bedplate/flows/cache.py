"""The cache's layout: which part lies where, how large each is, and what may go."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from bedplate.flows.workspace import Workspace
from bedplate.model.lock import parse_lock
from bedplate.upstream.store import ContentStore

PARTS = (
    "store",
    "indexes",
    "descriptions",
    "rpms",
    "signed",
    "repository",
    "objects",
    "stages",
    "tools",
    "locks",
    "state",
)
# Parts made from locked files; each entry is one file or directory that can be made again.
_DERIVED = ("descriptions", "rpms", "signed", "compose", "tools")


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
    """Every part's size, and all parts' under "total"."""
    sizes = {name: _measure(workspace.cache / name) for name in PARTS}
    total = PartSize(sum(part.files for part in sizes.values()), sum(part.size for part in sizes.values()))
    return {**sizes, "total": total}


def collect_garbage(workspace: Workspace, older_than: float) -> PartSize:
    """Remove downloads no lock names and derived entries older than ``older_than`` seconds; gives what went."""
    result = content_store(workspace).gc(_locked_digests(workspace), older_than)
    files, size = result.removed, result.removed_bytes
    now = time.time()
    for name in _DERIVED:
        directory = workspace.cache / name
        for entry in sorted(directory.iterdir()) if directory.is_dir() else ():
            if now - entry.stat(follow_symlinks=False).st_mtime < older_than:
                continue
            measured = _measure(entry)
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            files, size = files + measured.files, size + measured.size
    return PartSize(files, size)


def _locked_digests(workspace: Workspace) -> set[str]:
    locks = [*sorted((workspace.distro / "locks").glob("*.toml")), *sorted((workspace.cache / "locks").glob("*.toml"))]
    packages = [package for path in locks for package in parse_lock(path.read_text(), str(path)).packages]
    return {package.location.sha256 for package in packages if package.location is not None}


def _measure(path: Path) -> PartSize:
    if path.is_file() or path.is_symlink():
        return PartSize(1, path.lstat().st_size)
    sizes = [entry.lstat().st_size for entry in path.rglob("*") if entry.is_symlink() or entry.is_file()]
    return PartSize(len(sizes), sum(sizes))
