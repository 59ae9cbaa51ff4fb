"""GUID partition tables: written and read as values.

Source: UEFI specification 2.10, chapter 5; partition types and attribute bits of the Discoverable Partitions
Specification. Sectors have 512 bytes: firmware cannot read an ESP made for another size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bedplate.model.errors import BadInput

SECTOR = 512
ENTRIES = 128
ENTRY_SIZE = 128
ALIGNMENT = 1 << 20
NAME_MAX = 36
_TABLE_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
_HEADER = struct.Struct("<8sIIII4Q16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_SIGNATURE = b"EFI PART"

TYPE_ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
TYPE_ROOT_X86_64 = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
TYPE_ROOT_X86_64_VERITY = UUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
FLAG_READ_ONLY = 1 << 60
FLAG_GROW = 1 << 59  # systemd grows the file system to the partition's size when it is mounted


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: ``start`` and ``size`` in bytes, ``label`` its name in the table, ``flags`` its attribute bits."""

    type: UUID
    uuid: UUID
    label: str
    start: int
    size: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """A partition table: the disk's id, its size in bytes, and the partitions in table order."""

    uuid: UUID
    size: int
    partitions: tuple[Partition, ...]

    def find(self, label: str) -> Partition:
        """The partition of this label.

        Raises:
            BadInput: there is none.
        """
        for partition in self.partitions:
            if partition.label == label:
                return partition
        raise BadInput(f"the disk has no partition labelled {label}")


def write_tables(layout: DiskLayout) -> tuple[bytes, bytes]:
    """The first 34 sectors of a disk (protective MBR, header, table) and the last 33 (table, backup header).

    Raises:
        BadInput: partitions that overlap, are not aligned or do not fit, or a label too long.
    """
    _check(layout)
    entries = b"".join(_pack_entry(partition) for partition in layout.partitions)
    table = entries.ljust(ENTRIES * ENTRY_SIZE, b"\0")
    last = layout.size // SECTOR - 1
    crc = zlib.crc32(table)
    primary = _pack_header(layout, 1, last, 2, crc)
    backup = _pack_header(layout, last, 1, last - _TABLE_SECTORS, crc)
    return _protective_mbr(last) + primary + table, table + backup


def _check(layout: DiskLayout) -> None:
    last_end = ALIGNMENT
    for partition in sorted(layout.partitions, key=lambda partition: partition.start):
        if partition.start < last_end or partition.start % SECTOR or partition.size % SECTOR or not partition.size:
            raise BadInput("partition overlaps another one or is not aligned", where=partition.label)
        if len(partition.label.encode("utf-16-le")) > 2 * NAME_MAX:
            raise BadInput(f"a partition label has at most {NAME_MAX} characters", where=partition.label)
        last_end = partition.start + partition.size
    if (
        len(layout.partitions) > ENTRIES
        or layout.size % SECTOR
        or last_end > layout.size - (_TABLE_SECTORS + 1) * SECTOR
    ):
        raise BadInput("the partitions do not fit on the disk")


def _pack_entry(partition: Partition) -> bytes:
    first = partition.start // SECTOR
    last = (partition.start + partition.size) // SECTOR - 1
    name = partition.label.encode("utf-16-le")
    return _ENTRY.pack(partition.type.bytes_le, partition.uuid.bytes_le, first, last, partition.flags, name)


def _pack_header(layout: DiskLayout, here: int, other: int, table: int, crc: int) -> bytes:
    first = 2 + _TABLE_SECTORS
    last = layout.size // SECTOR - 2 - _TABLE_SECTORS
    rest = (0, here, other, first, last, layout.uuid.bytes_le, table, ENTRIES, ENTRY_SIZE, crc)
    own = zlib.crc32(_HEADER.pack(_SIGNATURE, 0x10000, _HEADER.size, 0, *rest))
    return _HEADER.pack(_SIGNATURE, 0x10000, _HEADER.size, own, *rest).ljust(SECTOR, b"\0")


def _protective_mbr(last: int) -> bytes:
    entry = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def read_gpt(path: Path) -> DiskLayout:
    """The partition table of a disk image, both checksums of it checked.

    Raises:
        BadInput: no table, a damaged one, or partitions outside the disk.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(SECTOR)
        header = stream.read(SECTOR)
        if len(header) < SECTOR or header[:8] != _SIGNATURE:
            raise BadInput("no GUID partition table", where=str(path))
        fields = _HEADER.unpack_from(header)
        header_size, crc = fields[2], fields[3]
        table_at, count, entry_size, table_crc = fields[10], fields[11], fields[12], fields[13]
        if (
            not _HEADER.size <= header_size <= SECTOR
            or zlib.crc32(header[:16] + bytes(4) + header[20:header_size]) != crc
        ):
            raise BadInput("the partition table's header is damaged", where=str(path))
        if entry_size < ENTRY_SIZE or entry_size > 4096 or count > 1024 or table_at > size // SECTOR:
            raise BadInput("a partition table of an impossible shape", where=str(path))
        stream.seek(table_at * SECTOR)
        table = stream.read(count * entry_size)
    if len(table) != count * entry_size or zlib.crc32(table) != table_crc:
        raise BadInput("the partition table is damaged", where=str(path))
    found: list[Partition] = []
    for at in range(0, len(table), entry_size):
        kind, uuid, first, last, flags, name = _ENTRY.unpack_from(table, at)
        if kind == bytes(16):
            continue
        if not first <= last < size // SECTOR:
            raise BadInput("a partition lies outside the disk", where=str(path))
        label = name.decode("utf-16-le", "replace").split("\0", 1)[0]
        start = first * SECTOR
        found.append(
            Partition(UUID(bytes_le=kind), UUID(bytes_le=uuid), label, start, (last + 1) * SECTOR - start, flags)
        )
    return DiskLayout(UUID(bytes_le=fields[9]), size, tuple(found))


def align(size: int) -> int:
    """``size`` rounded up to the alignment of partitions, in bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def place(wanted: Sequence[tuple[UUID, UUID, str, int, int]], disk: UUID, free: int = 0) -> DiskLayout:
    """Lay partitions (type, UUID, label, size in bytes, flags) behind one another, with ``free`` bytes after them."""
    at = ALIGNMENT
    partitions: list[Partition] = []
    for kind, uuid, label, size, flags in wanted:
        partitions.append(Partition(kind, uuid, label, at, align(size), flags))
        at += align(size)
    return DiskLayout(disk, at + align(free) + ALIGNMENT, tuple(partitions))
