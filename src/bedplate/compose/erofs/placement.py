"""Where an image that mkfs.erofs made for us holds its data: what is needed to cut it into objects."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.compose.erofs import clusters, format
from bedplate.compose.erofs.format import Incompat, Layout
from bedplate.compose.erofs.reader import ErofsImage, Node


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a file's data lies, in blocks and bytes: what a linker needs to move it.

    Flat data: ``block``, ``blocks`` whole blocks, ``tail`` the bytes after them. Compressed data: ``header`` and
    ``index`` as stored (at ``alignment`` within 32 bytes), its addresses from ``block`` on, without gaps.
    """

    block: int
    blocks: int
    tail: bytes = b""
    header: bytes = b""
    index: bytes = b""
    alignment: int = 0


def configurations(image: ErofsImage) -> bytes:
    """The compression configurations behind the superblock, each with its length, as stored."""
    if not image.superblock.incompat & Incompat.BIG_PCLUSTER:
        return b""
    start = at = format.SUPERBLOCK_OFFSET + format.SUPERBLOCK_SIZE + 16 * image.superblock.extension_slots
    try:
        for _ in range(image.superblock.algorithms.bit_count()):
            at += 2 + int.from_bytes(image.meta(at, 2), "little")
        return image.meta(start, at - start)
    except ValueError as error:
        raise image.bad(str(error)) from error


def placement(image: ErofsImage, node: Node) -> Placement:
    """Where a regular file's data lies, for the linker. Fragments, chunks and gaps cannot be moved."""
    inode = node.inode
    try:
        if inode.layout in (Layout.FLAT_PLAIN, Layout.FLAT_INLINE):
            whole = inode.size >> format.BLOCK_BITS
            rest = inode.size % format.BLOCK
            if inode.layout == Layout.FLAT_INLINE:
                tail = image.inline(node, rest)
            else:
                start = (inode.value + whole) << format.BLOCK_BITS
                tail = image.raw(start, start + rest) if rest else b""
            return Placement(inode.value if whole else 0, whole, tail)
        if inode.layout != Layout.COMPRESSED_COMPACT:
            raise ValueError("a layout that cannot be moved")
        header, at, size, _ = image.index(node)
        runs = image.heads(node)[1]
        if header.cluster_bits or header.fragment or not runs:
            raise ValueError("fragments, inlined clusters or large logical clusters cannot be moved")
        expected = runs[0].block
        for run in runs:
            if run.block != expected:
                raise ValueError("compressed file with gaps")
            expected += run.blocks if run.start < inode.size else 0
        if expected - runs[0].block != inode.value:
            raise ValueError("compressed file whose block count does not fit")
        index = image.meta(at, size)
        header_bytes = image.meta(at - clusters.HEADER_SIZE, clusters.HEADER_SIZE)
        return Placement(runs[0].block, inode.value, b"", header_bytes, index, at % 32)
    except ValueError as error:
        raise image.bad(str(error), node.path) from error
