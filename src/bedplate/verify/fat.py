"""A reader of FAT16 and FAT32 volumes: what lies on an EFI system partition, without mounting it and without a tool.

A volume is taken as hostile: every cluster is checked against the volume's bounds, no cluster is read twice, and
a contradiction raises :class:`BadInput`.

Source: Microsoft's FAT specification (FAT32 File System Specification 1.03, with long directory entries).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bedplate.model.errors import BadInput

Read = Callable[[int, int], bytes]

MAX_FILES = 4096
MAX_DEPTH = 16
MAX_TABLE = 16 << 20
_ENTRY = 32
_DIRECTORY_MAX = 2 << 20  # the specification's bound on a directory's bytes
_LONG_NAME, _VOLUME, _DIRECTORY = 0x0F, 0x08, 0x10
_FREE, _END = 0xE5, 0x00
_LONG_LAST = 0x40
_LOWER_BASE, _LOWER_SUFFIX = 0x08, 0x10


@dataclass(frozen=True, slots=True)
class FatFile:
    """One file or directory of a volume.

    ``path`` has no leading slash. ``size`` is in bytes, 0 for a directory. ``attributes`` are the entry's bits,
    ``modified`` its raw DOS date and time (date << 16 | time). ``extents`` are (offset, length) in bytes from the start
    of the volume, whole clusters.
    """

    path: str
    directory: bool
    size: int
    attributes: int
    modified: int
    extents: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    cluster: int
    table_at: int
    table_bytes: int
    root_at: int
    root_bytes: int
    root_cluster: int
    data_at: int
    clusters: int
    wide: bool


class FatVolume:
    """An open volume.

    Args:
        read: Gives the bytes of the volume at an offset; fewer than asked for at its end.
        size: Bytes of the volume.
        where: Names it in errors.

    Raises:
        BadInput: not a FAT volume, of an impossible shape, or FAT12.
    """

    def __init__(self, read: Read, size: int, where: str) -> None:
        self._read_raw = read
        self._size = size
        self._where = where
        boot = self._read(0, 512)
        try:
            self._shape = _shape(boot, size)
        except ValueError as error:
            raise self._bad(str(error)) from error
        self.volume_id = struct.unpack_from("<I", boot, 67 if self._shape.wide else 39)[0]
        width = 4 if self._shape.wide else 2
        table = self._read(self._shape.table_at, min(self._shape.table_bytes, (self._shape.clusters + 2) * width))
        self._table = memoryview(table).cast("I" if self._shape.wide else "H")

    def _bad(self, message: str, path: str = "") -> BadInput:
        where = f"{self._where}:{path}" if path else self._where
        return BadInput(message, where=where, remedy="build or fetch the image again")

    def _read(self, start: int, length: int) -> bytes:
        data = self._read_raw(start, length) if 0 <= start <= start + length <= self._size else b""
        if len(data) != length:
            raise self._bad("the FAT volume is cut short")
        return data

    def files(self) -> list[FatFile]:
        """Every file and directory, sorted by path.

        Raises:
            BadInput: a cluster chain that loops, crosses another or leaves the volume; too many or too deep entries.
        """
        seen: set[int] = set()
        found: list[FatFile] = []
        pending = [("", 0, 0)]
        while pending:
            path, cluster, depth = pending.pop()
            if depth > MAX_DEPTH:
                raise self._bad(f"directories nested more than {MAX_DEPTH} deep", path)
            for entry, first in self._directory(path, cluster, seen):
                found.append(entry)
                if len(found) > MAX_FILES:
                    raise self._bad(f"more than {MAX_FILES} files")
                if entry.directory:
                    pending.append((entry.path, first, depth + 1))
        return sorted(found, key=lambda one: one.path)

    def read(self, file: FatFile) -> bytes:
        """The content of a file."""
        left = file.size
        pieces = []
        for start, length in file.extents:
            pieces.append(self._read(start, min(left, length)))
            left -= len(pieces[-1])
        return b"".join(pieces)

    def _directory(self, path: str, cluster: int, seen: set[int]) -> Iterator[tuple[FatFile, int]]:
        shape = self._shape
        if not path and not shape.wide:
            data = self._read(shape.root_at, shape.root_bytes)
        else:
            extents = self._chain(shape.root_cluster if not path else cluster, seen, path)
            if sum(length for _, length in extents) > _DIRECTORY_MAX:
                raise self._bad("a directory larger than FAT allows", path)
            data = b"".join(self._read(start, length) for start, length in extents)
        long_name: dict[int, str] = {}
        for at in range(0, len(data), _ENTRY):
            entry = data[at : at + _ENTRY]
            if entry[0] == _END:
                break
            if entry[0] == _FREE:
                long_name = {}
                continue
            if entry[11] & 0x3F == _LONG_NAME:
                if entry[0] & _LONG_LAST:
                    long_name = {}
                long_name[entry[0] & 0x3F] = _long_part(entry)
                continue
            parts, long_name = long_name, {}
            name = "".join(parts[number] for number in sorted(parts)).split("\0")[0] or _short_name(entry)
            if entry[11] & _VOLUME or name in (".", ".."):
                continue
            if "/" in name or not name:
                raise self._bad(f"an impossible file name {name!r}", path)
            yield self._entry(f"{path}/{name}" if path else name, entry, seen)

    def _entry(self, path: str, entry: bytes, seen: set[int]) -> tuple[FatFile, int]:
        high, time, date, low, size = struct.unpack_from("<HHHHI", entry, 20)
        first = low | (high << 16 if self._shape.wide else 0)
        is_directory = bool(entry[11] & _DIRECTORY)
        if is_directory:
            return FatFile(path, True, 0, entry[11], date << 16 | time, ()), first
        extents = self._chain(first, seen, path) if size else []
        if sum(length for _, length in extents) < size:
            raise self._bad("the file's clusters are fewer than its size asks for", path)
        return FatFile(path, False, size, entry[11], date << 16 | time, tuple(extents)), first

    def _chain(self, cluster: int, seen: set[int], path: str) -> list[tuple[int, int]]:
        """Extents of a chain; ``seen`` holds every cluster used so far, by which a loop or a crossing is found."""
        shape = self._shape
        end = 0x0FFFFFF8 if shape.wide else 0xFFF8
        extents: list[tuple[int, int]] = []
        while True:
            if not 2 <= cluster < shape.clusters + 2:
                raise self._bad("a cluster outside the volume", path or "/")
            if cluster in seen:
                raise self._bad("a cluster chain that loops or crosses another", path or "/")
            seen.add(cluster)
            start = shape.data_at + (cluster - 2) * shape.cluster
            if extents and sum(extents[-1]) == start:
                extents[-1] = (extents[-1][0], extents[-1][1] + shape.cluster)
            else:
                extents.append((start, shape.cluster))
            cluster = self._table[cluster] & (0x0FFFFFFF if shape.wide else 0xFFFF)
            if cluster >= end:
                return extents


def _shape(boot: bytes, size: int) -> _Shape:
    """Where the parts of the volume lie.

    Raises:
        ValueError: not FAT16 or FAT32, or an impossible shape.
    """
    if boot[510:512] != b"\x55\xaa" or boot[0] not in (0xEB, 0xE9):
        raise ValueError("not a FAT volume")
    sector, per_cluster, reserved, tables, root_entries, sectors, _, table_sectors = struct.unpack_from(
        "<HBHBHHBH", boot, 11
    )
    wide_sectors, wide_table = struct.unpack_from("<I", boot, 32)[0], struct.unpack_from("<I", boot, 36)[0]
    sectors, table_sectors = sectors or wide_sectors, table_sectors or wide_table
    if sector not in (512, 1024, 2048, 4096) or per_cluster == 0 or per_cluster & (per_cluster - 1):
        raise ValueError("a FAT volume with an impossible sector or cluster size")
    root_sectors = -(-root_entries * _ENTRY // sector)
    data = reserved + tables * table_sectors + root_sectors
    if not reserved or not 1 <= tables <= 2 or not table_sectors or data >= sectors or sectors * sector > size:
        raise ValueError("a FAT volume whose parts do not fit into it")
    clusters = (sectors - data) // per_cluster
    if clusters < 4085:
        raise ValueError("a FAT12 volume; an EFI system partition has FAT16 or FAT32")
    wide = clusters >= 65525
    if wide == bool(root_entries):
        # Readers that go by the cluster count (firmware does) and readers that go by the fields would see two volumes.
        raise ValueError("a FAT volume whose number of clusters and whose fields speak of different FAT types")
    table_bytes = table_sectors * sector
    if (clusters + 2) * (4 if wide else 2) > table_bytes or (clusters + 2) * 4 > MAX_TABLE:
        raise ValueError("a FAT volume whose table does not fit its clusters")
    root_cluster = struct.unpack_from("<I", boot, 44)[0] if wide else 0
    return _Shape(
        cluster=per_cluster * sector,
        table_at=reserved * sector,
        table_bytes=table_bytes,
        root_at=(reserved + tables * table_sectors) * sector,
        root_bytes=root_sectors * sector,
        root_cluster=root_cluster,
        data_at=data * sector,
        clusters=clusters,
        wide=wide,
    )


def _long_part(entry: bytes) -> str:
    text = (entry[1:11] + entry[14:26] + entry[28:32]).decode("utf-16-le", "replace")
    return text.split("\0")[0].rstrip("\uffff")


def _short_name(entry: bytes) -> str:
    base, suffix = (entry[:8].decode("ascii", "replace").rstrip(), entry[8:11].decode("ascii", "replace").rstrip())
    base = base.lower() if entry[12] & _LOWER_BASE else base
    suffix = suffix.lower() if entry[12] & _LOWER_SUFFIX else suffix
    return f"{base}.{suffix}" if suffix else base
