"""EROFS compression indexes: which physical cluster holds which part of a file.

A compressed file is cut into logical clusters of one block. The index says for each whether a compressed run (a
physical cluster) starts in it and where. The compact form packs entries of 4 bytes in pairs and entries of 2 bytes in
sixteens, each pack ending with the block address of its first physical cluster; where the packs lie depends on where
the index lies. The full form has 8 bytes for every logical cluster.

Source: ``erofs_fs.h`` and the kernel's documentation of compact indexes (Linux 6.12).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import NamedTuple

from bedplate.compose.erofs.format import BLOCK, BLOCK_BITS

_COUNT_FLAG = 1 << 11  # in an entry that starts nothing: it holds the block count of the cluster before
_PARTIAL_FLAG = 1 << 15
_FULL_ENTRY = struct.Struct("<HHI")
_HEADER = struct.Struct("<HHHBB")
HEADER_SIZE = _HEADER.size
PHYSICAL_MAX = 1 << 20
LOGICAL_MAX = 12 << 20


class Kind(IntEnum):
    """Kind of a logical cluster: what starts in it."""

    PLAIN = 0
    HEAD1 = 1
    NONHEAD = 2
    HEAD2 = 3


class Advise(IntFlag):
    """Hints in the header of a compressed file's index."""

    COMPACTED_2B = 0x1
    BIG_PCLUSTER_1 = 0x2
    BIG_PCLUSTER_2 = 0x4
    INLINE_PCLUSTER = 0x8
    INTERLACED_PCLUSTER = 0x10
    FRAGMENT_PCLUSTER = 0x20


@dataclass(frozen=True, slots=True)
class MapHeader:
    """The 8 bytes before an index. ``fragment`` is an offset, or holds the size of inlined data in its upper half."""

    fragment: int
    advise: int
    algorithms: int
    cluster_bits: int

    @classmethod
    def unpack(cls, data: bytes) -> MapHeader:
        """The header at the start of ``data``."""
        low, high, advise, algorithms, bits = _HEADER.unpack_from(data)
        return cls(low | high << 16, advise, algorithms, bits)

    def pack(self) -> bytes:
        """The header's 8 bytes."""
        low, high = self.fragment & 0xFFFF, self.fragment >> 16
        return _HEADER.pack(low, high, self.advise, self.algorithms, self.cluster_bits)

    @property
    def inline_size(self) -> int:
        """Bytes of a physical cluster that lies in the metadata."""
        return self.fragment >> 16


class Head(NamedTuple):
    """The start of a run: logical cluster, kind, offset in it, and the run's first block and block count."""

    cluster: int
    kind: int
    offset: int
    block: int
    blocks: int
    partial: bool = False

    @property
    def start(self) -> int:
        """Where in the file the run starts, in bytes."""
        return (self.cluster << BLOCK_BITS) + self.offset


