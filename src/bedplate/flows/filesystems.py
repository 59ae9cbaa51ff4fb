"""The root file system of an image, of whatever kind it is, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from bedplate.compose.erofs.format import BLOCK, Layout
from bedplate.compose.erofs.reader import ErofsImage, Node
from bedplate.flows.disks import is_ext4, open_disk
from bedplate.model.errors import BadInput
from bedplate.model.filesystem import FileNode, FileSystem
from bedplate.verify.ext4 import Ext4Image


class ErofsView:
    """An EROFS image as a :class:`FileSystem`."""

    def __init__(self, image: ErofsImage) -> None:
        self._image = image

    @property
    def total_bytes(self) -> int:
        """See the protocol."""
        return self._image.superblock.blocks * BLOCK

    @property
    def uuid(self) -> UUID:
        """See the protocol."""
        return UUID(bytes=self._image.superblock.uuid)

    def walk(self) -> Iterator[FileNode]:
        """See the protocol."""
        epoch = self._image.superblock.epoch_time
        for node in self._image.walk():
            inode = node.inode
            mtime = epoch if inode.mtime is None else inode.mtime
            yield FileNode(node.path, node.nid, inode.mode, inode.uid, inode.gid, inode.size, mtime)

    def stream(self, node: FileNode) -> Iterator[bytes]:
        """See the protocol."""
        return self._image.stream(self._node(node))

    def xattrs(self, node: FileNode) -> tuple[tuple[str, bytes], ...]:
        """See the protocol."""
        return self._image.xattrs(self._node(node))

    def stored(self, node: FileNode) -> int:
        """See the protocol."""
        inode = self._node(node).inode
        compressed = inode.layout in (Layout.COMPRESSED_FULL, Layout.COMPRESSED_COMPACT)
        return inode.value * BLOCK if compressed else inode.size

    def _node(self, node: FileNode) -> Node:
        return Node(node.path, node.number, self._image.inode(node.number, node.path))


@contextmanager
def open_file_system(path: Path, offset: int = 0, size: int | None = None) -> Iterator[FileSystem]:
    """Open the file system at ``offset`` of a file, by what it is.

    Raises:
        BadInput: neither EROFS nor ext4, or damaged.
    """
    if is_ext4(path, offset):
        with Ext4Image(path, offset, size) as ext4:
            yield ext4
        return
    with ErofsImage(path, offset, size) as erofs:
        yield ErofsView(erofs)


@contextmanager
def open_root(disk: Path) -> Iterator[FileSystem]:
    """Open the root file system of a disk image.

    Raises:
        BadInput: the disk has none, or a damaged one.
    """
    with open_disk(disk) as opened:
        part = opened.root()
    if part is None:
        raise BadInput("the disk has no root partition in use", where=str(disk), remedy="build it again")
    with open_file_system(disk, part.start, part.size) as system:
        yield system
