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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bedplate.compose.erofs import clusters, format
from bedplate.compose.erofs.codecs import decompress
from bedplate.compose.erofs.format import Incompat, Inode, Layout, Superblock
from bedplate.model.errors import BadInput

MAX_ENTRIES = 4_000_000
MAX_DEPTH = 256
MAX_FILE = 1 << 40
MAX_DIRECTORY = 1 << 28
MAX_PACKED = 1 << 28  # a packed inode up to this many bytes is kept in memory
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


class ErofsImage:
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
            self._blocks = self.size >> self.superblock.block_bits
            self._packed: bytes | None = None
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> ErofsImage:
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
            area = self.meta(self._after_inode(node), inode.xattr_size)
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

    def _after_inode(self, node: Node) -> int:
        return self.position(node.nid) + (format.COMPACT_SIZE if node.inode.compact else format.EXTENDED_SIZE)

    def read(self, node: Node, limit: int = 1 << 31) -> bytes:
        """A file's content, a link's target or a directory's blocks.

        Raises:
            BadImage: damaged, or larger than ``limit`` bytes.
        """
        if node.inode.size > limit:
            raise self.bad(f"file of {node.inode.size} bytes, at most {limit} were expected", node.path)
        return b"".join(self.stream(node))

    def stream(self, node: Node) -> Iterator[bytes]:
        """A file's content in pieces of at most a few MiB."""
        try:
            if not (stat.S_ISREG(node.inode.mode) or stat.S_ISDIR(node.inode.mode) or stat.S_ISLNK(node.inode.mode)):
                return
            if node.inode.layout in (Layout.FLAT_PLAIN, Layout.FLAT_INLINE):
                yield from self._flat(node)
            elif node.inode.layout == Layout.CHUNKED:
                yield from self._chunks(node)
            else:
                yield from self._compressed(node)
        except ValueError as error:
            raise self.bad(str(error), node.path) from error

    def _flat(self, node: Node) -> Iterator[bytes]:
        size = node.inode.size
        tail = size % format.BLOCK if node.inode.layout == Layout.FLAT_INLINE else 0
        start = node.inode.value << format.BLOCK_BITS
        if size > tail:  # the block of a file that lies in its inode alone is not an address
            yield from self._range(start, size - tail)
        if tail:
            yield self.inline(node, tail)

    def inline(self, node: Node, length: int) -> bytes:
        """The first ``length`` bytes behind an inode and its attributes."""
        at = self._after_inode(node) + node.inode.xattr_size
        if at % format.BLOCK + length > format.BLOCK:
            raise ValueError("inline data crosses a block")
        return self.meta(at, length)

    def _range(self, start: int, length: int) -> Iterator[bytes]:
        if start + length > self.size:
            raise ValueError("file data outside the image")
        for at in range(start, start + length, 1 << 20):
            yield self.raw(at, min(at + (1 << 20), start + length))

    def _chunks(self, node: Node) -> Iterator[bytes]:
        form = node.inode.value & 0xFFFF
        if form & ~0x3F:
            raise ValueError("unknown form of chunks")
        chunk = format.BLOCK << (form & 0x1F)
        at = self._after_inode(node) + node.inode.xattr_size
        width = 8 if form & 0x20 else 4
        at += -at % width
        for start in range(0, node.inode.size, chunk):
            length = min(chunk, node.inode.size - start)
            entry = self.meta(at, width)
            at += width
            if width == 8 and int.from_bytes(entry[2:4], "little"):
                raise ValueError("chunk on another device")
            block = int.from_bytes(entry[-4:], "little")
            if block == 0xFFFFFFFF:
                yield from (bytes(min(1 << 20, length - done)) for done in range(0, length, 1 << 20))
            else:
                yield from self._range(block << format.BLOCK_BITS, length)

    def index(self, node: Node) -> tuple[clusters.MapHeader, int, int, int]:
        """Header of a compressed file, and offset, size and logical cluster count of its index."""
        at = self._after_inode(node) + node.inode.xattr_size
        at += -at % 8
        header = clusters.MapHeader.unpack(self.meta(at, clusters.HEADER_SIZE))
        count = -(-node.inode.size // format.BLOCK)
        at += clusters.HEADER_SIZE
        if node.inode.layout == Layout.COMPRESSED_FULL:
            at += 8
            size = count * 8
        else:
            if count * 2 > self.size:
                raise ValueError("index larger than the image")
            size = sum(
                size for _, size in clusters.packs(count, at % 32, bool(header.advise & clusters.Advise.COMPACTED_2B))
            )
        if at + size > self.size:
            raise ValueError("index larger than the image")
        return header, at, size, count

    def heads(self, node: Node) -> tuple[clusters.MapHeader, list[clusters.Head], int]:
        """A compressed file's map header, the heads of its index, and where the index ends, in bytes."""
        header, at, size, count = self.index(node)
        if header.cluster_bits & 0x80:
            return header, [], at
        if header.cluster_bits & 0xF:
            raise ValueError("logical clusters larger than a block are not supported")
        index = self.meta(at, size)
        if node.inode.layout == Layout.COMPRESSED_FULL:
            return header, clusters.decode_full(index, count), at + size
        return header, clusters.decode_compact(index, count, at % 32, header), at + size

    def _compressed(self, node: Node) -> Iterator[bytes]:
        size = node.inode.size
        if not size:
            return
        header, heads, index_end = self.heads(node)
        if not heads:
            # The whole file lies in the packed inode: the header's eight bytes are the offset, with the top bit set.
            high = header.advise | header.algorithms << 16 | (header.cluster_bits & 0x7F) << 24
            yield from self._fragment(node, high << 32 | header.fragment, size)
            return
        if heads[-1].start >= size:
            heads.pop()
        if not heads or heads[0].start:
            raise ValueError("compressed file that does not start at its start")
        for position, head in enumerate(heads):
            last = position + 1 == len(heads)
            length = (size if last else heads[position + 1].start) - head.start
            fragment = last and header.advise & clusters.Advise.FRAGMENT_PCLUSTER
            if length <= 0 or (length > clusters.LOGICAL_MAX and not fragment):
                raise ValueError("compressed run of an impossible length")
            if fragment:
                offset = header.fragment
                if node.inode.layout == Layout.COMPRESSED_FULL:
                    offset |= head.block << 32
                yield from self._fragment(node, offset, length)
            elif last and header.advise & clusters.Advise.INLINE_PCLUSTER:
                yield self._run(header, head, self.meta(index_end, header.inline_size), length, interlaced=False)
            else:
                if head.blocks << format.BLOCK_BITS > clusters.PHYSICAL_MAX:
                    raise ValueError("physical cluster of an impossible size")
                start = head.block << format.BLOCK_BITS
                data = self.raw(start, start + (head.blocks << format.BLOCK_BITS))
                interlaced = bool(header.advise & clusters.Advise.INTERLACED_PCLUSTER)
                yield self._run(header, head, data, length, interlaced=interlaced)

    @staticmethod
    def _run(header: clusters.MapHeader, head: clusters.Head, data: bytes, length: int, *, interlaced: bool) -> bytes:
        if head.kind == clusters.Kind.PLAIN:
            if length > len(data):
                raise ValueError("uncompressed run longer than its blocks")
            if interlaced:
                data = data[head.offset :] + data[: head.offset]
            return data[:length]
        algorithm = header.algorithms >> (4 if head.kind == clusters.Kind.HEAD2 else 0) & 15
        return decompress(algorithm, data, length)

    def _fragment(self, node: Node, offset: int, length: int) -> Iterator[bytes]:
        nid = self.superblock.packed_nid
        if not nid or nid == node.nid:
            raise ValueError("fragment without a packed inode")
        packed = Node("", nid, self.inode(nid))
        if offset + length > packed.inode.size:
            raise ValueError("fragment outside the packed inode")
        if packed.inode.size <= MAX_PACKED:
            if self._packed is None:
                self._packed = b"".join(self.stream(packed))
            yield self._packed[offset : offset + length]
            return
        at = 0
        for piece in self.stream(packed):
            if at + len(piece) > offset:
                yield piece[max(0, offset - at) : offset + length - at]
            at += len(piece)
            if at >= offset + length:
                return
