"""The payload: a cpio archive (newc) as rpm writes it, compressed as a stream.

Sources: cpio(5) "New ASCII Format", rpm ``lib/cpio.c`` for the ``07070X`` form of packages with files over 4 GiB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

from bedplate.model.package import FileEntry, FileKind

TYPE_BITS = {FileKind.FILE: 0o100000, FileKind.DIRECTORY: 0o040000, FileKind.SYMLINK: 0o120000}
TRAILER = "TRAILER!!!"
_HEADER = b"070701" + b"%08x" * 13
_STRIPPED = "07070X"
_BLOCK = 256 * 1024


def newc_header(name: bytes, *, inode: int = 0, mode: int = 0, links: int = 1, mtime: int = 0, size: int = 0) -> bytes:
    """One cpio member header with its name, padded to a multiple of four bytes."""
    numbers = (inode, mode, 0, 0, links, mtime, size, 0, 0, 0, 0, len(name) + 1, 0)
    header = _HEADER % numbers + name + b"\0"
    return header + b"\0" * (-len(header) % 4)


def stripped_header(index: int) -> bytes:
    """The member header rpm uses when a size does not fit newc: the file's index in the package header."""
    header = f"{_STRIPPED}{index:08x}".encode()
    return header + b"\0" * (-len(header) % 4)


def member_header(entry: FileEntry, *, inode: int, links: int, size: int) -> bytes:
    """The newc header of one path, as rpm writes it: name below ``.``, owners and device left to the header."""
    return newc_header(
        b"." + entry.path.encode("utf-8", "surrogateescape"),
        inode=inode,
        mode=TYPE_BITS[entry.kind] | entry.mode,
        links=links,
        mtime=entry.mtime,
        size=size,
    )


@dataclass(frozen=True, slots=True)
class PayloadDigests:
    """Hex SHA-256 and size of the payload, compressed and not."""

    sha256: str
    size: int
    archive_sha256: str
    archive_size: int


class PayloadWriter:
    """Compresses what is written to it into ``out`` and digests both sides.

    Input is cut into blocks of one size before it reaches the compressor, so that output depends on the bytes alone
    and never on how the caller cut them.
    """

    def __init__(self, out: BinaryIO, level: int, archive_size: int) -> None:
        self._out = out
        parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=archive_size, threads=0)
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=archive_size)
        self._buffer = bytearray()
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._plain_size = 0
        self._packed_size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Add ``data`` to the archive."""
        view = memoryview(data)
        while len(self._buffer) + len(view) >= _BLOCK:
            if self._buffer:
                part = view[: _BLOCK - len(self._buffer)]
                self._buffer += part
                self._flush(self._buffer)
                self._buffer = bytearray()
            else:
                part = view[:_BLOCK]
                self._flush(part)
            view = view[len(part) :]
        self._buffer += view

    def pad(self) -> None:
        """Fill up to a multiple of four bytes, as cpio wants after each member."""
        self.write(b"\0" * (-(self._plain_size + len(self._buffer)) % 4))

    def _flush(self, block: bytearray | memoryview) -> None:
        self._plain.update(block)
        self._plain_size += len(block)
        self._emit(self._compressor.compress(block))

    def _emit(self, data: bytes) -> None:
        self._packed.update(data)
        self._packed_size += len(data)
        self._out.write(data)

    def finish(self) -> PayloadDigests:
        """End the stream; nothing can be written any more."""
        self._flush(self._buffer)
        self._emit(self._compressor.flush())
        return PayloadDigests(self._packed.hexdigest(), self._packed_size, self._plain.hexdigest(), self._plain_size)


def archive_size(headers: Iterable[bytes], sizes: Iterable[int]) -> int:
    """Size of the archive of members with these headers and content sizes, trailer included."""
    members = sum(len(header) + size + -size % 4 for header, size in zip(headers, sizes, strict=True))
    return members + len(newc_header(TRAILER.encode()))
