"""The linker: a root file system from EROFS objects and a tree of entries.

The objects' compressed blocks are laid behind one another as they are; superblock, inodes, attributes, directories and
compression indexes are written anew, with the blocks' new addresses.

Layout of an image: the superblock; all inodes in order of their paths, each followed by its attributes, index or
inlined tail; from a multiple of :data:`DATA_ALIGNMENT` on the data: directories larger than a block, then the content
group by group. A group's blocks stay together and in order, so that an update finds unchanged packages as long runs of
known blocks, and a change of a few inodes does not move the data.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from uuid import UUID

from bedplate.compose.erofs import format
from bedplate.compose.erofs.clusters import Advise, MapHeader, decode_compact, encode_compact, relocate_compact
from bedplate.compose.erofs.format import BLOCK, Compat, Layout, Superblock
from bedplate.compose.erofs.inodes import LinkedInode, Tree, build_tree
from bedplate.compose.erofs.objects import INDEX_ALIGNMENT, ErofsObject, Features, ObjectFile
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.tree import TreeEntry

DATA_ALIGNMENT = 64 * BLOCK
_ROOT_NID_MAX = 0xFFFF
_HOLES = 32


@dataclass(frozen=True, slots=True)
class LinkResult:
    """What was written: size in bytes and blocks, blocks of metadata, number of inodes and of distinct data blocks."""

    bytes: int
    blocks: int
    metadata_blocks: int
    inodes: int
    data_blocks: int


@dataclass(slots=True)
class _Run:
    """Blocks to copy from an object: from ``start`` on, ``count`` of them, to block ``target`` of the image."""

    object: ErofsObject
    start: int
    count: int
    target: int


def link(
    entries: Sequence[TreeEntry],
    objects: Mapping[str, ErofsObject],
    out: Path,
    *,
    uuid: UUID,
    epoch_time: int,
    label: str = "",
) -> LinkResult:
    """Write the image of ``entries`` to ``out``, atomically.

    Args:
        entries: Every path once, with its parents; ``/`` may be left out (root, 0755, ``epoch_time``).
        objects: The objects that hold the content, by group key.
        out: The image file.
        uuid: The file system's UUID.
        epoch_time: Base time of the image, in seconds since 1970: entries of this time get the small inode.
        label: Volume name, at most 15 bytes.

    Raises:
        BadInput: entries that are no tree: a path twice, a parent missing, a hard link to nothing.
        BedplateError: content that no object holds, or of another size; a disk error.
        DamagedObjectError: an object's data are not what was written; it has been removed.
    """
    if len(label.encode()) > 15:
        raise BadInput("a volume label has at most 15 bytes", where=label)
    tree = build_tree(entries, objects, epoch_time)
    used = [objects[key] for key in sorted({inode.group for inode in tree.inodes if inode.group})]
    features = _features(used)
    configurations = features.configurations
    metadata_end = _place_inodes(tree, format.SUPERBLOCK_OFFSET + format.SUPERBLOCK_SIZE + len(configurations))
    data_start = -(-metadata_end // DATA_ALIGNMENT) * DATA_ALIGNMENT // BLOCK
    literals, runs, end = _place_data(tree, objects, data_start)
    metadata = bytearray(data_start * BLOCK)
    _write_inodes(tree, metadata)
    superblock = Superblock(
        root_nid=tree.root.nid,
        inodes=len(tree.inodes),
        blocks=end,
        epoch_time=epoch_time,
        uuid=uuid.bytes,
        compat=Compat.SB_CHECKSUM | Compat.MTIME,
        incompat=features.incompat,
        algorithms=features.algorithms,
        label=label.encode(),
    )
    at = format.SUPERBLOCK_OFFSET
    metadata[at + format.SUPERBLOCK_SIZE : at + format.SUPERBLOCK_SIZE + len(configurations)] = configurations
    metadata[at : at + format.SUPERBLOCK_SIZE] = superblock.pack()
    checksum = format.superblock_checksum(bytes(metadata[:BLOCK]))
    metadata[at : at + format.SUPERBLOCK_SIZE] = replace(superblock, checksum=checksum).pack()
    _write_image(out, metadata, literals, runs, end)
    return LinkResult(end * BLOCK, end, data_start, len(tree.inodes), sum(run.count for run in runs))


def _features(used: Sequence[ErofsObject]) -> Features:
    """What an image of these objects must announce.

    Raises:
        BedplateError: objects made with different options.
    """
    kinds = {item.features for item in used}
    if len(kinds) > 1:
        raise BedplateError("objects of different compression options cannot be linked into one image")
    return next(iter(kinds), Features(0, 0, b""))


def _place_inodes(tree: Tree, start: int) -> int:
    """Give every inode its number. Returns where the metadata ends, in bytes.

    Inodes follow one another in order of paths. An inlined tail must not cross a block: where it would, the inode moves
    on so far that its tail starts with the block, and the hole is filled with the next inodes that fit.
    """
    end = -(-start // format.SLOT) * format.SLOT
    holes: list[tuple[int, int]] = []
    for inode in tree.inodes:
        position = None
        size = inode.meta_size + inode.inline_size
        for number, (hole_start, hole_end) in enumerate(holes):
            if hole_start + size <= hole_end and _fits(hole_start, inode):
                position = hole_start
                rest = -(-(hole_start + size) // format.SLOT) * format.SLOT
                if rest < hole_end:
                    holes[number] = (rest, hole_end)
                else:
                    del holes[number]
                break
        if position is None:
            position = end
            if not _fits(position, inode):
                border = -(-(position + inode.meta_size) // BLOCK) * BLOCK
                position = -(-(border - inode.meta_size) // format.SLOT) * format.SLOT
                holes = [*holes[-_HOLES:], (end, position)]
            end = -(-(position + size) // format.SLOT) * format.SLOT
        inode.nid = position // format.SLOT
    if tree.root.nid > _ROOT_NID_MAX:
        raise BedplateError("the root directory's inode lies too far from the start")
    return end


def _fits(position: int, inode: LinkedInode) -> bool:
    return not inode.inline_size or (position + inode.meta_size) % BLOCK + inode.inline_size <= BLOCK


def _place_data(
    tree: Tree, objects: Mapping[str, ErofsObject], start: int
) -> tuple[list[tuple[int, LinkedInode]], list[_Run], int]:
    """Give every inode with blocks its first block.

    Returns blocks that are written (number of the first, of which inode), blocks that are copied, and the end.
    """
    literals: list[tuple[int, LinkedInode]] = []
    runs: list[_Run] = []
    end = start
    for inode in tree.inodes:
        if not inode.group and inode.literal_blocks:
            inode.block = end
            literals.append((end, inode))
            end += inode.literal_blocks

    owners = tree.group_owners()
    # One content that two groups hold is laid down once, where it comes first.
    placed: dict[tuple[bytes, bool, bytes], int] = {}
    for key in sorted(owners, key=lambda key: (owners[key], key)):
        item = objects[key]
        wanted = sorted(
            (inode for inode in tree.by_group[key] if inode.file is not None), key=lambda i: (i.file_block, i.name)
        )
        for inode in wanted:
            file = inode.file
            assert file is not None
            tail = file.tail if inode.layout == Layout.FLAT_PLAIN else b""
            if not file.blocks and not tail:
                continue
            identity = (file.sha256, file.compressed, tail)
            known = placed.get(identity)
            if known is not None:
                inode.block = known
                continue
            inode.block = placed[identity] = end
            if file.blocks:
                last = runs[-1] if runs else None
                if (
                    last
                    and last.object is item
                    and last.start + last.count == file.block
                    and last.target + last.count == end
                ):
                    last.count += file.blocks
                else:
                    runs.append(_Run(item, file.block, file.blocks, end))
                end += file.blocks
            if tail:
                literals.append((end, inode))
                end += 1
    return literals, runs, end


def _literal(inode: LinkedInode) -> bytes:
    """What an inode has in blocks of its own and no object holds: a directory, a long link, a tail not inlined."""
    if not inode.names:
        return inode.data
    whole = [block.ljust(BLOCK, b"\0") for block in inode.directory()]
    return b"".join(whole[: inode.literal_blocks])


def _write_inodes(tree: Tree, metadata: bytearray) -> None:
    for inode in tree.inodes:
        at = inode.nid * format.SLOT
        parts = [inode.fields().pack(), inode.xattrs]
        if inode.file is not None and inode.file.compressed:
            parts.append(_index(inode, inode.file))
        elif inode.inline_size:
            parts.append(inode.directory()[-1] if inode.names else inode.data)
        data = b"".join(parts)
        if len(data) != inode.meta_size + inode.inline_size:
            raise BedplateError("an inode came out with another size than planned", where=inode.path)
        metadata[at : at + len(data)] = data


def _index(inode: LinkedInode, file: ObjectFile) -> bytes:
    """Map header and index of a compressed file at its new place."""
    count = -(-file.size // BLOCK)
    two_byte = bool(MapHeader.unpack(file.header).advise & Advise.COMPACTED_2B)
    padding = bytes(-len(inode.xattrs) % 8)
    if inode.index_alignment == INDEX_ALIGNMENT or not two_byte:
        index = relocate_compact(file.index, count, INDEX_ALIGNMENT, two_byte, inode.block)
    else:
        heads = decode_compact(file.index, count, INDEX_ALIGNMENT, MapHeader.unpack(file.header))
        moved = [head._replace(block=head.block + inode.block) for head in heads]
        index = encode_compact(moved, count, inode.index_alignment, two_byte)
    return padding + file.header + index


def _write_image(
    out: Path, metadata: bytearray, literals: list[tuple[int, LinkedInode]], runs: list[_Run], blocks: int
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=f".{out.name}-", dir=out.parent, delete=False) as stream:
        try:
            target = stream.fileno()
            os.truncate(target, blocks * BLOCK)
            _write_at(target, metadata, 0)
            for block, inode in literals:
                _write_at(target, _literal(inode), block * BLOCK)
            # The runs of an object follow one another: one is in memory at a time.
            for _, group in groupby(runs, key=lambda run: run.object.path):
                its_runs = list(group)
                data = memoryview(its_runs[0].object.data())
                for run in its_runs:
                    _write_at(target, data[run.start * BLOCK : (run.start + run.count) * BLOCK], run.target * BLOCK)
            os.fchmod(target, 0o644)
            Path(stream.name).rename(out)
        except BaseException:
            Path(stream.name).unlink(missing_ok=True)
            raise


def _write_at(target: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, offset)
        view = view[written:]
        offset += written
