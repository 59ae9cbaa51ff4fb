"""An upstream package on its way to becoming ours: everything decided, nothing written yet."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from bedplate.model.definition.facts import PackageFacts
from bedplate.model.errors import Finding
from bedplate.model.package import Candidate, FileEntry, Script, UpstreamPackage
from bedplate.packages.rpm.spec import Contents, PackageSpec

SPOOL_ABOVE = 192 * 1024 * 1024
"""A payload that says it is larger than this is kept in a file beside the cache, not in memory."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what becomes of one upstream file, besides its bytes. Plain data, sent to worker processes.

    ``candidate`` holds the relations, dropped ones already left out. ``directories`` are those that ``filesystem``
    owns: no other package does. ``accounts`` is a sysusers.d(5) text with the frozen ids of the accounts the package
    brings, empty when it brings none.
    """

    package: UpstreamPackage
    candidate: Candidate
    facts: PackageFacts | None
    directories: frozenset[str]
    accounts: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A package ready to be written. ``scripts`` are upstream's, none of which is in ``spec``."""

    spec: PackageSpec
    contents: Contents
    scripts: tuple[Script, ...]
    findings: tuple[Finding, ...]


class PayloadStore(AbstractContextManager["PayloadStore"]):
    """Contents of one payload by path: in memory, or in an unnamed file below ``directory`` when it is large.

    Args:
        expected: Bytes the payload is said to have.
    """

    def __init__(self, expected: int, directory: Path) -> None:
        self._memory: dict[str, bytes] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        if expected > SPOOL_ABOVE:
            self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by __exit__

    def put(self, path: str, data: bytes) -> None:
        """Keep ``data`` as the content of ``path``."""
        if self._file is None:
            self._memory[path] = data
            return
        self._places[path] = (self._file.tell(), len(data))
        self._file.write(data)

    def copy(self, source: str, path: str) -> int:
        """Give ``path`` the content of ``source``; gives its size in bytes.

        Raises:
            KeyError: nothing was put there.
        """
        if self._file is None:
            self._memory[path] = self._memory[source]
            return len(self._memory[path])
        self._places[path] = self._places[source]
        return self._places[path][1]

    def text(self, path: str) -> str:
        """The content of a small file as text, while more may still be put."""
        if self._file is None:
            return self._memory[path].decode(errors="replace")
        offset, size = self._places[path]
        self._file.flush()
        return os.pread(self._file.fileno(), size, offset).decode(errors="replace")

    def get(self, path: str) -> memoryview:
        """The content of ``path``; nothing may be put any more."""
        if self._file is None:
            return memoryview(self._memory[path])
        offset, size = self._places[path]
        if not size:
            return memoryview(b"")
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)[offset : offset + size]

    def contents(self, entry: FileEntry) -> Iterable[memoryview]:
        """What the RPM writer asks for: the content of a file, by the first name of its link group."""
        return (self.get(entry.hardlink or entry.path),)

    def paths(self) -> Iterator[str]:
        """Every path that has content."""
        yield from self._places if self._file is not None else self._memory

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory.clear()
        if self._file is not None:
            self._file.close()
