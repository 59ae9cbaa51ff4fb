"""Content of files in an EROFS image: every layout, each address and length checked against its bounds."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from bedplate.compose.erofs import clusters, format
from bedplate.compose.erofs.codecs import decompress
from bedplate.compose.erofs.format import Layout
from bedplate.compose.erofs.image import ImageFile, Node

MAX_PACKED = 1 << 28  # a packed inode up to this many bytes is kept in memory


class ContentReader:
    """Reads contents of one image."""

    def __init__(self, image: ImageFile) -> None:
        self._image = image
        self._packed: bytes | None = None

    def stream(self, node: Node) -> Iterator[bytes]:
        """A file's content in pieces of at most a few MiB.

        Raises:
            ValueError: contradictions, addresses out of bounds, damaged compressed data.
        """
        if not (stat.S_ISREG(node.inode.mode) or stat.S_ISDIR(node.inode.mode) or stat.S_ISLNK(node.inode.mode)):
            return
        if node.inode.layout in (Layout.FLAT_PLAIN, Layout.FLAT_INLINE):
            yield from self._flat(node)
        elif node.inode.layout == Layout.CHUNKED:
            yield from self._chunks(node)
        else:
            yield from self._compressed(node)

    def _flat(self, node: Node) -> Iterator[bytes]:
        size = node.inode.size
        tail = size % format.BLOCK if node.inode.layout == Layout.FLAT_INLINE else 0
        start = node.inode.value << format.BLOCK_BITS
        if size > tail:  # the block of a file that lies in its inode alone is not an address
            yield from self._range(start, size - tail)
        if tail:
            yield self._inline(node, tail)

    def _inline(self, node: Node, length: int) -> bytes:
        """The first ``length`` bytes behind an inode and its attributes."""
        at = self._image.after_inode(node) + node.inode.xattr_size
        if at % format.BLOCK + length > format.BLOCK:
            raise ValueError("inline data crosses a block")
        return self._image.meta(at, length)

    def _range(self, start: int, length: int) -> Iterator[bytes]:
        if start + length > self._image.size:
            raise ValueError("file data outside the image")
        for at in range(start, start + length, 1 << 20):
            yield self._image.raw(at, min(at + (1 << 20), start + length))

    def _chunks(self, node: Node) -> Iterator[bytes]:
        form = node.inode.value & 0xFFFF
        if form & ~0x3F:
            raise ValueError("unknown form of chunks")
        chunk = format.BLOCK << (form & 0x1F)
        at = self._image.after_inode(node) + node.inode.xattr_size
        width = 8 if form & 0x20 else 4
        at += -at % width
        for start in range(0, node.inode.size, chunk):
            length = min(chunk, node.inode.size - start)
            entry = self._image.meta(at, width)
            at += width
            if width == 8 and int.from_bytes(entry[2:4], "little"):
                raise ValueError("chunk on another device")
            block = int.from_bytes(entry[-4:], "little")
            if block == 0xFFFFFFFF:
                yield from (bytes(min(1 << 20, length - done)) for done in range(0, length, 1 << 20))
            else:
                yield from self._range(block << format.BLOCK_BITS, length)

    def _index(self, node: Node) -> tuple[clusters.MapHeader, int, int, int]:
        """Header of a compressed file, and offset, size and logical cluster count of its index."""
        at = self._image.after_inode(node) + node.inode.xattr_size
        at += -at % 8
        header = clusters.MapHeader.unpack(self._image.meta(at, clusters.HEADER_SIZE))
        count = -(-node.inode.size // format.BLOCK)
        at += clusters.HEADER_SIZE
        if node.inode.layout == Layout.COMPRESSED_FULL:
            at += 8
            size = count * 8
        else:
            if count * 2 > self._image.size:
                raise ValueError("index larger than the image")
            size = sum(
                size for _, size in clusters.packs(count, at % 32, bool(header.advise & clusters.Advise.COMPACTED_2B))
            )
        if at + size > self._image.size:
            raise ValueError("index larger than the image")
        return header, at, size, count

    def _heads(self, node: Node) -> tuple[clusters.MapHeader, list[clusters.Head], int]:
        """A compressed file's map header, the heads of its index, and where the index ends, in bytes."""
        header, at, size, count = self._index(node)
        if header.cluster_bits & 0x80:
            return header, [], at
        if header.cluster_bits & 0xF:
            raise ValueError("logical clusters larger than a block are not supported")
        index = self._image.meta(at, size)
        if node.inode.layout == Layout.COMPRESSED_FULL:
            return header, clusters.decode_full(index, count), at + size
        return header, clusters.decode_compact(index, count, at % 32, header), at + size

    def _compressed(self, node: Node) -> Iterator[bytes]:
        size = node.inode.size
        if not size:
            return
        header, heads, index_end = self._heads(node)
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
                yield self._run(header, head, self._image.meta(index_end, header.inline_size), length, interlaced=False)
            else:
                if head.blocks << format.BLOCK_BITS > clusters.PHYSICAL_MAX:
                    raise ValueError("physical cluster of an impossible size")
                start = head.block << format.BLOCK_BITS
                data = self._image.raw(start, start + (head.blocks << format.BLOCK_BITS))
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
        nid = self._image.superblock.packed_nid
        if not nid or nid == node.nid:
            raise ValueError("fragment without a packed inode")
        packed = Node("", nid, self._image.inode(nid))
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
