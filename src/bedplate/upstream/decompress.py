"""Decompression with a bound: an index never grows beyond what its signed parent promised."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable

import zstandard

from bedplate.model.errors import TrustError

LZMA_MEMORY = 256 << 20
ZSTD_WINDOW = 128 << 20
_STEP = 1 << 22


def decompress(data: bytes, name: str, limit: int, where: str) -> bytes:
    """``data`` decompressed by the ending of ``name`` (.xz, .gz, .zst, else as it is).

    Args:
        limit: The most bytes that may come out.
        where: What to call it in errors.

    Raises:
        TrustError: more comes out, or the data is damaged. No more than ``limit`` bytes are ever held.
    """
    suffix = name.rpartition(".")[2]
    try:
        if suffix == "xz":
            result = _bounded(_xz(data), limit)
        elif suffix == "gz":
            result = _bounded(_gz(data), limit)
        elif suffix == "zst":
            reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).stream_reader(
                io.BytesIO(data), read_across_frames=True
            )
            result = _bounded(reader.read, limit)
        else:
            result = data if len(data) <= limit else None
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, EOFError) as error:
        raise TrustError(f"damaged compressed data ({error})", where=where, remedy="try another mirror") from error
    if result is None:
        raise TrustError(
            f"decompresses to more than the {limit} bytes that were promised",
            where=where,
            remedy="this is no honest index; try another mirror",
        )
    return result


def _bounded(read: Callable[[int], bytes], limit: int) -> bytes | None:
    parts, total = [], 0
    while part := read(min(_STEP, limit + 1 - total)):
        parts.append(part)
        total += len(part)
        if total > limit:
            return None
    return b"".join(parts)


def _xz(data: bytes) -> Callable[[int], bytes]:
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=LZMA_MEMORY)
    rest = data

    def read(size: int) -> bytes:
        nonlocal decoder, rest
        while True:
            if decoder.eof:
                rest = decoder.unused_data
                if not rest:
                    return b""
                decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=LZMA_MEMORY)
            part, fed = decoder.decompress(rest, size), bool(rest)
            rest = b""
            if part:
                return part
            if not decoder.eof and not fed:
                raise EOFError("the data ends in the middle")

    return read


def _gz(data: bytes) -> Callable[[int], bytes]:
    return gzip.GzipFile(fileobj=io.BytesIO(data)).read
