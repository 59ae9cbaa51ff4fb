"""Files that appear whole or not at all: written beside, synced, renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bedplate.model.errors import BedplateError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for reading and writing, that takes the place of ``path`` when the block ends without an error.

    Raises:
        BedplateError: it cannot be written (disk full, no permission); ``path`` is as it was.
    """
    with _beside(path) as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def caching(path: Path) -> Iterator[BinaryIO]:
    """As :func:`replacing`, without waiting for the disk: for what carries its own check and can be made again.

    After a power cut such a file may be empty or cut short, never half of an old and half of a new one.
    """
    with _beside(path) as stream:
        yield stream


@contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise BedplateError(
            f"cannot write ({error.strerror})", where=str(path), remedy="free some space or give another directory"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
