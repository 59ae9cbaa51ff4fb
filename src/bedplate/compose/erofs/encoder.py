"""One file's content as EROFS stores it: zstd runs in whole blocks with their index, or flat.

A file is cut into runs of :attr:`CompressionOptions.extent` bytes. Each is compressed by itself, so that a reader needs
no more than one run for any byte; one that does not fit a physical cluster is halved, one that saves no block is kept
plain. Everything depends on the content, the options and the version of libzstd alone.

Source: the kernel's Documentation/filesystems/erofs.rst and ``erofs_fs.h`` as of Linux 6.12: compact indexes, big
physical clusters, compressed data at the end of its last block (zero padding). ``fsck.erofs`` judges it in tests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import zstandard

from bedplate.compose.erofs.clusters import PHYSICAL_MAX, Advise, Head, Kind, MapHeader, encode_compact
from bedplate.compose.erofs.format import BLOCK, Algorithm, Incompat
from bedplate.model.errors import BadInput

ENCODING = 1  # counts changes of this module that change its bytes
INDEX_ALIGNMENT = 8  # where an index lies within 32 bytes: behind an inode without attributes, and a map header
INCOMPAT = Incompat.ZERO_PADDING | Incompat.BIG_PCLUSTER
ALGORITHMS = 1 << Algorithm.ZSTD
EXTENT_MAX = 1 << 20
_MAP_HEADER = MapHeader(
    0, Advise.COMPACTED_2B | Advise.BIG_PCLUSTER_1 | Advise.BIG_PCLUSTER_2, Algorithm.ZSTD, 0
).pack()
_NO_HEADER = bytes(len(_MAP_HEADER))
_WINDOW_LOG_MIN = 10


@dataclass(frozen=True, slots=True)
class CompressionOptions:
    """How files are compressed: the zstd ``level``; ``cluster``, the largest compressed run, and ``extent``, the
    largest plain run in one of them, both in bytes and whole blocks.

    An extent that nearly always fits its cluster saves a search for the longest one that does, which takes most of the
    time ``mkfs.erofs`` needs.
    """

    level: int = 3
    cluster: int = 128 << 10
    extent: int = 192 << 10

    def __post_init__(self) -> None:
        if not 1 <= self.level <= zstandard.MAX_COMPRESSION_LEVEL:
            raise BadInput(f"zstd has no level {self.level}", remedy="write one from 1 to 22; 3 is usual")
        for size, most in ((self.cluster, PHYSICAL_MAX), (self.extent, EXTENT_MAX)):
            if size % BLOCK or not BLOCK <= size <= most:
                raise BadInput(f"a cluster is a multiple of {BLOCK} bytes up to {most}, not {size}")

    def identity(self) -> list[object]:
        """All that decides what :class:`Encoder` makes of a content."""
        return [ENCODING, self.level, self.cluster, self.extent, list(zstandard.ZSTD_VERSION)]

    @property
    def configuration(self) -> bytes:
        """What stands behind the superblock: size, format and window of zstd. A node sets aside memory by the window
        (2 to the power of 10 plus the third number), so it is no larger than the longest run."""
        window = max(0, (self.extent - 1).bit_length() - _WINDOW_LOG_MIN)
        return struct.pack("<HBB4x", 6, 0, window)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file as it is stored: ``blocks`` of data, then for flat data the bytes of ``tail``. Compressed data has a map
    ``header`` and an ``index``, for :data:`INDEX_ALIGNMENT` and with addresses that count from its first block."""

    blocks: bytes
    compressed: bool
    tail: bytes
    header: bytes
    index: bytes


class Encoder:
    """Encodes contents with one set of options; serves one thread at a time."""

    def __init__(self, options: CompressionOptions) -> None:
        self._options = options
        self._compressor = zstandard.ZstdCompressor(level=options.level, write_checksum=False, write_content_size=True)

    def encode(self, data: bytes) -> Encoded:
        """``data`` in the form that takes less room."""
        if len(data) < BLOCK:
            return _flat(data)
        pieces: list[bytes] = []
        heads: list[Head] = []
        start = done = 0
        for length, packed in self._runs(memoryview(data)):
            blocks = -(-len(packed) // BLOCK)
            if packed and blocks < -(-length // BLOCK):
                pieces += [bytes(blocks * BLOCK - len(packed)), packed]
                heads.append(Head(start // BLOCK, Kind.HEAD1, 0, done, blocks))
                done += blocks
            else:
                for at in range(start, start + length, BLOCK):
                    pieces.append(data[at : min(at + BLOCK, start + length)].ljust(BLOCK, b"\0"))
                    heads.append(Head(at // BLOCK, Kind.PLAIN, 0, done, 1))
                    done += 1
            start += length
        clusters = -(-len(data) // BLOCK)
        if len(data) % BLOCK and heads[-1].cluster < clusters - 1:
            # The last run ends in the middle of a cluster that it does not start in: what follows it starts there.
            heads.append(Head(clusters - 1, Kind.PLAIN, len(data) % BLOCK, done, 1))
        index = encode_compact(heads, clusters, INDEX_ALIGNMENT, two_byte=True)
        if done * BLOCK + len(index) >= len(data):
            return _flat(data)
        return Encoded(b"".join(pieces), True, b"", _MAP_HEADER, index)

    def _runs(self, data: memoryview) -> Iterator[tuple[int, bytes]]:
        """Length of each run of ``data``, in order, and its compressed form, empty where there is none that fits."""
        extent, cluster = self._options.extent, self._options.cluster
        for at in range(0, len(data), extent):
            waiting = [data[at : at + extent]]
            while waiting:
                run = waiting.pop()
                packed = self._compressor.compress(run)
                if len(packed) <= cluster:
                    yield len(run), packed
                elif len(run) <= cluster:
                    yield len(run), b""
                else:
                    half = -(-len(run) // (2 * BLOCK)) * BLOCK
                    waiting += [run[half:], run[:half]]


def _flat(data: bytes) -> Encoded:
    whole = len(data) // BLOCK * BLOCK
    return Encoded(data[:whole], False, data[whole:], _NO_HEADER, b"")
