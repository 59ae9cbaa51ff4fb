"""Whether a lock belongs to its definition: looked at before anything else, so it needs no solver."""

from __future__ import annotations

from bedplate.model.errors import BadInput
from bedplate.model.lock import Lock


def require_fit(lock: Lock, *, track: str, definition: str, where: str) -> None:
    """Refuse a lock that was not made for this definition; it is never repaired on the quiet.

    Raises:
        BadInput: the lock is of another track, or of another state of the definition. ``where`` names the lock's file.
    """
    if lock.track != track:
        raise BadInput(
            f"this lock is for {lock.track}, not for {track}", where=where, remedy=f"give the lock of {track}"
        )
    if lock.definition != definition:
        raise BadInput(
            "the definition has changed since this lock was made",
            where=where,
            remedy=f"resolve again: bedplate lock {track}",
            details=[f"locked for {lock.definition[:16]}…, the definition is {definition[:16]}…"],
        )
