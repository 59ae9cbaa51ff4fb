"""Content groups: sets of file contents that are read, cached and compressed together.

A group is one package's selected files, one set of owned files, or one stage's output. Its key is a digest of all its
bytes depend on; whatever was made from a group can be kept under its key.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from bedplate.model.digest import identity, sha256
from bedplate.model.errors import BedplateError
from bedplate.model.package import PackageContent
from bedplate.model.tree import Transform

GROUP_FORMAT = 1
# A kernel module is at most a few MiB; anything beyond this is a decompression bomb, not a module.
MAX_TRANSFORMED_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GroupFile:
    """One file of a group: its name within it, and size (bytes) and hex SHA-256 of what lies in the image."""

    path: str
    size: int
    sha256: str
    transform: Transform = Transform.NONE
    source: str = ""

    @property
    def source_path(self) -> str:
        """The file's path in its package, where that differs from its path in the image."""
        return self.source or self.path


@dataclass(frozen=True)
class ContentGroup:
    """Files whose bytes come from one place; ``owner`` is ``package:NAME``, ``files:SET`` or ``stage:NAME``."""

    owner: str
    files: tuple[GroupFile, ...]

    @cached_property
    def key(self) -> str:
        """Hex digest of names and contents: two groups of one key hold the same bytes."""
        return identity([GROUP_FORMAT, [[file.path, file.size, file.sha256] for file in self.files]])

    @cached_property
    def by_path(self) -> dict[str, GroupFile]:
        """Files by their path in the image."""
        return {file.path: file for file in self.files}


class GroupSource(Protocol):
    """Where a group's bytes come from."""

    def read(self, group: ContentGroup, paths: Iterable[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of the group's files (all, or those of ``paths``), decompressing a package once.

        Raises:
            BedplateError: a content does not have the size and digest the plan says.
        """
        ...


def unxz(data: bytes, where: str) -> bytes:
    """Decompress an .xz stream (xz file format 1.2), bounded.

    Raises:
        BedplateError: not an xz stream, cut short, or larger than any kernel module.
    """
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=512 * 1024 * 1024)
    try:
        plain = decompressor.decompress(data, MAX_TRANSFORMED_BYTES)
    except lzma.LZMAError as error:
        raise BedplateError(
            f"not a valid xz stream ({error})", where=where, remedy="import the package again"
        ) from error
    if not decompressor.eof:
        raise BedplateError("the xz stream is cut short or larger than allowed", where=where, remedy="import it again")
    return plain


class Unpacked:
    """Turns package bytes into image bytes and remembers the result for one build: the same kernel modules are looked
    into, indexed by depmod, compressed, and put into the initrd. Several threads may use it at once."""

    def __init__(self) -> None:
        self._plain: dict[str, bytes] = {}

    def transformed(self, data: bytes, transform: Transform, where: str) -> bytes:
        """``data`` as it lies in the image.

        Raises:
            BedplateError: see :func:`unxz`.
        """
        if transform is Transform.NONE:
            return data
        key = sha256(data)
        plain = self._plain.get(key)
        if plain is None:
            plain = self._plain[key] = unxz(data, where)
        return plain


class Contents:
    """A :class:`GroupSource` over packages, files on disk and bytes in memory.

    Args:
        packages: The image's packages, by name.
        files: ``owner`` of a set of owned files -> path in the image -> file on disk.
        stages: ``owner`` of a stage -> path in the image -> content.
        unpacked: Where results of unpacking are shared with other steps of the build.
    """

    def __init__(
        self,
        packages: Mapping[str, PackageContent],
        files: Mapping[str, Mapping[str, Path]] | None = None,
        stages: Mapping[str, Mapping[str, bytes]] | None = None,
        unpacked: Unpacked | None = None,
    ) -> None:
        self._packages = packages
        self._files = files or {}
        self._stages: dict[str, Mapping[str, bytes]] = dict(stages or {})
        self._unpacked = unpacked or Unpacked()

    def add_stage(self, owner: str, contents: Mapping[str, bytes]) -> None:
        """Make the output of a stage readable."""
        self._stages[owner] = contents

    def read(self, group: ContentGroup, paths: Iterable[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """See :class:`GroupSource`."""
        wanted = group.by_path if paths is None else {path: group.by_path[path] for path in paths}
        kind, _, name = group.owner.partition(":")
        if kind == "package":
            yield from self._read_package(self._packages[name], group.owner, wanted)
            return
        for path, file in wanted.items():
            data = self._files[group.owner][path].read_bytes() if kind == "files" else self._stages[group.owner][path]
            yield path, _checked(data, file, group.owner)

    def _read_package(
        self, package: PackageContent, owner: str, wanted: Mapping[str, GroupFile]
    ) -> Iterator[tuple[str, bytes]]:
        by_source: dict[str, list[GroupFile]] = {}
        for file in wanted.values():
            by_source.setdefault(file.source_path, []).append(file)
        left = set(wanted)
        for entry, data in package.read(by_source.__contains__):
            for file in by_source[entry.path]:
                left.discard(file.path)
                content = self._unpacked.transformed(data, file.transform, f"{owner} {entry.path}")
                yield file.path, _checked(content, file, owner)
            if not left:
                return  # each content has been checked: nothing is gained by reading on to the end of the payload
        if left:
            raise BedplateError(
                f"{owner} does not hold {min(left)}, which its header lists", remedy="import the package again"
            )


def _checked(data: bytes, file: GroupFile, owner: str) -> bytes:
    if len(data) != file.size or sha256(data) != file.sha256:
        raise BedplateError(
            "the content is not what the plan says: it changed while the build ran, or the cache is damaged",
            where=f"{owner} {file.path}",
            remedy="build again; if it stays so, empty the cache",
        )
    return data
