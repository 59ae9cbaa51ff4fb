"""Building a track: what is there already is looked at first, and only then is anything made."""

from __future__ import annotations

import time
from dataclasses import replace

from bedplate.flows.definition import read_definition
from bedplate.flows.finished import BuildOutcome, Question, outcome
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock
from bedplate.flows.owned import owned_sets
from bedplate.flows.workspace import Workspace
from bedplate.model.lock import Lock

__all__ = ["BuildOutcome", "build_track"]


def build_track(
    workspace: Workspace, name: str, relock: Relock = Relock.NEVER, *, lock: Lock | None = None, version: str = ""
) -> BuildOutcome:
    """Build the image of a track below ``workspace.output``, or return it when nothing has changed.

    Args:
        lock: Build from this lock instead of the definition's (an image's own, to build it again).
        version: The image's version (IMAGE_VERSION); the distribution's when empty.

    Raises:
        MovedOnError: the mirrors no longer carry a locked version and ``relock`` does not allow another lock.
        BadInput: the definition, the lock or a package is wrong; a script is not accounted for; a limit is not kept.
        TrustError: a download is not what it must be.
    """
    started = time.monotonic()
    definition = read_definition(workspace)
    track = definition.track(name)
    keys = key_store(workspace, definition)
    wanted = Question(workspace, definition, track, owned_sets(workspace, track), keys, lock, version)
    known = wanted.finished()
    if known is not None:
        result, relocked = replace(known[0], reused=True), known[1]
        return outcome(wanted.output, result, keys, relocked, {"total": time.monotonic() - started})
    from bedplate.flows.make import make_image  # heavy, and not needed when nothing has changed

    result, relocked, seconds = make_image(wanted, relock)
    seconds["total"] = time.monotonic() - started
    return outcome(wanted.output, result, keys, relocked, seconds)
