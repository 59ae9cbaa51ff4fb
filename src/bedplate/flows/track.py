"""The lock a build uses: the committed one, or another made because the upstream has moved on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bedplate.flows.imports import download
from bedplate.flows.lock import make_track_lock
from bedplate.flows.locks import Relock, committed_path, local_path, usable_locks, write_lock
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.lock import Lock
from bedplate.upstream.download import MovedOnError, Wanted


@dataclass(frozen=True)
class TrackLock:
    """A lock whose files are all in the store, and the file it is in."""

    lock: Lock
    path: Path
    committed: bool


def locked_track(workspace: Workspace, definition: DefinitionSet, name: str, relock: Relock) -> TrackLock:
    """The first lock of a track whose files can all be had.

    Raises:
        MovedOnError: there is none and ``relock`` does not allow another lock.
        BadInput: the committed lock does not fit its definition.
    """
    fitting = partial(definition.resolution_digest, definition.track(name))
    moved: MovedOnError | None = None
    for path, lock in usable_locks(workspace, name, track=name, definition=fitting):
        wanted = [
            Wanted(locked.location, locked.suite, str(locked.nevra))
            for locked in lock.packages
            if locked.location is not None
        ]
        try:
            download(workspace, definition, wanted)
        except MovedOnError as error:
            moved = moved or error
            continue
        return TrackLock(lock, path, path == committed_path(workspace, name))
    if moved is None or relock is Relock.NEVER:
        raise moved or MovedOnError(())
    gone = ", ".join(wanted.name for wanted in moved.gone)
    workspace.progress.say(f"the mirrors no longer carry these locked packages: {gone}")
    workspace.progress.say(f"locking {name} again for this build; distro/ is left as it is")
    lock, _ = make_track_lock(workspace, definition, definition.track(name))
    path = local_path(workspace, name)
    write_lock(path, lock)
    return TrackLock(lock, path, committed=False)
