"""The outer layers of a .deb: the ar container and the compressed members, read as bounded streams.

Sources: deb(5), ar(5).
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol, cast

import zstandard

from bedplate.model.errors import BadInput

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_INPUT_CHUNK = 256 * 1024
_OUTPUT_CHUNK = 1024 * 1024
_REMEDY = "fetch the package again; if it stays so, the upstream file itself is bad and must not be used"


def bad_package(where: str, reason: str) -> BadInput:
    """The error for a package that cannot be trusted to be read; ``where`` names the package."""
    return BadInput(f"not a usable Debian package: {reason}", where=where, remedy=_REMEDY)


@dataclass(frozen=True, slots=True)
class Member:
    """One ar member: its name and where its bytes lie in the file."""

    name: str
    offset: int
    size: int


def read_members(stream: IO[bytes], total: int, where: str) -> tuple[Member, Member]:
    """Find ``control.tar*`` and ``data.tar*`` in the ar file ``stream`` of ``total`` bytes.

    The order is the one deb(5) demands: ``debian-binary``, control, data; members that start with ``_`` are ignored.

    Raises:
        BadInput: not an ar file, truncated, another format version, or a member missing or out of place.
    """
    stream.seek(0)
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise bad_package(where, "no ar archive")
    members = [member for member in _iterate_members(stream, total, where) if not member.name.startswith("_")]
    if not members or members[0].name != "debian-binary":
        raise bad_package(where, "debian-binary is not the first member")
    stream.seek(members[0].offset)
    if not stream.read(min(members[0].size, 16)).startswith(b"2."):
        raise bad_package(where, "unknown format version")
    if len(members) < 3 or not members[1].name.startswith("control.tar") or not members[2].name.startswith("data.tar"):
        raise bad_package(where, "control.tar and data.tar do not follow debian-binary")
    return members[1], members[2]


def _iterate_members(stream: IO[bytes], total: int, where: str) -> Iterator[Member]:
    offset = len(_MAGIC)
    while offset < total:
        stream.seek(offset)
        header = stream.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            raise bad_package(where, "truncated within an ar header")
        size_text = header[48:58].strip()
        if header[58:60] != b"`\n" or not size_text.isdigit():
            raise bad_package(where, f"damaged ar header at byte {offset}")
        size = int(size_text)
        name = header[:16].decode("ascii", "replace").rstrip().removesuffix("/")
        offset += _HEADER_BYTES
        if offset + size > total:
            raise bad_package(where, f"truncated within member {name}")
        yield Member(name, offset, size)
        offset += size + (size & 1)


class _Decoder(Protocol):
    @property
    def finished(self) -> bool: ...

    @property
    def hungry(self) -> bool: ...

    def feed(self, data: bytes) -> bytes: ...


class _Stored:
    finished = True
    hungry = True

    def feed(self, data: bytes) -> bytes:
        return data


class _Xz:
    def __init__(self, memory: int, format_: int) -> None:
        self._inner = lzma.LZMADecompressor(format_, memlimit=memory)

    @property
    def finished(self) -> bool:
        return self._inner.eof

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input

    def feed(self, data: bytes) -> bytes:
        return self._inner.decompress(data, _OUTPUT_CHUNK)


class _Bzip2:
    def __init__(self) -> None:
        self._inner = bz2.BZ2Decompressor()

    @property
    def finished(self) -> bool:
        return self._inner.eof

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input

    def feed(self, data: bytes) -> bytes:
        return self._inner.decompress(data, _OUTPUT_CHUNK)


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def finished(self) -> bool:
        return self._inner.eof

    @property
    def hungry(self) -> bool:
        return not self._inner.unconsumed_tail

    def feed(self, data: bytes) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, _OUTPUT_CHUNK)


_SIMPLE: dict[str, Callable[[], _Decoder]] = {"": _Stored, ".gz": _Gzip, ".bz2": _Bzip2}


def _decoder(suffix: str, memory: int) -> _Decoder | None:
    if suffix == ".xz":
        return _Xz(memory, lzma.FORMAT_XZ)
    if suffix == ".lzma":
        return _Xz(memory, lzma.FORMAT_ALONE)
    made = _SIMPLE.get(suffix)
    return made() if made else None


class MemberStream:
    """A member, decompressed, read front to back; no more than ``limit`` bytes ever come out of it.

    Every failure is a :class:`BadInput` that names the package (``where``) and the member.
    """

    def __init__(self, stream: IO[bytes], member: Member, *, limit: int, memory: int, where: str) -> None:
        self._stream = stream
        self._member = member
        self._left = member.size
        self._limit = limit
        self._where = where
        self._buffer = memoryview(b"")
        self._total = 0
        stream.seek(member.offset)
        self._chunks = self._decode(member.name.partition(".tar")[2], memory)

    def _decode(self, suffix: str, memory: int) -> Iterator[bytes]:
        if suffix == ".zst":
            return self._decode_zstd(memory)
        decoder = _decoder(suffix, memory)
        if decoder is None:
            raise bad_package(self._where, f"member {self._member.name} has an unknown compression")
        return self._decode_with(decoder)

    def _input(self) -> bytes:
        data = self._stream.read(min(self._left, _INPUT_CHUNK))
        self._left -= len(data)
        return data

    def _decode_with(self, decoder: _Decoder) -> Iterator[bytes]:
        stored = isinstance(decoder, _Stored)
        try:
            while stored or not decoder.finished:
                data = self._input() if decoder.hungry else b""
                if not data and decoder.hungry:
                    if stored:
                        return
                    raise self._bad("is truncated")
                yield decoder.feed(data)
        except (lzma.LZMAError, OSError, zlib.error, EOFError) as error:
            raise self._bad(f"is corrupt ({error})") from error

    def _decode_zstd(self, memory: int) -> Iterator[bytes]:
        reader = zstandard.ZstdDecompressor(max_window_size=memory).stream_reader(
            cast("IO[bytes]", _Window(self)), read_size=_INPUT_CHUNK, read_across_frames=True, closefd=False
        )
        try:
            while chunk := reader.read(_OUTPUT_CHUNK):
                yield chunk
        except zstandard.ZstdError as error:
            raise self._bad(f"is corrupt ({error})") from error

    def _bad(self, reason: str) -> BadInput:
        return bad_package(self._where, f"member {self._member.name} {reason}")

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if not chunk:
                continue
            self._total += len(chunk)
            if self._total > self._limit:
                raise self._bad(
                    f"unpacks to more than {self._limit} bytes, which its Installed-Size does not explain "
                    "(a decompression bomb?)"
                )
            self._buffer = memoryview(chunk)
            return True
        return False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the member."""
        if len(self._buffer) >= size:
            taken = self._buffer[:size]
            self._buffer = self._buffer[size:]
            return bytes(taken)
        parts: list[memoryview] = []
        wanted = size
        while wanted:
            if not self._buffer and not self._fill():
                break
            part = self._buffer[:wanted]
            self._buffer = self._buffer[len(part) :]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


class _Window:
    """The compressed bytes of a member as the file object zstandard wants."""

    def __init__(self, owner: MemberStream) -> None:
        self._owner = owner

    def read(self, _size: int = -1) -> bytes:
        return self._owner._input()
