"""Reading a payload: bounded decompression and the cpio members in it, held against the package header.

Nothing is believed that the header does not say: a member must be a file of the header with its type and size, each
one once, and the archive may not be longer than its members.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

import zstandard

from bedplate.model.errors import BadInput
from bedplate.model.package import FileEntry, FileFlag, FileKind
from bedplate.packages.rpm.container import COPY_SIZE, REMEDY
from bedplate.packages.rpm.payload import TRAILER, TYPE_BITS
from bedplate.packages.rpm.tags import MAX_DECODER_BYTES

_NEWC_SIZE = 110
_MAX_NAME = 4096
_MAX_TAIL = 64 << 10
"""Zero bytes after the trailer that are let pass: some builders fill up the last block."""


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class DigestingReader:
    """Reads ``stream`` and digests all that passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, none at the end."""
        data = self._stream.read(COPY_SIZE if size < 0 else size)
        self._digest.update(data)
        return data

    def drain(self) -> str:
        """Read what is left and give the hex SHA-256 of everything."""
        while self.read(COPY_SIZE):
            pass
        return self._digest.hexdigest()


class _LzmaReader:
    # lzma.LZMAFile cannot be told how much memory it may take.
    def __init__(self, raw: DigestingReader) -> None:
        self._raw = raw
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=MAX_DECODER_BYTES)

    def read(self, size: int = COPY_SIZE, /) -> bytes:
        while not self._decoder.eof:
            packed = self._raw.read(COPY_SIZE) if self._decoder.needs_input else b""
            if not packed and self._decoder.needs_input:
                raise EOFError("the compressed data ends too early")
            data = self._decoder.decompress(packed, size)
            if data:
                return data
        return b""


def _open_zstd(raw: DigestingReader) -> _Readable:
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_DECODER_BYTES)
    return decoder.stream_reader(cast(BinaryIO, raw), read_size=COPY_SIZE, read_across_frames=True)


class _PlainReader:
    # A payload that is not compressed at all; rpm's default, gzip, reads such data as it is.
    def __init__(self, raw: DigestingReader) -> None:
        self._raw = raw

    def read(self, size: int = COPY_SIZE, /) -> bytes:
        return self._raw.read(size)


_DECODERS: dict[str, Callable[[DigestingReader], _Readable]] = {
    "zstd": _open_zstd,
    "xz": _LzmaReader,
    "lzma": _LzmaReader,
    "gzip": lambda raw: gzip.GzipFile(fileobj=cast(BinaryIO, raw), mode="rb"),
    "none": _PlainReader,
    "bzip2": lambda raw: bz2.BZ2File(cast(BinaryIO, raw)),
}
_DECODE_ERRORS = (zstandard.ZstdError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError, OSError)


class Archive:
    """The uncompressed payload as a stream that never gives more than ``limit`` bytes."""

    def __init__(self, raw: DigestingReader, compressor: str, limit: int, where: str) -> None:
        if compressor not in _DECODERS:
            raise BadInput(f"payload compression {compressor!r} is not known", where=where)
        self._stream = _DECODERS[compressor](raw)
        self._left = limit
        self._where = where
        self.position = 0

    def read_some(self, size: int) -> bytes:
        """Between 1 and ``size`` bytes, none at the end.

        Raises:
            BadInput: damaged compressed data, or more than the package says it holds.
        """
        try:
            data = self._stream.read(size)
        except _DECODE_ERRORS as error:
            raise BadInput(f"the payload cannot be decompressed ({error})", where=self._where, remedy=REMEDY) from error
        self._left -= len(data)
        if self._left < 0:
            raise BadInput("the payload is larger than its header says", where=self._where, remedy=REMEDY)
        self.position += len(data)
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """Exactly ``size`` bytes in pieces.

        Raises:
            BadInput: the payload ends before.
        """
        while size:
            data = self.read_some(min(size, COPY_SIZE))
            if not data:
                raise BadInput("the payload ends too early", where=self._where, remedy=REMEDY)
            size -= len(data)
            yield data

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        return b"".join(self.pieces(size))

    def align(self) -> None:
        """Skip to the next multiple of four bytes."""
        self.read(-self.position % 4)


def archive_limit(files: tuple[FileEntry, ...]) -> int:
    """The most bytes an honest archive of ``files`` can have: headers, names, contents, padding, trailer."""
    heads = sum(_NEWC_SIZE + len(entry.path.encode("utf-8", "surrogateescape")) + 16 for entry in files)
    bodies = sum(max(entry.size, len(entry.target.encode("utf-8", "surrogateescape"))) for entry in files)
    return heads + bodies + _MAX_TAIL


def read_members(
    archive: Archive, files: tuple[FileEntry, ...], wanted: Callable[[str], bool], where: str
) -> Iterator[tuple[FileEntry, bytes]]:
    """Walk the archive and yield wanted regular files with their content, digests verified.

    Raises:
        BadInput: a member the header does not know, one that comes twice or not at all, another type, size or content.
    """
    names = {_key(entry.path): number for number, entry in enumerate(files)}
    groups: dict[str, list[int]] = {}
    for number, entry in enumerate(files):
        if entry.hardlink:
            groups.setdefault(entry.hardlink, []).append(number)
    missing = {number for number, entry in enumerate(files) if not entry.flags & FileFlag.GHOST}
    filled: set[str] = set()
    while True:
        member = _next_member(archive, names, files, groups, where)
        if member is None:
            break
        number, size, holds_content = member
        entry = files[number]
        if number not in missing:
            raise BadInput(f"{entry.path} stands twice in the payload", where=where, remedy=REMEDY)
        missing.discard(number)
        if entry.kind is not FileKind.FILE:
            _check_other(archive, entry, size, where)
        elif holds_content:
            first = entry.hardlink or entry.path
            if first in filled:
                raise BadInput(f"{entry.path} has its content twice in the payload", where=where, remedy=REMEDY)
            filled.add(first)
            links = [files[one] for one in groups.get(entry.hardlink, [number])]
            yield from _content(archive, entry, [link for link in links if wanted(link.path)], where)
        archive.align()
    unfilled = {entry.hardlink or entry.path for entry in files if entry.sha256} - filled
    if missing or unfilled:
        path = files[min(missing)].path if missing else min(unfilled)
        raise BadInput(f"{path} is not in the payload", where=where, remedy=REMEDY)
    while tail := archive.read_some(COPY_SIZE):
        if any(tail):
            raise BadInput("data after the end of the payload", where=where, remedy=REMEDY)


def _content(
    archive: Archive, entry: FileEntry, links: list[FileEntry], where: str
) -> Iterator[tuple[FileEntry, bytes]]:
    if not links:
        for _ in archive.pieces(entry.size):
            pass
        return
    data = archive.read(entry.size)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BadInput(f"{entry.path} does not have the digest it must have", where=where, remedy=REMEDY)
    for link in links:
        yield link, data


def _check_other(archive: Archive, entry: FileEntry, size: int, where: str) -> None:
    expected = entry.target.encode("utf-8", "surrogateescape") if entry.kind is FileKind.SYMLINK else b""
    if size != len(expected) or archive.read(size) != expected:
        raise BadInput(f"{entry.path} differs between header and payload", where=where, remedy=REMEDY)


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape").lstrip(b"/")


def _next_member(
    archive: Archive,
    names: dict[bytes, int],
    files: tuple[FileEntry, ...],
    groups: dict[str, list[int]],
    where: str,
) -> tuple[int, int, bool] | None:
    """Index of the next member's file, its size, and whether its content follows; None at the trailer."""
    magic = archive.read(6)
    if magic == b"07070X":
        return _stripped_member(archive, files, groups, where)
    if magic not in (b"070701", b"070702"):
        raise BadInput("the payload is not a cpio archive", where=where, remedy=REMEDY)
    fields = archive.read(_NEWC_SIZE - 6)
    mode, size, name_size = (_hex(fields[at : at + 8], where) for at in (8, 48, 88))
    if not 1 < name_size <= _MAX_NAME:
        raise BadInput("a name in the payload is too long", where=where, remedy=REMEDY)
    name = archive.read(name_size)
    archive.align()
    if name == TRAILER.encode() + b"\0" and not size:
        return None
    number = names.get(name[:-1].removeprefix(b".").lstrip(b"/"))
    if number is None or name[-1:] != b"\0":
        raise BadInput(f"the payload holds {name[:-1]!r}, which the header does not know", where=where, remedy=REMEDY)
    entry = files[number]
    if mode & 0o170000 != TYPE_BITS[entry.kind]:
        raise BadInput(f"{entry.path} differs in type between header and payload", where=where, remedy=REMEDY)
    if entry.kind is not FileKind.FILE:
        return number, size, False
    if size != entry.size and (size or not entry.hardlink):
        raise BadInput(f"{entry.path} differs in size between header and payload", where=where, remedy=REMEDY)
    last = entry.hardlink and not entry.size and entry.path != entry.hardlink
    return number, size, size == entry.size and not last


def _stripped_member(
    archive: Archive, files: tuple[FileEntry, ...], groups: dict[str, list[int]], where: str
) -> tuple[int, int, bool]:
    number = _hex(archive.read(8), where)
    archive.align()
    if number >= len(files):
        raise BadInput("the payload names a file the header does not know", where=where, remedy=REMEDY)
    entry = files[number]
    if entry.kind is FileKind.SYMLINK:
        return number, len(entry.target.encode("utf-8", "surrogateescape")), False
    # Without sizes of its own, a link group's content is where rpm writes it: with the last name.
    is_last = entry.kind is FileKind.FILE and (not entry.hardlink or groups[entry.hardlink][-1] == number)
    return number, entry.size if is_last else 0, is_last


def _hex(digits: bytes, where: str) -> int:
    try:
        if digits.isalnum():
            return int(digits, 16)
    except ValueError:
        pass
    raise BadInput("a header in the payload is damaged", where=where, remedy=REMEDY)
