"""What can go wrong, and the exit status that says so."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of ``bedplate-join``. They are stable."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    WAITING = 3


class JoinError(Exception):
    """Something failed, and trying again by itself would not help. ``remedy`` is what to do about it."""

    code = Exit.FAILED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class BadInput(JoinError):
    """A wrong argument or directive; nothing was touched. ``mistakes`` are all of them, each with its key."""

    code = Exit.BAD_INPUT

    def __init__(self, message: str, *, remedy: str = "", mistakes: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.mistakes = mistakes or (message,)


class Away(JoinError):
    """A server that is needed cannot be reached now; it is tried again."""

    code = Exit.WAITING
