"""From tree entries to inodes: checks that entries are a tree, joins hard links, and plans each inode's form."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bedplate.compose.erofs import format
from bedplate.compose.erofs.clusters import HEADER_SIZE, Advise, MapHeader, compact_size
from bedplate.compose.erofs.format import BLOCK, FileType, Inode, Layout
from bedplate.compose.erofs.objects import INDEX_ALIGNMENT, ErofsObject, ObjectFile
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.package import FileKind
from bedplate.model.tree import TreeEntry

_TYPES = {
    FileKind.FILE: (stat.S_IFREG, FileType.REGULAR),
    FileKind.DIRECTORY: (stat.S_IFDIR, FileType.DIRECTORY),
    FileKind.SYMLINK: (stat.S_IFLNK, FileType.SYMLINK),
}


@dataclass(slots=True)
class LinkedInode:
    """One inode of the image being linked. ``nid`` and ``block`` are filled in when places are given out."""

    path: str
    name: str
    mode: int
    type: FileType
    uid: int
    gid: int
    mtime: int
    number: int
    owner: str
    size: int
    compact: bool
    xattrs: bytes
    layout: Layout = Layout.FLAT_PLAIN
    nlink: int = 1
    group: str = ""
    file: ObjectFile | None = None
    data: bytes = b""
    names: list[list[bytes]] = field(default_factory=list)
    targets: dict[bytes, LinkedInode] = field(default_factory=dict)
    meta_size: int = 0
    inline_size: int = 0
    literal_blocks: int = 0
    index_alignment: int = 0
    nid: int = 0
    block: int = 0

    @property
    def file_block(self) -> int:
        """Where the content starts in its object, in blocks."""
        return self.file.block if self.file is not None else 0

    def directory(self) -> list[bytes]:
        """A directory's blocks, not padded."""
        return [
            format.pack_directory_block(names, [(self.targets[name].nid, self.targets[name].type) for name in names])
            for names in self.names
        ]

    def fields(self) -> Inode:
        """The inode as it goes to disk."""
        compressed = self.file is not None and self.file.compressed
        value = self.file.blocks if self.file is not None and compressed else self.block
        return Inode(
            self.layout, self.mode, self.size, value, self.number, self.uid, self.gid, self.nlink, self.mtime,
            format.xattr_count(self.xattrs), 0, self.compact,
        )  # fmt: skip


@dataclass(slots=True)
class Tree:
    """All inodes in order of their paths, the root first, and those with content by group."""

    root: LinkedInode
    inodes: list[LinkedInode]
    by_group: dict[str, list[LinkedInode]]

    def group_owners(self) -> dict[str, str]:
        """Group key → the owner its content is sorted under."""
        return {key: min(inode.owner for inode in inodes) for key, inodes in self.by_group.items()}


def build_tree(entries: Sequence[TreeEntry], objects: Mapping[str, ErofsObject], epoch_time: int) -> Tree:
    """Check the entries and plan their inodes.

    Raises:
        BadInput: a path twice, not canonical or without its parent directory; a broken hard link.
        BedplateError: content that no object holds.
    """
    by_path = _by_path(entries, epoch_time)
    inodes: dict[str, LinkedInode] = {}
    by_group: dict[str, list[LinkedInode]] = {}
    children: dict[str, list[tuple[bytes, LinkedInode]]] = {}
    order = sorted(by_path, key=lambda path: [part.encode() for part in path.split("/")])
    planned: list[LinkedInode] = []
    for path in order:
        entry = by_path[path]
        leader = by_path.get(entry.hardlink) if entry.hardlink else entry
        if leader is None or (leader.kind != FileKind.FILE and leader is not entry):
            raise BadInput(f"hard link to {entry.hardlink}, which is no file of the image", where=_who(entry))
        if leader is not entry and leader.hardlink not in ("", leader.path):
            raise BadInput(f"hard link to {leader.path}, which is itself a link", where=_who(entry))
        known = inodes.get(leader.path)
        if known is None:
            known = inodes[leader.path] = _plan(leader, objects, epoch_time, len(planned) + 1)
            planned.append(known)
            if known.group:
                by_group.setdefault(known.group, []).append(known)
        else:
            known.nlink += 1
        if leader is not entry and _shared(leader) != _shared(entry):
            raise BadInput(f"hard link differs from {leader.path} in mode, owner, time or content", where=_who(entry))
        if path != "/":
            parent, _, name = path.rpartition("/")
            children.setdefault(parent or "/", []).append((os.fsencode(name), known))
    root = inodes["/"]
    for inode in planned:
        if inode.type == FileType.DIRECTORY:
            below = children.pop(inode.path, [])
            _plan_directory(inode, inodes[inode.path.rpartition("/")[0] or "/"], below)
    for inode in planned:
        _plan_size(inode, epoch_time)
    return Tree(root, planned, by_group)


