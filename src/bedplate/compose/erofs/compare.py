"""Differences of two EROFS images, path by path: what a rebuild that did not give the same bytes shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from bedplate.compose.erofs.reader import ErofsImage, Node


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: ``what`` is ``only in first``, ``only in second``, or the name of a property, whose two
    values ``first`` and ``second`` are given as text."""

    path: str
    what: str
    first: str = ""
    second: str = ""

    def __str__(self) -> str:
        if not self.first and not self.second:
            return f"{self.path}: {self.what}"
        return f"{self.path}: {self.what} {self.first} / {self.second}"


def compare_images(first: ErofsImage, second: ErofsImage) -> Iterator[Difference]:
    """Differences in paths, kind and mode, owner, time, link count, attributes, size and content (by SHA-256).

    Where data lies in the image is not compared: two images without a difference here can still differ in bytes.

    Raises:
        BadImage: one of them is damaged.
    """
    others = {node.path: node for node in second.walk()}
    for node in first.walk():
        other = others.pop(node.path, None)
        if other is None:
            yield Difference(node.path, "only in first")
            continue
        before = _properties(first, node)
        after = _properties(second, other)
        for name, value in before.items():
            if after[name] != value:
                yield Difference(node.path, name, value, after[name])
        if before["mode"] == after["mode"] and not node.is_directory:
            digests = _digest(first, node), _digest(second, other)
            if digests[0] != digests[1]:
                yield Difference(node.path, "content", *digests)
    for path in sorted(others):
        yield Difference(path, "only in second")


def _properties(image: ErofsImage, node: Node) -> dict[str, str]:
    inode = node.inode
    mtime = image.superblock.epoch_time if inode.mtime is None else inode.mtime
    return {
        "mode": f"{inode.mode:o}",
        "owner": f"{inode.uid}:{inode.gid}",
        "mtime": f"{mtime}.{inode.mtime_nanoseconds:09d}",
        "links": str(inode.nlink),
        "attributes": ", ".join(f"{name}={value.hex()}" for name, value in image.xattrs(node)),
        "size": "" if node.is_directory else str(inode.size),
    }


def _digest(image: ErofsImage, node: Node) -> str:
    digest = hashlib.sha256()
    for piece in image.stream(node):
        digest.update(piece)
    return digest.hexdigest()
