"""What of the cache may go: downloads and tools no lock names, old results, and what interrupted runs left."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from bedplate.flows.cache import PartSize, content_store, measure
from bedplate.flows.tools import tools_tree
from bedplate.flows.workspace import Workspace
from bedplate.model.lock import Lock, parse_lock

# What is made from downloads: entries that are whole or not there at all.
_DERIVED = ("descriptions/*", "rpms/*/*", "signed/*/*", "compose/*/*")
# Working directories of builds that were killed; a build of this day may still be at work in its own.
_SCRATCH = ("tmp*", "rebuild/*", "compose/scratch/*", "tools/.unpack-*")
_DAY = 24 * 3600.0


def collect_garbage(workspace: Workspace, older_than: float) -> PartSize:
    """Remove what no lock needs and what can be made again and was not used lately; gives what went.

    Kept are downloads and tools trees that a committed lock, or one made on this machine, names; published
    repositories; and every result younger than ``older_than`` seconds.

    Raises:
        BadInput: a lock cannot be read, so nobody can tell what it needs: nothing is removed.
    """
    locks = _locks(workspace)
    wanted = {package.location.sha256 for lock in locks for package in lock.packages if package.location is not None}
    trees = {tools_tree(workspace, lock).root.name for lock in locks}
    downloads = content_store(workspace).gc(wanted, older_than)
    removed = [PartSize(downloads.removed, downloads.removed_bytes)]
    removed += [_remove(entry) for entry in _old(_derived(workspace), older_than)]
    removed += [_remove(entry) for entry in _old(_unnamed_trees(workspace, trees), older_than)]
    leftovers = (entry for pattern in _SCRATCH for entry in sorted(workspace.cache.glob(pattern)))
    removed += [_remove(entry) for entry in _old(leftovers, _DAY)]
    return PartSize(sum(one.files for one in removed), sum(one.size for one in removed))


def _locks(workspace: Workspace) -> list[Lock]:
    paths = [*sorted((workspace.distro / "locks").glob("*.toml")), *sorted((workspace.cache / "locks").glob("*.toml"))]
    return [parse_lock(path.read_text(), str(path)) for path in paths]


def _derived(workspace: Workspace) -> Iterator[Path]:
    for pattern in _DERIVED:
        yield from (entry for entry in sorted(workspace.cache.glob(pattern)) if entry.parent.name != "scratch")


def _unnamed_trees(workspace: Workspace, named: set[str]) -> Iterator[Path]:
    # Beside a tree lie its wrappers, in a directory of the same name with an ending.
    for entry in sorted((workspace.cache / "tools").glob("[!.]*")):
        if entry.name.partition(".")[0] not in named:
            yield entry


def _old(entries: Iterator[Path], seconds: float) -> Iterator[Path]:
    now = time.time()
    for entry in entries:
        try:
            age = now - entry.lstat().st_mtime
        except FileNotFoundError:
            continue  # another process was first
        if age >= seconds:
            yield entry


def _remove(entry: Path) -> PartSize:
    size = measure(entry)
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
    return size
