"""EROFS on disk: superblock, inodes, directory entries and extended attributes as values and bytes.

Source: the kernel's Documentation/filesystems/erofs.rst and the structure definitions of the on-disk format
(``erofs_fs.h``) as of Linux 6.12. All is little endian. :mod:`bedplate.compose.erofs.clusters` has the compression
indexes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

BLOCK_BITS = 12
BLOCK = 1 << BLOCK_BITS
SLOT = 32  # an inode number counts slots of 32 bytes from the start of the metadata area
MAGIC = 0xE0F5E1E2
SUPERBLOCK_OFFSET = 1024
NAME_MAX = 255


class Compat(IntFlag):
    """Features a reader may ignore."""

    SB_CHECKSUM = 0x1
    MTIME = 0x2
    XATTR_FILTER = 0x4


class Incompat(IntFlag):
    """Features a reader must know."""

    ZERO_PADDING = 0x1
    BIG_PCLUSTER = 0x2  # also says that compression configurations follow the superblock
    CHUNKED_FILE = 0x4
    DEVICE_TABLE = 0x8  # shares its bit with the second compression head
    ZTAILPACKING = 0x10
    FRAGMENTS = 0x20  # shares its bit with deduplication
    XATTR_PREFIXES = 0x40


KNOWN_INCOMPAT = 0x7F


class Layout(IntEnum):
    """How an inode's data lies."""

    FLAT_PLAIN = 0
    COMPRESSED_FULL = 1
    FLAT_INLINE = 2
    COMPRESSED_COMPACT = 3
    CHUNKED = 4


class FileType(IntEnum):
    """File type in a directory entry."""

    UNKNOWN = 0
    REGULAR = 1
    DIRECTORY = 2
    CHARACTER_DEVICE = 3
    BLOCK_DEVICE = 4
    FIFO = 5
    SOCKET = 6
    SYMLINK = 7


class Algorithm(IntEnum):
    """Compression algorithm of a cluster; also the bit number in the superblock's set of algorithms."""

    LZ4 = 0
    LZMA = 1
    DEFLATE = 2
    ZSTD = 3


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes, crc: int = 0xFFFFFFFF) -> int:
    """CRC-32C (Castagnoli) register after ``data``, without the final inversion, as EROFS stores it."""
    for byte in data:
        crc = (crc >> 8) ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc


_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
SUPERBLOCK_SIZE = _SUPERBLOCK.size


@dataclass(frozen=True, slots=True)
class Superblock:
    """The superblock. Sizes are in blocks, ``epoch_time`` in seconds since 1970; inode numbers count slots."""

    root_nid: int
    inodes: int
    blocks: int
    epoch_time: int
    uuid: bytes
    compat: int = 0
    incompat: int = 0
    checksum: int = 0
    block_bits: int = BLOCK_BITS
    extension_slots: int = 0
    epoch_nanoseconds: int = 0
    meta_block: int = 0
    xattr_block: int = 0
    label: bytes = b""
    algorithms: int = 0
    extra_devices: int = 0
    device_slot: int = 0
    directory_bits: int = 0
    xattr_prefixes: int = 0
    xattr_prefix_start: int = 0
    packed_nid: int = 0

    @classmethod
    def unpack(cls, data: bytes) -> Superblock:
        """The superblock in ``data`` (128 bytes).

        Raises:
            ValueError: not an EROFS superblock.
        """
        f = _SUPERBLOCK.unpack(data)
        if f[0] != MAGIC:
            raise ValueError("no EROFS magic number")
        return cls(
            checksum=f[1],
            compat=f[2],
            block_bits=f[3],
            extension_slots=f[4],
            root_nid=f[5],
            inodes=f[6],
            epoch_time=f[7],
            epoch_nanoseconds=f[8],
            blocks=f[9],
            meta_block=f[10],
            xattr_block=f[11],
            uuid=f[12],
            label=f[13].rstrip(b"\0"),
            incompat=f[14],
            algorithms=f[15],
            extra_devices=f[16],
            device_slot=f[17],
            directory_bits=f[18],
            xattr_prefixes=f[19],
            xattr_prefix_start=f[20],
            packed_nid=f[21],
        )

    def pack(self) -> bytes:
        """The superblock's 128 bytes, with :attr:`checksum` as it stands."""
        return _SUPERBLOCK.pack(
            MAGIC,
            self.checksum,
            self.compat,
            self.block_bits,
            self.extension_slots,
            self.root_nid,
            self.inodes,
            self.epoch_time,
            self.epoch_nanoseconds,
            self.blocks,
            self.meta_block,
            self.xattr_block,
            self.uuid,
            self.label,
            self.incompat,
            self.algorithms,
            self.extra_devices,
            self.device_slot,
            self.directory_bits,
            self.xattr_prefixes,
            self.xattr_prefix_start,
            self.packed_nid,
            0,
        )


