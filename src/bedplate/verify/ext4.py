"""A reader of ext4 file systems in pure Python: tree, attributes and content.

It reads what mke2fs makes and Linux keeps: extents, linear and hashed directories, attributes in the inode and in a
block of their own. A file system is taken as hostile: every address is checked, every loop is bounded, and a
contradiction raises :class:`BadExt4`. It must have been unmounted: a journal that would have to be replayed is refused.

Source: the kernel's Documentation/filesystems/ext4.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from bedplate.model.errors import BadInput
from bedplate.model.filesystem import FileNode

MAGIC_OFFSET, MAGIC = 1024 + 0x38, b"\x53\xef"
ROOT_INODE = 2
MAX_ENTRIES = 4_000_000
MAX_DEPTH = 256
MAX_DIRECTORY = 1 << 28
_PIECE = 1 << 20
_SUPERBLOCK = 1024
_INCOMPAT_FILETYPE, _INCOMPAT_RECOVER, _INCOMPAT_EXTENTS, _INCOMPAT_64BIT = 0x2, 0x4, 0x40, 0x80
_INCOMPAT_FLEX_BG, _INCOMPAT_CSUM_SEED, _INCOMPAT_LARGEDIR = 0x200, 0x2000, 0x4000
_KNOWN = (
    _INCOMPAT_FILETYPE | _INCOMPAT_EXTENTS | _INCOMPAT_64BIT | _INCOMPAT_FLEX_BG | _INCOMPAT_CSUM_SEED
    | _INCOMPAT_LARGEDIR
)  # fmt: skip
_EXTENTS_FLAG = 0x80000
_INLINE_FLAG = 0x10000000
_EXTENT_MAGIC = 0xF30A
_EXTENT_DEPTH = 5
_UNWRITTEN = 32768
_XATTR_MAGIC = 0xEA020000
_XATTR_PREFIXES = {
    0: "", 1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security.",
    7: "system.",
}  # fmt: skip


class BadExt4(BadInput):
    """It is not ext4, is damaged, or uses a feature this reader does not know."""


@dataclass(frozen=True, slots=True)
class _Inode:
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    flags: int
    blocks: int
    block: bytes
    extra: bytes
    xattr_block: int


class Ext4Image:
    """An open file system; a :class:`bedplate.model.filesystem.FileSystem`.

    Args:
        path: The file system, or a disk that holds it.
        offset: Where in the file it starts, in bytes.
        size: How many bytes it has; to the end of the file when None.

    Raises:
        BadExt4: not ext4, or damaged.
    """

    def __init__(self, path: Path, offset: int = 0, size: int | None = None) -> None:
        self._where = str(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            available = os.fstat(self._descriptor).st_size - offset
            self._offset = offset
            self._size = max(0, available if size is None else min(size, available))
            self._inodes: dict[int, _Inode] = {}
            self._superblock()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def total_bytes(self) -> int:
        """Size of the file system."""
        return int(self._blocks * self._block)

    @property
    def uuid(self) -> UUID:
        """Its own identifier."""
        return self._uuid

    def _bad(self, message: str, path: str = "") -> BadExt4:
        where = f"{self._where}:{path}" if path else self._where
        return BadExt4(message, where=where, remedy="build or fetch the image again")

    def _raw(self, at: int, length: int, path: str = "") -> bytes:
        if not 0 <= at <= at + length <= self._size:
            raise self._bad("an address outside the file system", path)
        data = os.pread(self._descriptor, length, self._offset + at)
        if len(data) != length:
            raise self._bad("the file system is cut short", path)
        return data

    def _superblock(self) -> None:
        if self._size < 2 * _SUPERBLOCK:
            raise self._bad("too short for an ext4 file system")
        data = self._raw(_SUPERBLOCK, 1024)
        if data[0x38:0x3A] != MAGIC:
            raise self._bad("not an ext4 file system")
        inodes, low = struct.unpack_from("<II", data)
        (log,) = struct.unpack_from("<I", data, 0x18)
        self._first, self._per_group = struct.unpack_from("<I", data, 0x14)[0], struct.unpack_from("<I", data, 0x28)[0]
        (incompat,) = struct.unpack_from("<I", data, 0x60)
        if incompat & _INCOMPAT_RECOVER:
            raise self._bad("its journal holds changes that were not written: it was not unmounted")
        if incompat & ~_KNOWN:
            raise self._bad(f"it uses features this reader does not know (0x{incompat & ~_KNOWN:x})")
        wide = bool(incompat & _INCOMPAT_64BIT)
        high = struct.unpack_from("<I", data, 0x150)[0] if wide else 0
        self._inode_bytes = struct.unpack_from("<H", data, 0x58)[0]
        self._descriptor_bytes = struct.unpack_from("<H", data, 0xFE)[0] if wide else 32
        self._uuid = UUID(bytes=data[0x68:0x78])
        if log > 6 or not self._per_group or not 128 <= self._inode_bytes <= 4096 or self._descriptor_bytes < 32:
            raise self._bad("a superblock of impossible values")
        self._block, self._blocks, self._count = 1024 << log, high << 32 | low, inodes
        if self.total_bytes > self._size:
            raise self._bad(f"cut short: {self.total_bytes} bytes announced, {self._size} there")

    def _inode(self, number: int, path: str) -> _Inode:
        known = self._inodes.get(number)
        if known is not None:
            return known
        if not 0 < number <= self._count:
            raise self._bad(f"inode {number} does not exist", path)
        group, index = divmod(number - 1, self._per_group)
        at = (self._first + 1) * self._block + group * self._descriptor_bytes
        row = self._raw(at, self._descriptor_bytes, path)
        table = struct.unpack_from("<I", row, 8)[0]
        if self._descriptor_bytes >= 64:
            table |= struct.unpack_from("<I", row, 0x28)[0] << 32
        data = self._raw(table * self._block + index * self._inode_bytes, self._inode_bytes, path)
        mode, uid, size = struct.unpack_from("<HHI", data)
        (mtime,) = struct.unpack_from("<i", data, 0x10)
        gid, _, blocks, flags = struct.unpack_from("<HHII", data, 0x18)
        size |= struct.unpack_from("<I", data, 0x6C)[0] << 32
        uid |= struct.unpack_from("<H", data, 0x78)[0] << 16
        gid |= struct.unpack_from("<H", data, 0x7A)[0] << 16
        xattr_block = struct.unpack_from("<I", data, 0x68)[0] | struct.unpack_from("<H", data, 0x76)[0] << 32
        extra = b""
        if self._inode_bytes > 128:
            (used,) = struct.unpack_from("<H", data, 0x80)
            extra = data[128 + used :] if 128 + used < self._inode_bytes else b""
            if used >= 24 - 16 + 4:
                mtime += (struct.unpack_from("<I", data, 0x88)[0] & 3) << 32
        found = _Inode(mode, uid, gid, size, mtime, flags, blocks, data[0x28:0x64], extra, xattr_block)
        if len(self._inodes) < MAX_ENTRIES:
            self._inodes[number] = found
        return found

    def _extents(self, inode: _Inode, path: str) -> list[tuple[int, int, int]]:
        """(first block of the file, block on the disk, how many), in order; unwritten ones are holes."""
        if not inode.flags & _EXTENTS_FLAG:
            raise self._bad("a file without extents", path)
        found: list[tuple[int, int, int]] = []
        pending = [(inode.block, _EXTENT_DEPTH)]
        while pending:
            node, most = pending.pop()
            magic, entries, _, depth = struct.unpack_from("<HHHH", node)
            if magic != _EXTENT_MAGIC or depth > most or 12 * (entries + 1) > len(node):
                raise self._bad("a damaged extent tree", path)
            below = []
            for at in range(12, 12 * (entries + 1), 12):
                if depth:
                    low, high = struct.unpack_from("<IH", node, at + 4)
                    below.append((self._raw((high << 32 | low) * self._block, self._block, path), depth - 1))
                else:
                    first, length, high, low = struct.unpack_from("<IHHI", node, at)
                    if length <= _UNWRITTEN:
                        found.append((first, high << 32 | low, length))
            pending.extend(reversed(below))
            if len(found) > MAX_ENTRIES or len(pending) > MAX_ENTRIES:
                raise self._bad("an extent tree beyond any limit", path)
        return found

    def _content(self, inode: _Inode, path: str) -> Iterator[bytes]:
        if stat.S_ISLNK(inode.mode) and inode.size < 60 and not inode.flags & _EXTENTS_FLAG:
            yield inode.block[: inode.size]
            return
        if inode.flags & _INLINE_FLAG:
            raise self._bad("content within the inode, which this reader does not know", path)
        at = 0
        for first, place, count in self._extents(inode, path):
            start, end = first * self._block, min((first + count) * self._block, inode.size)
            if start < at:
                raise self._bad("extents that overlap", path)
            while at < min(start, inode.size):
                yield bytes(min(_PIECE, min(start, inode.size) - at))
                at += min(_PIECE, min(start, inode.size) - at)
            while at < end:
                piece = min(_PIECE, end - at)
                yield self._raw(place * self._block + at - start, piece, path)
                at += piece
        while at < inode.size:
            piece = min(_PIECE, inode.size - at)
            yield bytes(piece)
            at += piece

    def _children(self, node: FileNode) -> list[tuple[bytes, int]]:
        if node.size > MAX_DIRECTORY:
            raise self._bad("a directory beyond any limit", node.path)
        data = b"".join(self._content(self._inode(node.number, node.path), node.path))
        found: dict[bytes, int] = {}
        for block in range(0, len(data), self._block):
            at, end = block, min(block + self._block, len(data))
            while at + 8 <= end:
                number, length, name_length = struct.unpack_from("<IHB", data, at)
                length = length or 65536
                if length < 8 or at + length > end or name_length + 8 > length:
                    raise self._bad("a damaged directory", node.path)
                name = data[at + 8 : at + 8 + name_length]
                if number and name and name not in (b".", b".."):
                    if b"/" in name or b"\0" in name or name in found:
                        raise self._bad("a directory with an impossible name, or one twice", node.path)
                    found[name] = number
                at += length
        return sorted(found.items())

    def walk(self) -> Iterator[FileNode]:
        """See the protocol.

        Raises:
            BadExt4: a directory that is reached twice or lies too deep; more entries than any limit.
        """
        seen = {ROOT_INODE}
        pending = [("/", ROOT_INODE, 0)]
        count = 0
        while pending:
            path, number, depth = pending.pop()
            inode = self._inode(number, path)
            node = FileNode(path, number, inode.mode, inode.uid, inode.gid, inode.size, inode.mtime)
            count += 1
            if count > MAX_ENTRIES or depth > MAX_DEPTH:
                raise self._bad("a tree beyond any limit", path)
            yield node
            if not node.is_directory:
                continue
            below = []
            for name, child in self._children(node):
                child_path = f"{path.rstrip('/')}/{os.fsdecode(name)}"
                if stat.S_ISDIR(self._inode(child, child_path).mode):
                    if child in seen:
                        raise self._bad("a directory is reached by two paths", child_path)
                    seen.add(child)
                below.append((child_path, child, depth + 1))
            pending.extend(reversed(below))

    def stream(self, node: FileNode) -> Iterator[bytes]:
        """See the protocol."""
        yield from self._content(self._inode(node.number, node.path), node.path)

    def stored(self, node: FileNode) -> int:
        """See the protocol."""
        return self._inode(node.number, node.path).blocks * 512 if node.is_file else 0

    def xattrs(self, node: FileNode) -> tuple[tuple[str, bytes], ...]:
        """See the protocol."""
        inode = self._inode(node.number, node.path)
        found: dict[str, bytes] = {}
        if len(inode.extra) >= 4 and struct.unpack_from("<I", inode.extra)[0] == _XATTR_MAGIC:
            self._attributes(inode.extra[4:], 0, 0, node.path, found)
        if inode.xattr_block:
            block = self._raw(inode.xattr_block * self._block, self._block, node.path)
            if struct.unpack_from("<I", block)[0] != _XATTR_MAGIC:
                raise self._bad("damaged extended attributes", node.path)
            self._attributes(block, 32, 0, node.path, found)
        return tuple(sorted(found.items()))

    def _attributes(self, area: bytes, at: int, base: int, path: str, found: dict[str, bytes]) -> None:
        while at + 16 <= len(area) and area[at : at + 4] != bytes(4):
            name_length, index, offset, inode, size = struct.unpack_from("<BBHII", area, at)
            name = area[at + 16 : at + 16 + name_length]
            if inode or index not in _XATTR_PREFIXES or len(name) != name_length or base + offset + size > len(area):
                raise self._bad("damaged extended attributes", path)
            found[_XATTR_PREFIXES[index] + name.decode(errors="replace")] = area[base + offset : base + offset + size]
            at += 16 + -(-name_length // 4) * 4
