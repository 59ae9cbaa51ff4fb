"""Which lock holds: the committed one, one made anew on this machine, or a new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from pathlib import Path

from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput
from bedplate.model.lock import Lock, format_lock, parse_lock
from bedplate.resolve.fit import require_fit


class Relock(Enum):
    """What to do when the upstream no longer carries what a lock names."""

    NEVER = "stop, and say how to lock again"
    WHEN_NEEDED = "lock again, say so, and keep that lock outside distro/"


def committed_path(workspace: Workspace, name: str) -> Path:
    """Where the definition keeps the lock of a track or tool set."""
    return workspace.distro / "locks" / f"{name}.toml"


def local_path(workspace: Workspace, name: str) -> Path:
    """Where a lock that was made because the committed one could not be had any more is kept."""
    return workspace.cache / "locks" / f"{name}.toml"


def read_lock_file(path: Path) -> Lock:
    """Read one lock file.

    Raises:
        BadInput: it is not there, or damaged.
    """
    try:
        return parse_lock(path.read_text(), str(path))
    except FileNotFoundError:
        raise BadInput(
            "there is no lock", where=str(path), remedy=f"make one: bedplate lock {path.stem.removeprefix('tools-')}"
        ) from None


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock in one step, so that a reader finds the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(format_lock(lock))
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def usable_locks(
    workspace: Workspace, name: str, *, track: str, definition: Callable[[Collection[str]], str]
) -> Iterator[tuple[Path, Lock]]:
    """Locks that fit the definition, the committed one first; locks made on this machine for an older definition are
    passed over.

    Args:
        definition: Digest of the definition as far as it concerns the packages named.

    Raises:
        BadInput: the committed lock does not fit its definition: it is refused, never repaired on the quiet.
    """
    path = committed_path(workspace, name)
    lock = read_lock_file(path)
    require_fit(lock, track=track, definition=definition(lock.names), where=str(path))
    yield path, lock
    local = local_path(workspace, name)
    if local.exists():
        lock = read_lock_file(local)
        if lock.definition == definition(lock.names) and lock.track == track:
            yield local, lock
