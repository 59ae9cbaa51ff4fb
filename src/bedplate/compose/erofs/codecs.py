"""Decompression of EROFS physical clusters: zstd, LZ4, deflate and MicroLZMA, each bounded by the expected length."""

from __future__ import annotations

import lzma
import zlib

import zstandard

from bedplate.compose.erofs.format import Algorithm


def decompress(algorithm: int, data: bytes, length: int) -> bytes:
    """The first ``length`` bytes a physical cluster holds.

    Args:
        algorithm: An :class:`Algorithm` number.
        data: The cluster's blocks; zero bytes before the compressed data are skipped.
        length: How many bytes of plain data are wanted; no more than that is produced.

    Raises:
        ValueError: damaged data, too little of it, or an unknown algorithm.
    """
    data = data.lstrip(b"\0")
    try:
        if algorithm == Algorithm.ZSTD:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as stream:
                plain = stream.read(length)
        elif algorithm == Algorithm.LZ4:
            plain = _lz4(data, length)
        elif algorithm == Algorithm.DEFLATE:
            plain = zlib.decompressobj(-15).decompress(data, length)
        elif algorithm == Algorithm.LZMA:
            plain = _micro_lzma(data, length)
        else:
            raise ValueError(f"unknown compression algorithm {algorithm}")
    except (zstandard.ZstdError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"damaged compressed data: {error}") from error
    if len(plain) != length:
        raise ValueError("compressed data ends too early")
    return plain


def _micro_lzma(data: bytes, length: int) -> bytes:
    # MicroLZMA replaces the zero byte an LZMA stream starts with by the inverted properties byte.
    if not data or (properties := ~data[0] & 0xFF) >= 225:
        raise ValueError("damaged MicroLZMA header")
    filters = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": 8 << 20,
        "lc": properties % 9,
        "lp": properties // 9 % 5,
        "pb": properties // 45,
    }
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[filters]).decompress(b"\0" + data[1:], length)
    except (ValueError, OverflowError) as error:
        raise ValueError("damaged MicroLZMA header") from error


def _lz4(data: bytes, length: int) -> bytes:
    """LZ4 block format: sequences of literals and a copy of what came before."""
    out = bytearray()
    at = 0
    try:
        while len(out) < length:
            token = data[at]
            at += 1
            count, at = _lz4_length(data, at, token >> 4)
            if at + count > len(data):
                raise ValueError("LZ4 literals out of bounds")
            out += data[at : at + count]
            at += count
            if len(out) >= length:
                break
            distance = data[at] | data[at + 1] << 8
            count, at = _lz4_length(data, at + 2, token & 15)
            count += 4
            if not 0 < distance <= len(out):
                raise ValueError("LZ4 copy out of bounds")
            count = min(count, length - len(out))
            source = bytes(out[-distance:][:count])  # a copy longer than its distance repeats itself
            out += (source * (count // len(source) + 1))[:count]
    except IndexError:
        raise ValueError("LZ4 data ends too early") from None
    return bytes(out[:length])


def _lz4_length(data: bytes, at: int, length: int) -> tuple[int, int]:
    if length == 15:
        while True:
            byte = data[at]
            at += 1
            length += byte
            if byte != 255:
                break
    return length, at
