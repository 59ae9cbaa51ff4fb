"""Small packages, owned sets and definitions in memory, for tests of the compose engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bedplate.compose.groups import Contents
from bedplate.compose.owned import OwnedSet
from bedplate.compose.plan import PlannedPackage, TreePlan, plan_tree
from bedplate.model.definition.facts import Ids, PackageFacts, User
from bedplate.model.digest import identity, sha256
from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileKind, Nevra, SourceRef

EPOCH = 1_700_000_000
IDS = Ids(
    users={"root": User(uid=0), "daemon": User(uid=1), "alice": User(uid=900, group="staff")},
    groups={"shadow": 42, "staff": 50},
)


@dataclass
class MemoryPackage:
    """A package in memory; implements ``PackageContent``."""

    name: str
    entries: tuple[FileEntry, ...]
    contents: Mapping[str, bytes] = field(default_factory=dict)
    reads: int = 0

    @property
    def nevra(self) -> Nevra:
        return Nevra(self.name, Evr(0, "1", "1"), "x86_64")

    @property
    def source(self) -> SourceRef:
        return SourceRef(self.name, Evr(0, "1", "1"))

    @property
    def digest(self) -> str:
        return identity([self.name, sorted([path, sha256(data)] for path, data in self.contents.items())])

    @property
    def files(self) -> tuple[FileEntry, ...]:
        return tuple(sorted(self.entries, key=lambda e: e.path))

    def read(self, wanted: Callable[[str], bool]) -> Iterator[tuple[FileEntry, bytes]]:
        self.reads += 1
        for entry in self.files:
            if entry.kind is FileKind.FILE and wanted(entry.path):
                yield entry, self.contents[entry.path]


def regular(path: str, data: bytes = b"x", mode: int = 0o644, user: str = "root", group: str = "root") -> FileEntry:
    """A regular file of a package."""
    return FileEntry(path, FileKind.FILE, mode, user, group, size=len(data), sha256=sha256(data))


def folder(path: str, mode: int = 0o755) -> FileEntry:
    """A directory of a package."""
    return FileEntry(path, FileKind.DIRECTORY, mode)


def symlink(path: str, target: str) -> FileEntry:
    """A symbolic link of a package."""
    return FileEntry(path, FileKind.SYMLINK, 0o777, target=target)


def package(name: str, files: Mapping[str, bytes] | None = None, *extra: FileEntry) -> MemoryPackage:
    """A package of regular files (path -> content) and further entries."""
    contents = dict(files or {})
    return MemoryPackage(name, (*(regular(path, data) for path, data in contents.items()), *extra), contents)


def plan(
    *packages: MemoryPackage,
    sets: tuple[OwnedSet, ...] = (),
    drop: tuple[str, ...] = (),
    facts: Mapping[str, PackageFacts] | None = None,
) -> TreePlan:
    """The tree plan of packages and sets, without kernel modules."""
    planned = [PlannedPackage(p.name, p.files) for p in packages]
    return plan_tree(planned, sets, facts or {}, IDS, drop, {}, EPOCH)


def contents_of(*packages: MemoryPackage) -> Contents:
    """Where the bytes of a plan of these packages are."""
    return Contents({p.name: p for p in packages})
