"""An EROFS image as a file: superblock, inodes by number, and bytes at checked addresses."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bedplate.compose.erofs import format
from bedplate.compose.erofs.format import Incompat, Inode, Superblock
from bedplate.model.errors import BadInput

MAX_FILE = 1 << 40
_PAGE = 1 << 16
_PAGES = 512


class BadImage(BadInput):
    """The image is not EROFS, is damaged, or uses a feature this reader does not know."""


@dataclass(frozen=True, slots=True)
class Node:
    """One path of an image: absolute, with the inode number and the inode."""

    path: str
    nid: int
    inode: Inode

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.inode.mode)

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.inode.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symbolic link."""
        return stat.S_ISLNK(self.inode.mode)


class ImageFile:
    """An open image.

    Args:
        path: The image, or a disk that holds it.
        offset: Where in the file the image starts, in bytes.
        size: How many bytes it has; to the end of the file when None.

    Raises:
        BadImage: not an EROFS image, or damaged.
    """

    def __init__(self, path: Path, offset: int = 0, size: int | None = None) -> None:
        self._where = str(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            available = os.fstat(self._descriptor).st_size - offset
            self._offset = offset
            self.size = max(0, available if size is None else min(size, available))
            self._pages: dict[int, bytes] = {}
            self.superblock = self._read_superblock()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def bad(self, message: str, path: str = "") -> BadImage:
        """The error that says ``message`` of the image, or of a path in it."""
        where = f"{self._where}:{path}" if path else self._where
        return BadImage(message, where=where, remedy="build or fetch the image again")

    def _read_superblock(self) -> Superblock:
        if self.size < format.BLOCK:
            raise self.bad("too short for an EROFS image")
        try:
            block = Superblock.unpack(
                self.raw(format.SUPERBLOCK_OFFSET, format.SUPERBLOCK_OFFSET + format.SUPERBLOCK_SIZE)
            )
        except ValueError as error:
            raise self.bad(str(error)) from error
        if block.block_bits != format.BLOCK_BITS:
            raise self.bad(f"block size of 2^{block.block_bits} bytes: only 4096 is supported")
        if block.incompat & ~format.KNOWN_INCOMPAT or (block.incompat & Incompat.DEVICE_TABLE and block.extra_devices):
            raise self.bad(f"image uses features this reader does not know (0x{block.incompat:x})")
        if (
            block.compat & format.Compat.SB_CHECKSUM
            and format.superblock_checksum(self.raw(0, format.BLOCK)) != block.checksum
        ):
            raise self.bad("superblock checksum does not fit")
        if block.blocks << format.BLOCK_BITS > self.size:
            raise self.bad(
                f"image is cut short: {block.blocks} blocks announced, {self.size >> format.BLOCK_BITS} there"
            )
        return block

    def raw(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of the image, past the page cache."""
        if not 0 <= start <= end <= self.size:
            raise ValueError("address outside the image")
        data = os.pread(self._descriptor, end - start, self._offset + start)
        if len(data) != end - start:
            raise ValueError("image is cut short")
        return data

    def meta(self, start: int, length: int) -> bytes:
        """Metadata bytes, through a bounded cache."""
        end = start + length
        if not 0 <= start <= end <= self.size:
            raise ValueError("address outside the image")
        first = start // _PAGE
        if length and end <= (first + 1) * _PAGE:
            page = self._pages.get(first)
            if page is None:
                if len(self._pages) >= _PAGES:
                    self._pages.clear()
                page = self._pages[first] = self.raw(first * _PAGE, min((first + 1) * _PAGE, self.size))
            return page[start - first * _PAGE : end - first * _PAGE]
        return self.raw(start, end)

    def position(self, nid: int) -> int:
        """Byte offset of an inode in the image."""
        return (self.superblock.meta_block << format.BLOCK_BITS) + nid * format.SLOT

    def inode(self, nid: int, path: str = "") -> Inode:
        """The inode with number ``nid``; ``path`` names it in errors."""
        at = self.position(nid)
        try:
            inode = Inode.unpack(self.meta(at, max(0, min(format.EXTENDED_SIZE, self.size - at))))
        except ValueError as error:
            raise self.bad(str(error), path) from error
        if inode.size > MAX_FILE:
            raise self.bad(f"file of {inode.size} bytes is beyond any limit", path)
        return inode

    def after_inode(self, node: Node) -> int:
        """Byte offset of what follows an inode: attributes, then an index, chunks or an inlined tail."""
        return self.position(node.nid) + (format.COMPACT_SIZE if node.inode.compact else format.EXTENDED_SIZE)
