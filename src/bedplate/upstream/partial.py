"""Unfinished downloads: one file per digest in the store's ``partial/``, which survives a kill and is resumed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from bedplate.upstream.disk import disk_errors, write_all
from bedplate.upstream.store import CHUNK, ContentStore

_POLL_SECONDS = 0.1


class PartialFile:
    """The bytes of one file received so far, with a running digest. Made by :meth:`locked`, held by one process."""

    def __init__(self, store: ContentStore, sha256: str, path: Path, stream: FileIO) -> None:
        self._store = store
        self._sha256 = sha256
        self._path = path
        self._stream = stream
        self._hasher = hashlib.sha256()
        self.size = 0
        stream.seek(0)
        while chunk := stream.read(CHUNK):
            self._hasher.update(chunk)
            self.size += len(chunk)

    @classmethod
    @contextmanager
    def locked(cls, store: ContentStore, sha256: str, stop: threading.Event) -> Iterator[PartialFile | None]:
        """Hold the partial file of ``sha256`` exclusively; None when it came into the store while waiting for it.

        The lock is flock(2) on the file itself, so it ends with its process, however that ends.
        """
        path = store.partial / f"{sha256}.part"
        with disk_errors(store.root):
            store.partial.mkdir(parents=True, exist_ok=True)
        while not store.has(sha256) and not stop.is_set():
            stream = _open(path)
            try:
                if _lock(stream, path):
                    yield cls(store, sha256, path, stream)
                    return
            finally:
                stream.close()
            stop.wait(_POLL_SECONDS)  # another process downloads it: wait for the file or for the lock
        yield None

    @property
    def validator(self) -> tuple[str, str]:
        """URL the bytes came from and its ETag or Last-Modified; empty strings when unknown."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text())
            return str(note["url"]), str(note["validator"])
        return "", ""

    def remember(self, url: str, validator: str) -> None:
        """Note where the bytes come from, for If-Range when the download is resumed. Losing it costs nothing."""
        with suppress(OSError):
            self._note.write_text(json.dumps({"url": url, "validator": validator}))

    @property
    def _note(self) -> Path:
        return self._path.with_suffix(".from")

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        with disk_errors(self._store.root):
            write_all(self._stream, data)
        self._hasher.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget all bytes."""
        self._stream.seek(0)
        self._stream.truncate()
        self._note.unlink(missing_ok=True)
        self._hasher = hashlib.sha256()
        self.size = 0

    def digest(self) -> str:
        """Hex SHA-256 of the bytes so far."""
        return self._hasher.hexdigest()

    def finish(self) -> None:
        """Move the file, whose digest the caller found right, into the store."""
        self._store.adopt(self._path, self._stream.fileno(), self._sha256)
        self._note.unlink(missing_ok=True)


def _open(path: Path) -> FileIO:
    # Unbuffered: what a full disk did not take must not be tried again when the file is closed.
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+")


def _lock(stream: FileIO, path: Path) -> bool:
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The holder before us may have moved the file into the store, or a collection removed it.
    try:
        return path.stat().st_ino == os.fstat(stream.fileno()).st_ino
    except FileNotFoundError:
        return False
