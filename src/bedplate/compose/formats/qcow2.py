"""QCOW2 of version 3, every cluster compressed with zstd: the same bytes for the same disk on every machine.

zstd rather than zlib, because its library comes with Bedplate: zlib is the host's, and hosts differ. QEMU reads it from
5.1 (2020) on. Data comes first and tables last, so that the file is written in one pass; holes and zeros take no room.

Source: QEMU's docs/interop/qcow2.rst.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import zstandard

from bedplate.compose.formats.base import FormatJob, Origin
from bedplate.model.errors import BadInput

MAGIC = b"QFI\xfb"
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
LEVEL = 3
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_HEADER_BYTES = 112
_INCOMPAT_COMPRESSION = 1 << 3
_ZSTD = 1
_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_SECTORS_AT = 62 - (CLUSTER_BITS - 8)
_OFFSET = (1 << _SECTORS_AT) - 1
_PLAIN_OFFSET = 0x00FFFFFFFFFFFE00
_TABLE = CLUSTER // 8
_BLOCK_COUNTS = CLUSTER // 2
_REFCOUNT_ORDER = 4
_BATCH = 64
_MAX_DISK = 1 << 42


class Qcow2:
    """See :class:`bedplate.compose.formats.base.Format`."""

    name = "qcow2"
    title = "QEMU, KVM, OpenStack (compressed; QEMU 5.1 or newer)"
    file = "disk.qcow2"
    origin = Origin.DISK
    owned_set = ""
    revision = 1

    def write(self, job: FormatJob, target: Path) -> None:
        """See the protocol."""
        write_qcow2(job.disk, target, job.jobs)


def write_qcow2(disk: Path, target: Path, jobs: int = 1) -> None:
    """Write the raw image ``disk`` as QCOW2; ``jobs`` threads compress.

    Raises:
        BadInput: the disk is not made of whole sectors.
    """
    size = disk.stat().st_size
    if size % 512 or not 0 < size <= _MAX_DISK:
        raise BadInput("a disk has whole sectors, at least one", where=str(disk))
    with disk.open("rb") as source, target.open("xb") as out:
        writer = _Writer(out, size)
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            batch: list[tuple[int, bytes]] = []
            for piece in _clusters(source.fileno(), size):
                batch.append(piece)
                if len(batch) == _BATCH:
                    writer.add_all(pool.map(_compressed, batch))
                    batch.clear()
            writer.add_all(pool.map(_compressed, batch))
        writer.finish()


def _compressed(piece: tuple[int, bytes]) -> tuple[int, bytes, bytes]:
    number, data = piece
    return number, data, zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(data)


def _clusters(descriptor: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each cluster that is not all zeros; holes are not read."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            hole = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to the end
            raise
        at = start // CLUSTER * CLUSTER
        while at < hole:
            data = os.pread(descriptor, min(CLUSTER, size - at), at)
            if data.count(0) != len(data):
                yield at // CLUSTER, data.ljust(CLUSTER, b"\0")
            at += CLUSTER


class _Writer:
    """Lays clusters behind one another, then the tables that find them."""

    def __init__(self, out: BinaryIO, size: int) -> None:
        self._out, self._size = out, size
        self._at = CLUSTER
        out.write(bytes(CLUSTER))
        self._counts: Counter[int] = Counter({0: 1})
        self._entries: dict[int, dict[int, int]] = {}

    def add_all(self, pieces: Iterable[tuple[int, bytes, bytes]]) -> None:
        for number, data, packed in pieces:
            table = self._entries.setdefault(number // _TABLE, {})
            table[number % _TABLE] = self._packed(packed) if len(packed) < CLUSTER else self._plain(data)

    def _packed(self, data: bytes) -> int:
        first, last = self._at, self._at + len(data) - 1
        self._out.write(data)
        self._at += len(data)
        for cluster in range(first // CLUSTER, last // CLUSTER + 1):
            self._counts[cluster] += 1
        return _COMPRESSED | (last // 512 - first // 512) << _SECTORS_AT | first

    def _plain(self, data: bytes) -> int:
        return _COPIED | self._whole(data)

    def _whole(self, data: bytes) -> int:
        """Write ``data`` at a cluster's start, filled up to whole clusters; gives its offset."""
        gap = -self._at % CLUSTER
        self._out.write(bytes(gap))
        at = self._at + gap
        filled = data + bytes(-len(data) % CLUSTER)
        self._out.write(filled)
        self._at = at + len(filled)
        for cluster in range(at // CLUSTER, self._at // CLUSTER):
            self._counts[cluster] += 1
        return at

    def finish(self) -> None:
        clusters = -(-self._size // CLUSTER)
        tables = -(-clusters // _TABLE)
        top = [0] * tables
        for number, entries in sorted(self._entries.items()):
            words = [entries.get(index, 0) for index in range(_TABLE)]
            top[number] = _COPIED | self._whole(struct.pack(f">{_TABLE}Q", *words))
        top_at = self._whole(struct.pack(f">{tables}Q", *top))
        counts_at, count_clusters = self._refcounts()
        header = _HEADER.pack(
            MAGIC, 3, 0, 0, CLUSTER_BITS, self._size, 0, tables, top_at, counts_at, count_clusters, 0, 0,
            _INCOMPAT_COMPRESSION, 0, 0, _REFCOUNT_ORDER, _HEADER_BYTES,
        )  # fmt: skip
        # Behind the fixed fields the kind of compression, then the empty end of the header's extensions.
        self._out.seek(0)
        self._out.write(header + bytes([_ZSTD]) + bytes(7 + 8))
        self._out.flush()

    def _refcounts(self) -> tuple[int, int]:
        """Write the counts of all clusters, those of the counts themselves too; gives the table's offset and size."""
        start = -(-self._at // CLUSTER)
        blocks, table = 1, 1
        for _ in range(64):
            needed = -(-(start + blocks + table) // _BLOCK_COUNTS)
            if (needed, -(-needed // _TABLE)) == (blocks, table):
                break
            blocks, table = needed, -(-needed // _TABLE)
        for cluster in range(start, start + blocks + table):
            self._counts[cluster] = 1
        offsets = []
        self._out.write(bytes(start * CLUSTER - self._at))
        for block in range(blocks):
            words = [self._counts[block * _BLOCK_COUNTS + index] for index in range(_BLOCK_COUNTS)]
            offsets.append((start + block) * CLUSTER)
            self._out.write(struct.pack(f">{_BLOCK_COUNTS}H", *words))
        self._out.write(struct.pack(f">{blocks}Q", *offsets).ljust(table * CLUSTER, b"\0"))
        return (start + blocks) * CLUSTER, table


def read_qcow2(path: Path, target: Path) -> None:
    """Unpack a QCOW2 image as :func:`write_qcow2` makes it to a raw one with holes.

    Raises:
        BadInput: not QCOW2, damaged, or with features others write (backing files, snapshots, encryption, zlib).
    """

    def bad(message: str) -> BadInput:
        return BadInput(message, where=str(path), remedy="convert it first: qemu-img convert -O raw")

    with path.open("rb") as stream, target.open("xb") as out:
        end = os.fstat(stream.fileno()).st_size
        head = stream.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES or head[:4] != MAGIC:
            raise bad("not a QCOW2 image")
        fields = _HEADER.unpack_from(head)
        version, backing, bits, size, crypt, tables, top_at = (fields[n] for n in (1, 2, 4, 5, 6, 7, 8))
        if (version, backing, bits, crypt, fields[11], fields[13], head[104]) != (3, 0, CLUSTER_BITS, 0, 0, 8, _ZSTD):
            raise bad("a QCOW2 image with features this reader does not know")
        clusters = -(-size // CLUSTER)
        if size > _MAX_DISK or tables != -(-clusters // _TABLE) or top_at + 8 * tables > end:
            raise bad("a QCOW2 image of impossible values")
        os.truncate(out.fileno(), size)
        decompressor = zstandard.ZstdDecompressor()
        for number, word in enumerate(struct.unpack(f">{tables}Q", os.pread(stream.fileno(), 8 * tables, top_at))):
            if not word:
                continue
            table = os.pread(stream.fileno(), CLUSTER, word & _PLAIN_OFFSET)
            if len(table) != CLUSTER:
                raise bad("the QCOW2 image is cut short")
            for index, entry in enumerate(struct.unpack(f">{_TABLE}Q", table)):
                at = (number * _TABLE + index) * CLUSTER
                if not entry:
                    continue
                if at >= size:
                    raise bad("a cluster behind the disk's end")
                if entry & _COMPRESSED:
                    offset = entry & _OFFSET
                    length = ((entry & ~_COMPRESSED) >> _SECTORS_AT) * 512 + 512 - offset % 512
                    try:
                        data = decompressor.decompress(
                            os.pread(stream.fileno(), length, offset), CLUSTER, allow_extra_data=True
                        )
                    except zstandard.ZstdError as error:
                        raise bad(f"a damaged cluster ({error})") from error
                else:
                    data = os.pread(stream.fileno(), CLUSTER, entry & _PLAIN_OFFSET)
                if len(data) != CLUSTER:
                    raise bad("a cluster of another size")
                os.pwrite(out.fileno(), data[: size - at], at)
