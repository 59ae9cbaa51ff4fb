"""A read file system as others see it: paths with their inodes, whatever the format on the disk is."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class FileNode:
    """One path: absolute, with its inode's number and fields. ``mode`` has type and permission bits, ``size`` is in
    bytes, ``mtime`` in seconds since 1970. Two paths of one ``number`` are two names of one file."""

    path: str
    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symbolic link."""
        return stat.S_ISLNK(self.mode)


class FileSystem(Protocol):
    """An open file system. Its methods raise :class:`bedplate.model.errors.BadInput` where it is damaged."""

    @property
    def total_bytes(self) -> int:
        """Size of the file system."""
        ...

    @property
    def uuid(self) -> UUID:
        """Its own identifier."""
        ...

    def walk(self) -> Iterator[FileNode]:
        """Every path, the root first, each directory before what it holds, in byte order."""
        ...

    def stream(self, node: FileNode) -> Iterator[bytes]:
        """A file's content, or a link's target, in pieces of at most a few MiB."""
        ...

    def xattrs(self, node: FileNode) -> tuple[tuple[str, bytes], ...]:
        """Extended attributes, sorted by name."""
        ...

    def stored(self, node: FileNode) -> int:
        """Bytes a file's content takes on the disk."""
        ...


def read_node(system: FileSystem, node: FileNode, limit: int) -> bytes:
    """The content of a file or link, at most ``limit`` bytes of it: more is a reason not to look at it at all."""
    return b"".join(system.stream(node)) if node.size <= limit else b""
