"""The content store: immutable files named by their SHA-256, safe against kill, full disk and other processes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from bedplate.model.errors import BedplateError, TrustError
from bedplate.upstream.disk import disk_errors, sync_directory, write_all

CHUNK = 1 << 20
_LEFTOVER_SECONDS = 24 * 3600
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class StoreSize:
    """Number of entries and their size in bytes; ``partial_bytes`` are unfinished downloads and left-overs."""

    entries: int
    entry_bytes: int
    partial_bytes: int


@dataclass(frozen=True, slots=True)
class GcResult:
    """What a collection removed."""

    removed: int
    removed_bytes: int


class ContentStore:
    """Files below ``root`` by the SHA-256 (64 hex digits) of their content.

    An entry appears under its name only when whole, checked and on disk (written beside, fsync, rename), so a killed
    process leaves at most a file in ``partial/``, and two processes that write one entry write the same bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries = root / "sha256"
        self.partial = root / "partial"

    def path(self, digest: str) -> Path:
        """Where the entry ``digest`` lies, or would lie.

        Raises:
            ValueError: ``digest`` is not 64 lower-case hex digits (it becomes part of a path).
        """
        if len(digest) != 64 or not _HEX.issuperset(digest):
            raise ValueError(f"not a SHA-256 in hex: {digest!r}")
        return self._entries / digest[:2] / digest

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the entry is there and, when ``size`` (bytes) is given, of that size."""
        try:
            status = self.path(digest).stat()
        except FileNotFoundError:
            return False
        return size is None or status.st_size == size

    def open(self, digest: str) -> BufferedReader:
        """The entry, opened for reading; marks it as used for :meth:`gc`.

        Raises:
            BedplateError: the store lacks it.
        """
        path = self.path(digest)
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            raise BedplateError(
                "the content store lacks this file", where=digest, remedy="fetch it again; it may have been collected"
            ) from None
        with suppress(PermissionError):  # a store shared read-only is still a store
            os.utime(path)
        return stream

    def read(self, digest: str) -> bytes:
        """The whole content of an entry."""
        with self.open(digest) as stream:
            return stream.read()

    def read_verified(self, digest: str) -> bytes:
        """The whole content of an entry, hashed again.

        Raises:
            TrustError: the entry is damaged. It was removed, so that running again fetches it anew.
        """
        data = self.read(digest)
        if hashlib.sha256(data).hexdigest() != digest:
            self.discard(digest)
            raise TrustError(
                "the stored file is damaged and was removed", where=str(self.path(digest)), remedy="run again"
            )
        return data

    def put_stream(self, chunks: Iterable[bytes], digest: str, size: int) -> Path:
        """Store ``chunks``, which must come to ``size`` bytes with the SHA-256 ``digest``.

        Raises:
            TrustError: they do not; reading stops at the first byte too many, and nothing is stored.
            BedplateError: no space.
        """
        final = self.path(digest)
        if self.has(digest, size):
            return final
        with disk_errors(self.root):
            self.partial.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=self.partial, prefix="put-", delete=False, buffering=0) as stream:
                temporary = Path(stream.name)
                try:
                    self._copy(chunks, stream.file, digest, size)
                    self._place(stream.fileno(), temporary, final)
                finally:
                    temporary.unlink(missing_ok=True)
        return final

    def _copy(self, chunks: Iterable[bytes], out: IO[bytes], digest: str, size: int) -> None:
        hasher, total = hashlib.sha256(), 0
        for chunk in chunks:
            total += len(chunk)
            if total > size:
                raise TrustError(f"more than the {size} bytes that were promised", where=digest)
            hasher.update(chunk)
            write_all(out, chunk)
        if total != size or hasher.hexdigest() != digest:
            raise TrustError(f"got {total} bytes with SHA-256 {hasher.hexdigest()}, expected {size}", where=digest)

    def adopt(self, temporary: Path, fileno: int, digest: str) -> Path:
        """Give a finished file of :attr:`partial` its name. The caller has checked its digest while writing it.

        ``fileno`` is ``temporary``, open for writing with everything flushed to the kernel.
        """
        final = self.path(digest)
        with disk_errors(self.root):
            self._place(fileno, temporary, final)
        return final

    def _place(self, fileno: int, temporary: Path, final: Path) -> None:
        os.fchmod(fileno, 0o444)
        os.fsync(fileno)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(final)
        sync_directory(final.parent)

    def digests(self) -> Iterator[str]:
        """Digests of all entries, in no order."""
        if not self._entries.is_dir():
            return
        for folder in self._entries.iterdir():
            for entry in folder.iterdir():
                yield entry.name

    def verify(self, digest: str) -> bool:
        """Whether the entry's bytes are still what its name says. Reads the whole file."""
        with self.open(digest) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == digest

    def check(self) -> list[str]:
        """Digests of all corrupt entries, sorted. They are left for the caller to :meth:`discard`."""
        return sorted(digest for digest in self.digests() if not self.verify(digest))

    def discard(self, digest: str) -> None:
        """Remove an entry if it is there."""
        self.path(digest).unlink(missing_ok=True)

    def size(self) -> StoreSize:
        """How much the store holds."""
        sizes = [self.path(digest).stat().st_size for digest in self.digests()]
        partial = sum(entry.stat().st_size for entry in self._leftovers())
        return StoreSize(len(sizes), sum(sizes), partial)

    def gc(self, keep: Collection[str] = (), older_than: float = 0.0) -> GcResult:
        """Remove entries that are not in ``keep`` and were not used for ``older_than`` seconds.

        Unfinished downloads go when untouched for a day. An entry another process has open stays readable to it.
        """
        kept, now = frozenset(keep), time.time()
        removed = removed_bytes = 0
        entries = [self.path(digest) for digest in self.digests() if digest not in kept]
        for path, limit in [*((p, older_than) for p in entries), *((p, _LEFTOVER_SECONDS) for p in self._leftovers())]:
            try:
                status = path.stat()
                if now - status.st_mtime < limit:
                    continue
                path.unlink()
            except FileNotFoundError:
                continue  # another process was first
            removed, removed_bytes = removed + 1, removed_bytes + status.st_size
        return GcResult(removed, removed_bytes)

    def _leftovers(self) -> list[Path]:
        return list(self.partial.iterdir()) if self.partial.is_dir() else []
