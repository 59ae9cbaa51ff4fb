"""What can go wrong, and the exit status that says so."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of ``bedplate-patch``. They are stable."""

    DONE = 0
    ROLLED_BACK = 1
    BAD_INPUT = 2
    REBOOT_NEEDED = 3
    NOT_STARTED = 4
    NEEDS_A_PERSON = 5


class PatchError(Exception):
    """Something failed. ``remedy`` is what to do about it, ``code`` the exit status."""

    code = Exit.NEEDS_A_PERSON

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class BadInput(PatchError):
    """A wrong argument or configuration; nothing was touched."""

    code = Exit.BAD_INPUT


class NotStarted(PatchError):
    """Nothing was touched: no window is open, no room, another one is running, packages cannot be had."""

    code = Exit.NOT_STARTED
