"""Where a release store's bytes lie: objects by path, with conditional writes. What a directory and a bucket have in
common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bedplate.model.errors import BadInput, BedplateError, TrustError

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
MAX_PATH = 400


class NotFound(BedplateError):
    """The store has no object at this path."""


class Conflict(BedplateError):
    """Somebody else wrote this object first."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Write whatever is there."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Write only when nothing is there."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Write only when the object still is what was read with this tag."""

    tag: str


Condition = Anything | Absent | Unchanged


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's bytes, and the tag that names this very content for :class:`Unchanged`."""

    data: bytes
    tag: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its bytes: ``size`` in bytes, ``modified`` in seconds since the epoch."""

    path: str
    size: int
    modified: float


class ObjectStore(Protocol):
    """Objects by path. Paths are checked by :func:`require_path`; a write is seen whole or not at all."""

    @property
    def url(self) -> str:
        """How the store is named on a command line."""
        ...

    def get(self, path: str, limit: int) -> Stored:
        """The whole object.

        Raises:
            NotFound: there is none.
            TrustError: it is larger than ``limit`` bytes.
        """
        ...

    def stream(self, path: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes from ``start``, ``length`` of them or all, in pieces.

        Raises:
            NotFound: there is none.
        """
        ...

    def put(self, path: str, source: bytes | Path, condition: Condition) -> None:
        """Write an object from bytes or from a file.

        Raises:
            Conflict: the condition does not hold.
            BedplateError: it cannot be written, for instance because the disk is full.
        """
        ...

    def info(self, path: str) -> ObjectInfo | None:
        """What is at a path, None when nothing is."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose path starts with the folder ``prefix`` (without a slash at its end)."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object; nothing happens when there is none."""
        ...

    def local(self, path: str) -> Path | None:
        """The object as a file of this machine, None where it is none."""
        ...

    def public_url(self, path: str, seconds: int) -> str | None:
        """A URL from which anyone may read the object for so long, None where there is none."""
        ...


def require_path(path: str) -> str:
    """``path`` when it can be an object's path: plain names joined by slashes.

    Raises:
        BadInput: anything else: absolute, ``..``, hidden, empty or strange names.
    """
    if len(path) > MAX_PATH or not _PATH.fullmatch(path):
        raise BadInput(f"{path[:80]!r} is no path of a release store")
    return path


def too_large(where: str, limit: int) -> TrustError:
    """The error of :meth:`ObjectStore.get`."""
    return TrustError(f"larger than the {limit} bytes it may have; nothing of it was used", where=where)


def blob_path(sha256: str) -> str:
    """Where the object with a digest (hex SHA-256) lies."""
    return f"blobs/{sha256[:2]}/{sha256}"