def _by_path(entries: Sequence[TreeEntry], epoch_time: int) -> dict[str, TreeEntry]:
    by_path: dict[str, TreeEntry] = {}
    for entry in entries:
        other = by_path.get(entry.path)
        if other is not None:
            raise BadInput(
                f"two owners: {other.owner} and {entry.owner}",
                where=entry.path,
                remedy="drop the path from one of them in distro/packages",
            )
        by_path[entry.path] = entry
    by_path.setdefault("/", TreeEntry("/", FileKind.DIRECTORY, 0o755, 0, 0, epoch_time, "image"))
    for path, entry in by_path.items():
        if path == "/":
            parent = entry
        else:
            above, _, name = path.rpartition("/")
            if not path.startswith("/") or above == "/" or name in ("", ".", "..") or "\0" in path:
                raise BadInput("not a canonical path", where=_who(entry))
            if len(os.fsencode(name)) > format.NAME_MAX:
                raise BadInput(f"name longer than {format.NAME_MAX} bytes", where=_who(entry))
            found = by_path.get(above or "/")
            if found is None:
                raise BadInput("its parent directory belongs to nobody", where=_who(entry))
            parent = found
        if parent.kind != FileKind.DIRECTORY:
            raise BadInput(f"lies below {parent.path}, which is no directory", where=_who(entry))
    return by_path


def _who(entry: TreeEntry) -> str:
    return f"{entry.path} ({entry.owner})"


def _shared(entry: TreeEntry) -> tuple[object, ...]:
    return (entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, entry.xattrs)


def _plan(entry: TreeEntry, objects: Mapping[str, ErofsObject], epoch_time: int, number: int) -> LinkedInode:
    kind, file_type = _TYPES[entry.kind]
    try:
        xattrs = format.pack_xattrs(entry.xattrs)
    except ValueError as error:
        raise BadInput(str(error), where=_who(entry)) from error
    if entry.mode & ~0o7777 or not 0 <= entry.uid < 1 << 32 or not 0 <= entry.gid < 1 << 32 or entry.mtime < 0:
        raise BadInput("mode, owner or time out of range", where=_who(entry))
    inode = LinkedInode(
        path=entry.path,
        name=entry.path,
        mode=kind | entry.mode,
        type=file_type,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        number=number,
        owner=entry.owner,
        size=entry.size,
        compact=False,
        xattrs=xattrs,
    )
    if entry.kind == FileKind.SYMLINK:
        inode.data = os.fsencode(entry.target)
        inode.size = len(inode.data)
        if not 0 < inode.size < BLOCK:
            raise BadInput("link with an empty or too long target", where=_who(entry))
    elif entry.kind == FileKind.FILE and entry.content is not None:
        group = objects.get(entry.content.group)
        file = group.files.get(entry.content.path) if group is not None else None
        if file is None:
            raise BedplateError(f"no object holds the content {entry.content.path}", where=_who(entry))
        if file.size != entry.size:
            raise BedplateError(f"content has {file.size} bytes, {entry.size} were planned", where=_who(entry))
        inode.group = entry.content.group
        inode.file = file
        inode.data = file.tail
    elif entry.kind == FileKind.FILE and entry.size:
        raise BedplateError("a file without content", where=_who(entry))
    return inode


def _plan_directory(inode: LinkedInode, parent: LinkedInode, below: list[tuple[bytes, LinkedInode]]) -> None:
    inode.targets = {b".": inode, b"..": parent, **dict(below)}
    inode.names = format.directory_blocks(inode.targets)
    inode.size = format.directory_size(inode.names)
    inode.nlink = 2 + sum(child.type == FileType.DIRECTORY for _, child in below)


def _plan_size(inode: LinkedInode, epoch_time: int) -> None:
    """Choose the inode's form and layout, and the bytes it takes in the metadata."""
    inode.compact = (
        inode.mtime == epoch_time
        and inode.uid < 1 << 16
        and inode.gid < 1 << 16
        and inode.nlink < 1 << 16
        and inode.size < 1 << 32
    )
    base = (format.COMPACT_SIZE if inode.compact else format.EXTENDED_SIZE) + len(inode.xattrs)
    if inode.file is not None and inode.file.compressed:
        inode.layout = Layout.COMPRESSED_COMPACT
        start = base + -base % 8 + HEADER_SIZE
        inode.index_alignment = start % format.SLOT
        two_byte = bool(MapHeader.unpack(inode.file.header).advise & Advise.COMPACTED_2B)
        alignment = inode.index_alignment if two_byte else INDEX_ALIGNMENT
        inode.meta_size = start + compact_size(-(-inode.size // BLOCK), alignment, two_byte)
        return
    inode.meta_size = base
    tail = inode.size % BLOCK
    whole = inode.size // BLOCK
    if tail and base % BLOCK + tail <= BLOCK:
        inode.layout = Layout.FLAT_INLINE
        inode.inline_size = tail
        inode.literal_blocks = whole
    else:
        inode.layout = Layout.FLAT_PLAIN
        inode.literal_blocks = whole + bool(tail)