def superblock_checksum(first_block: bytes) -> int:
    """Checksum over the first block from the superblock on, the checksum's own field taken as zero."""
    covered = bytearray(first_block[SUPERBLOCK_OFFSET:BLOCK])
    covered[4:8] = bytes(4)
    return crc32c(bytes(covered))


_COMPACT = struct.Struct("<HHHHIIIIHHI")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16x")
COMPACT_SIZE = _COMPACT.size
EXTENDED_SIZE = _EXTENDED.size


@dataclass(frozen=True, slots=True)
class Inode:
    """An inode's fields.

    ``value`` is the first block of flat data, the number of compressed blocks, the chunk format, or a device number, by
    layout and mode. ``mtime`` is None when a compact inode leaves it to the superblock.
    """

    layout: Layout
    mode: int
    size: int
    value: int
    number: int
    uid: int
    gid: int
    nlink: int
    mtime: int | None
    xattr_count: int = 0
    mtime_nanoseconds: int = 0
    compact: bool = False

    @classmethod
    def unpack(cls, data: bytes) -> Inode:
        """The inode at the start of ``data``: 32 bytes for a compact one, else 64.

        Raises:
            ValueError: too short, or of an unknown layout.
        """
        if len(data) < COMPACT_SIZE:
            raise ValueError("inode outside the image")
        form = int.from_bytes(data[:2], "little")
        layout = Layout(form >> 1 & 7)
        if form & 1 == 0:
            _, xattrs, mode, nlink, size, late, value, number, uid, gid, _ = _COMPACT.unpack_from(data)
            if form & 0x10 and mode & 0xF000 != 0x4000:
                nlink = 1
            return cls(layout, mode, size, value, number, uid, gid, nlink, late or None, xattrs, 0, True)
        if len(data) < EXTENDED_SIZE:
            raise ValueError("inode outside the image")
        _, xattrs, mode, _, size, value, number, uid, gid, mtime, nanoseconds, nlink = _EXTENDED.unpack_from(data)
        return cls(layout, mode, size, value, number, uid, gid, nlink, mtime, xattrs, nanoseconds)

    def pack(self) -> bytes:
        """The inode's 32 or 64 bytes, by :attr:`compact`."""
        form = self.layout << 1
        if self.compact:
            head = (form, self.xattr_count, self.mode, self.nlink, self.size, 0)
            return _COMPACT.pack(*head, self.value, self.number, self.uid, self.gid, 0)
        return _EXTENDED.pack(
            form | 1,
            self.xattr_count,
            self.mode,
            0,
            self.size,
            self.value,
            self.number,
            self.uid,
            self.gid,
            self.mtime or 0,
            self.mtime_nanoseconds,
            self.nlink,
        )

    @property
    def xattr_size(self) -> int:
        """Bytes of the attribute area that follows the inode."""
        return XATTR_HEADER + 4 * (self.xattr_count - 1) if self.xattr_count else 0


_DIRENT = struct.Struct("<QHBx")
DIRENT_SIZE = _DIRENT.size


def directory_blocks(names: Iterable[bytes]) -> list[list[bytes]]:
    """Names (``.`` and ``..`` among them) in byte order, cut into the runs that fill one directory block each."""
    blocks: list[list[bytes]] = []
    used = BLOCK
    for name in sorted(names):
        need = DIRENT_SIZE + len(name)
        if used + need > BLOCK:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += need
    return blocks


