"""Writing to disk: atomic files, and a full disk as an error a person can act on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from bedplate.model.errors import BedplateError

_FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "file size limit reached",
}


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn the operating system's "no space" errors into a :class:`BedplateError` that names ``root``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise BedplateError(
            _FULL[error.errno],
            where=str(root),
            remedy="free some space (`bedplate store gc`) or set BEDPLATE_CACHE to a larger place, then run again; "
            "what was finished is kept",
        ) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (fsync(2) on the directory)."""
    fileno = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fileno)
    finally:
        os.close(fileno)


def write_all(stream: IO[bytes] | FileIO, data: bytes) -> None:
    """Write all of ``data`` to an unbuffered file, which may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) or 0 :]


def write_atomic(path: Path, data: bytes) -> None:
    """Write a whole file so that its name holds the old or the new content, never a part.

    Raises:
        BedplateError: no space.
    """
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False, buffering=0) as stream:
            temporary = Path(stream.name)
            try:
                write_all(stream.file, data)
                os.fsync(stream.fileno())
                temporary.rename(path)
            finally:
                temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
