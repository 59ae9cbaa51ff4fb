"""A reader of EROFS images in pure Python: superblock, tree, attributes and content.

It reads what mkfs.erofs 1.8 and our linker write: plain, inline and chunked files, compressed files in both index
forms, big physical clusters, inlined tails, fragments and deduplicated clusters. An image is taken as hostile: every
offset is checked against its bounds, every loop is bounded, and a contradiction raises :class:`BadImage`.

Source: the kernel's Documentation/filesystems/erofs.rst and ``erofs_fs.h`` (Linux 6.12).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bedplate.compose.erofs import format
from bedplate.compose.erofs.content import ContentReader
from bedplate.compose.erofs.image import BadImage, ImageFile, Node

__all__ = ["BadImage", "ErofsImage", "Node"]

MAX_ENTRIES = 4_000_000
MAX_DEPTH = 256
MAX_DIRECTORY = 1 << 28


class ErofsImage(ImageFile):
    """An open image: its tree, attributes and contents. See :class:`ImageFile` for arguments and errors."""

    def __init__(self, path: Path, offset: int = 0, size: int | None = None) -> None:
        super().__init__(path, offset, size)
        self._contents = ContentReader(self)

    @property
    def root(self) -> Node:
        """The root directory."""
        inode = self.inode(self.superblock.root_nid, "/")
        if not stat.S_ISDIR(inode.mode):
            raise self.bad("root is not a directory", "/")
        return Node("/", self.superblock.root_nid, inode)

    def children(self, node: Node) -> list[Node]:
        """What a directory holds, in byte order of names, without ``.`` and ``..``."""
        if node.inode.size > MAX_DIRECTORY:
            raise self.bad("directory is beyond any limit", node.path)
        data = self.read(node, MAX_DIRECTORY)
        found: list[Node] = []
        last = b""
        try:
            for at in range(0, len(data), format.BLOCK):
                for name, nid, _ in format.unpack_directory_block(data[at : at + format.BLOCK]):
                    if name <= last:
                        raise ValueError("directory with names out of order")
                    last = name
                    if name in (b".", b".."):
                        continue
                    path = f"{node.path.rstrip('/')}/{os.fsdecode(name)}"
                    found.append(Node(path, nid, self.inode(nid, path)))
        except ValueError as error:
            raise self.bad(str(error), node.path) from error
        return found

    def walk(self) -> Iterator[Node]:
        """Every path of the image, root first, each directory before what it holds, in byte order.

        Raises:
            BadImage: a directory that holds itself, is named twice, or lies too deep; more entries than any limit.
        """
        root = self.root
        seen = {root.nid}
        pending = [(root, 0)]
        count = 0
        while pending:
            node, depth = pending.pop()
            count += 1
            if count > MAX_ENTRIES:
                raise self.bad(f"more than {MAX_ENTRIES} entries")
            yield node
            if not node.is_directory:
                continue
            if depth >= MAX_DEPTH:
                raise self.bad(f"directories nested more than {MAX_DEPTH} deep", node.path)
            below = self.children(node)
            for child in below:
                if child.is_directory:
                    if child.nid in seen:
                        raise self.bad("a directory is reached by two paths", child.path)
                    seen.add(child.nid)
            pending.extend((child, depth + 1) for child in reversed(below))

    def xattrs(self, node: Node) -> tuple[tuple[str, bytes], ...]:
        """Extended attributes, inline and shared, sorted by name."""
        inode = node.inode
        if not inode.xattr_count:
            return ()
        found: list[tuple[str, bytes]] = []
        try:
            area = self.meta(self.after_inode(node), inode.xattr_size)
            shared = area[4]
            at = format.XATTR_HEADER + 4 * shared
            if at > len(area):
                raise ValueError("extended attributes out of bounds")
            while at < len(area):
                if area[at : at + 4] == bytes(4):
                    at += 4  # padding: mkfs can reserve room in the root directory
                    continue
                name, value, at = format.unpack_xattr(area, at)
                found.append((name, value))
            for index in range(shared):
                start = format.XATTR_HEADER + 4 * index
                number = int.from_bytes(area[start : start + 4], "little")
                position = (self.superblock.xattr_block << format.BLOCK_BITS) + 4 * number
                head = self.meta(position, 4)
                length = 4 + head[0] + int.from_bytes(head[2:4], "little")
                name, value, _ = format.unpack_xattr(self.meta(position, length), 0)
                found.append((name, value))
        except (ValueError, IndexError) as error:
            raise self.bad(str(error), node.path) from error
        return tuple(sorted(found))

    def read(self, node: Node, limit: int = 1 << 31) -> bytes:
        """A file's content, a link's target or a directory's blocks.

        Raises:
            BadImage: damaged, or larger than ``limit`` bytes.
        """
        if node.inode.size > limit:
            raise self.bad(f"file of {node.inode.size} bytes, at most {limit} were expected", node.path)
        return b"".join(self.stream(node))

    def stream(self, node: Node) -> Iterator[bytes]:
        """A file's content in pieces of at most a few MiB.

        Raises:
            BadImage: damaged.
        """
        try:
            yield from self._contents.stream(node)
        except ValueError as error:
            raise self.bad(str(error), node.path) from error