def directory_size(blocks: Sequence[Sequence[bytes]]) -> int:
    """Size in bytes of a directory of these blocks: all but the last count whole."""
    last = sum(DIRENT_SIZE + len(name) for name in blocks[-1])
    return BLOCK * (len(blocks) - 1) + last


def pack_directory_block(names: Sequence[bytes], targets: Sequence[tuple[int, int]]) -> bytes:
    """One directory block, not padded: ``targets`` holds inode number and file type of each name."""
    offset = DIRENT_SIZE * len(names)
    parts = []
    for name, (nid, kind) in zip(names, targets, strict=True):
        parts.append(_DIRENT.pack(nid, offset, kind))
        offset += len(name)
    return b"".join((*parts, *names))


def unpack_directory_block(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, inode number and file type of every entry of one directory block (without or with its padding).

    Raises:
        ValueError: offsets that do not fit, names out of order, empty or with a slash.
    """
    if len(data) < DIRENT_SIZE:
        raise ValueError("directory block too short")
    first = _DIRENT.unpack_from(data)[1]
    if first < DIRENT_SIZE or first % DIRENT_SIZE or first > len(data):
        raise ValueError("directory with a wrong first name offset")
    raw = [_DIRENT.unpack_from(data, at) for at in range(0, first, DIRENT_SIZE)]
    entries: list[tuple[bytes, int, int]] = []
    for index, (nid, start, kind) in enumerate(raw):
        last = index + 1 == len(raw)
        end = len(data) if last else raw[index + 1][1]
        if not first <= start <= end <= len(data):
            raise ValueError("directory with names out of bounds")
        name = data[start:end]
        if last:
            name = name.split(b"\0", 1)[0]
        if not name or len(name) > NAME_MAX or b"/" in name or b"\0" in name:
            raise ValueError("directory with a name that cannot be")
        if entries and entries[-1][0] >= name:
            raise ValueError("directory with names out of order")
        entries.append((name, nid, kind))
    return entries


XATTR_HEADER = 12
_XATTR_ENTRY = struct.Struct("<BBH")
_XATTR_PREFIXES: tuple[tuple[int, bytes], ...] = (
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
)
_XATTR_PREFIX = dict(_XATTR_PREFIXES)


def pack_xattrs(xattrs: Sequence[tuple[str, bytes]]) -> bytes:
    """The inline attribute area: header and entries, each padded to 4 bytes; empty for no attributes.

    Raises:
        ValueError: a name outside user., trusted., security. and the POSIX ACLs, or a name or value too long.
    """
    if not xattrs:
        return b""
    area = bytearray(XATTR_HEADER)
    for text, value in xattrs:
        name = text.encode()
        index, prefix = next(((i, p) for i, p in _XATTR_PREFIXES if name.startswith(p)), (0, b""))
        if not index or len(name) - len(prefix) > NAME_MAX or len(value) > 0xFFFF:
            raise ValueError(f"extended attribute {text!r} cannot be stored")
        area += _XATTR_ENTRY.pack(len(name) - len(prefix), index, len(value))
        area += name[len(prefix) :] + value
        area += bytes(-len(area) % 4)
    return bytes(area)


def xattr_count(area: bytes) -> int:
    """The inode's attribute count field for an attribute area of this length."""
    return (len(area) - XATTR_HEADER) // 4 + 1 if area else 0


def unpack_xattr(area: bytes, at: int) -> tuple[str, bytes, int]:
    """Name and value of the attribute at ``at``, and where the next one starts.

    Raises:
        ValueError: an attribute outside the area, of an unknown prefix, or with a name that is not UTF-8.
    """
    if at + _XATTR_ENTRY.size > len(area):
        raise ValueError("extended attribute out of bounds")
    length, index, size = _XATTR_ENTRY.unpack_from(area, at)
    start = at + _XATTR_ENTRY.size
    end = start + length + size
    if index not in _XATTR_PREFIX or end > len(area):
        raise ValueError("extended attribute out of bounds or of an unknown kind")
    name = _XATTR_PREFIX[index] + area[start : start + length]
    return name.decode(), area[start + length : end], end + -end % 4