def packs(clusters: int, alignment: int, two_byte: bool) -> Iterator[tuple[int, int]]:
    """Entry count and byte size of each pack of a compact index.

    ``alignment`` is the offset of the index within 32 bytes: packs of sixteen start at a multiple of 32.
    """
    left = clusters
    if two_byte:
        initial = -alignment % 32 // 4
        if initial <= left:
            yield from ((2, 8),) * (initial // 2)
            left -= initial
            yield from ((16, 32),) * (left // 16)
            left %= 16
    yield from ((2, 8),) * (left // 2)
    if left % 2:
        yield (1, 8)


@lru_cache(maxsize=4096)
def _address_mask(clusters: int, alignment: int, two_byte: bool) -> tuple[int, int]:
    """Size of the index, and a number with a one at the lowest bit of every pack's block address."""
    position = mask = 0
    for _, size in packs(clusters, alignment, two_byte):
        position += size
        mask |= 1 << (position - 4) * 8
    return position, mask


def compact_size(clusters: int, alignment: int, two_byte: bool) -> int:
    """Bytes of a compact index."""
    return _address_mask(clusters, alignment, two_byte)[0]


def relocate_compact(index: bytes, clusters: int, alignment: int, two_byte: bool, by: int) -> bytes:
    """A compact index with ``by`` blocks added to every address; ``alignment`` stays as it was.

    The whole index is one long addition: no address overflows its field, so nothing is carried into the next one.
    """
    size, mask = _address_mask(clusters, alignment, two_byte)
    return (int.from_bytes(index, "little") + mask * by).to_bytes(size, "little")


def decode_compact(index: bytes, clusters: int, alignment: int, header: MapHeader) -> list[Head]:
    """Every head of a compact index, a terminator at the end of the file among them.

    Raises:
        ValueError: an index that contradicts itself.
    """
    big = bool(header.advise & Advise.BIG_PCLUSTER_1)
    heads: list[Head] = []
    cluster = at = 0
    open_head: tuple[int, int, int, int] | None = None
    for count, size in packs(clusters, alignment, bool(header.advise & Advise.COMPACTED_2B)):
        address = int.from_bytes(index[at + size - 4 : at + size], "little")
        bits = int.from_bytes(index[at : at + size - 4], "little")
        at += size
        width = 14 if size == 32 else 16
        if not big:
            address += 1
        single = False  # a head without a count came before in this pack: it has one block
        for _ in range(count):
            low, kind = bits & 0xFFF, bits >> 12 & 3
            bits >>= width
            if kind != Kind.NONHEAD:
                if open_head is not None:
                    heads.append(Head(*open_head, 1))
                address += single
                open_head = (cluster, kind, low, address)
                single = True
            elif low & _COUNT_FLAG:
                blocks = low & ~_COUNT_FLAG
                if open_head is None or open_head[0] != cluster - 1 or not big:
                    raise ValueError("block count without a cluster")
                heads.append(Head(*open_head, blocks))
                open_head = None
                address += blocks
                single = False
            cluster += 1
    if open_head is not None:
        heads.append(Head(*open_head, 1))
    return heads


def decode_full(index: bytes, clusters: int) -> list[Head]:
    """Every head of a full index, a terminator at the end of the file among them.

    Raises:
        ValueError: an index that contradicts itself.
    """
    heads: list[Head] = []
    for cluster in range(clusters):
        advise, offset, value = _FULL_ENTRY.unpack_from(index, cluster * 8)
        kind = advise & 3
        if kind != Kind.NONHEAD:
            if offset >= BLOCK:
                raise ValueError("cluster offset out of bounds")
            heads.append(Head(cluster, kind, offset, value, 1, bool(advise & _PARTIAL_FLAG)))
        elif value & _COUNT_FLAG:
            if not heads or heads[-1].cluster != cluster - 1:
                raise ValueError("block count without a cluster")
            heads[-1] = heads[-1]._replace(blocks=value & 0xFFFF & ~_COUNT_FLAG)
    return heads


def encode_compact(heads: Sequence[Head], clusters: int, alignment: int, two_byte: bool) -> bytes:
    """The compact index of a file with big physical clusters, for an index that lies at ``alignment`` within 32 bytes.

    ``heads`` as :func:`decode_compact` gives them: in order, the first in cluster 0, blocks without gaps.
    """
    entries, addresses = _entries(heads, clusters)
    out = bytearray()
    cluster = 0
    running = heads[0].block
    for count, size in packs(clusters, alignment, two_byte):
        width = 14 if size == 32 else 16
        bits = 0
        base = None
        for position in range(count):
            value, distance = entries[cluster]
            if distance and position + 1 == (16 if size == 32 else 2):
                # the last entry of a pack looks ahead: a reader finds the way back from the entry before
                value = Kind.NONHEAD << 12 | min(distance, _COUNT_FLAG - 1)
            bits |= value << width * position
            if cluster in addresses:
                start, running = addresses[cluster]
                if base is None:
                    base = start
            cluster += 1
        out += bits.to_bytes(size - 4, "little")
        out += (running if base is None else base).to_bytes(4, "little")
    return bytes(out)


def _entries(heads: Sequence[Head], clusters: int) -> tuple[list[tuple[int, int]], dict[int, tuple[int, int]]]:
    """Per logical cluster its entry and, where a pack's last entry would differ, the distance to the next head.

    The second value maps clusters that move the running address to the run's first block and the address after it.
    """
    entries: list[tuple[int, int]] = []
    addresses: dict[int, tuple[int, int]] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        end = clusters if following is None else following.cluster
        # A run that ends with the file on a block border has its next head just behind the last cluster.
        entries.append((head.kind << 12 | head.offset, 0))
        length = end - head.cluster
        if length > 1:
            addresses[head.cluster] = (head.block, head.block)
            addresses[head.cluster + 1] = (head.block, head.block + head.blocks)
            entries.append((Kind.NONHEAD << 12 | _COUNT_FLAG | head.blocks, 0))
            entries.extend(
                (Kind.NONHEAD << 12 | min(distance, _COUNT_FLAG - 1), length - distance)
                for distance in range(2, length)
            )
        else:
            addresses[head.cluster] = (head.block, head.block)
    return entries, addresses
