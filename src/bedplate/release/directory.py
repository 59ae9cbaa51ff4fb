"""A release store in a directory: for one machine, a network file system, or a web server's document root."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bedplate.model.errors import BedplateError
from bedplate.release.objects import (
    Absent,
    Anything,
    Condition,
    Conflict,
    NotFound,
    ObjectInfo,
    Stored,
    Unchanged,
    require_path,
    too_large,
)

_PIECE = 1 << 20


class DirectoryStore:
    """Objects as files below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    def get(self, path: str, limit: int) -> Stored:
        place = self._place(path)
        with _reading(place) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise too_large(str(place), limit)
        return Stored(data, _tag(data))

    def stream(self, path: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        with _reading(self._place(path)) as stream:
            stream.seek(start)
            left = length
            while left is None or left > 0:
                piece = stream.read(_PIECE if left is None else min(_PIECE, left))
                if not piece:
                    return
                yield piece
                left = None if left is None else left - len(piece)

    def put(self, path: str, source: bytes | Path, condition: Condition) -> None:
        place = self._place(path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with self._beside(place, source) as temporary:
                self._move(temporary, place, condition)
            _sync(place.parent)
        except OSError as error:
            raise BedplateError(
                f"cannot write to the release store ({error.strerror})",
                where=str(place),
                remedy="free some space and run the same command again; what is there is whole",
            ) from error

    def info(self, path: str) -> ObjectInfo | None:
        try:
            status = self._place(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ObjectInfo(path, status.st_size, status.st_mtime)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for folder, _, names in os.walk(self._place(prefix)):
            for name in sorted(names):
                # What starts with a dot is being written, or was left by a killed writer.
                place = Path(folder) / name
                if not name.startswith(".") and not place.is_symlink():
                    status = place.stat()
                    yield ObjectInfo(place.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)

    def delete(self, path: str) -> None:
        self._place(path).unlink(missing_ok=True)

    def local(self, path: str) -> Path | None:
        return self._place(path)

    def public_url(self, path: str, seconds: int) -> str | None:
        return None

    def sweep(self, before: float) -> None:
        """Remove what killed writers left before a time (seconds since the epoch)."""
        for leftover in self.root.rglob(".new-*"):
            if leftover.stat().st_mtime < before:
                leftover.unlink(missing_ok=True)

    def _place(self, path: str) -> Path:
        return self.root / require_path(path)

    @contextmanager
    def _beside(self, place: Path, source: bytes | Path) -> Iterator[Path]:
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=place.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                if isinstance(source, bytes):
                    stream.write(source)
                else:
                    with source.open("rb") as content:
                        shutil.copyfileobj(content, stream, _PIECE)
                stream.flush()
                os.fchmod(stream.fileno(), 0o644)
                os.fsync(stream.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _move(self, temporary: Path, place: Path, condition: Condition) -> None:
        match condition:
            case Anything():
                temporary.replace(place)
            case Absent():
                try:
                    place.hardlink_to(temporary)
                except FileExistsError as error:
                    raise _conflict(place) from error
            case Unchanged(tag):
                with self._lock():
                    if not place.is_file() or _tag(place.read_bytes()) != tag:
                        raise _conflict(place)
                    temporary.replace(place)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _reading(place: Path) -> Iterator[IO[bytes]]:
    try:
        stream = place.open("rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound("the release store has no such object", where=str(place)) from error
    with stream:
        yield stream


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _conflict(place: Path) -> Conflict:
    return Conflict("somebody else has just written this", where=str(place), remedy="run the same command again")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
