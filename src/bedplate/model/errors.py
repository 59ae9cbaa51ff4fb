"""Errors and findings a user sees: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class BedplateError(Exception):
    """A failure with a cause a person can act on.

    Args:
        message: What is wrong, one sentence without a final stop.
        where: The file, key, package or URL it was found at; empty when the message says it.
        remedy: What to do now; empty only when nothing can be done.
        details: Further lines, shown below the message as they are.

    ``exit_code`` is what the command line exits with: 1 for a failure, 2 for bad input (:class:`BadInput`).
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", remedy: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy
        self.details = tuple(details)

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        lines = [head, *(f"  {line}" for line in self.details)]
        if self.remedy:
            lines.append(f"  what to do: {self.remedy}")
        return "\n".join(lines)


class BadInput(BedplateError):
    """The user's input (an argument, a definition, a lock, a package) is wrong; running again changes nothing."""

    exit_code = 2


class TrustError(BedplateError):
    """Something from outside did not prove what it claims: a signature, a digest, an age. Nothing of it was used."""


class Level(StrEnum):
    """How much a finding matters. ``UNKNOWN`` is "could not check", which is not "failed"."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    ``id`` is stable over releases (``image.setid.unlisted``), ``where`` names file and key or the path in the image.
    """

    id: str
    level: Level
    cause: str
    where: str = ""
    remedy: str = ""
