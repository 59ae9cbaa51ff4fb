"""What a package is: names, files, scripts, and where its bytes come from.

Three views of one package follow the way of the data:
:class:`UpstreamPackage` (a line of a verified upstream index) → :class:`Candidate` (the same in RPM's terms, what the
solver chooses from) → :class:`PackageContent` (our finished RPM, what an image is composed from).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag, StrEnum, auto
from typing import Protocol

from bedplate.model.evr import Evr


@dataclass(frozen=True, slots=True, order=True)
class Nevra:
    """Name, EVR and architecture of an RPM."""

    name: str
    evr: Evr
    arch: str

    def __str__(self) -> str:
        return f"{self.name}-{self.evr}.{self.arch}"

    @property
    def filename(self) -> str:
        """File name of the RPM: ``name-version-release.arch.rpm``, without the epoch."""
        return f"{self.name}-{self.evr.version}-{self.evr.release}.{self.arch}.rpm"


@dataclass(frozen=True, slots=True)
class SourceRef:
    """The source package a binary was built from, in RPM's terms. Advisories match on this, never on the binary."""

    name: str
    evr: Evr

    def __str__(self) -> str:
        return f"{self.name}-{self.evr}"


@dataclass(frozen=True, slots=True)
class Location:
    """Where an upstream file lies: the upstream's id, the path below its mirror, and what its bytes must be."""

    upstream: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class UpstreamPackage:
    """One package of a verified upstream index, in the upstream's own terms.

    ``format`` names the plug-in that understands it ("deb" or "rpm"). ``fields`` holds the relations in native syntax:
    for deb the control fields as written (``{"Depends": ("libc6 (>= 2.38), foo | bar",)}``); for rpm one string per
    relation under requires, provides, conflicts, obsoletes, recommends, suggests, supplements, enhances and files.
    """

    format: str
    name: str
    version: str
    arch: str
    source_name: str
    source_version: str
    location: Location
    suite: str
    essential: bool = False
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the solver may choose: a package in RPM's terms. Relations are RPM dependency strings, also rich ones.

    ``format``, ``suite`` and ``upstream_version`` say where it came from; a lock keeps them.
    """

    nevra: Nevra
    source: SourceRef
    location: Location | None
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    obsoletes: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    essential: bool = False
    format: str = "deb"
    suite: str = ""
    upstream_version: str = ""


class FileKind(StrEnum):
    """Kinds of file a package or an image may hold. Devices, sockets and pipes are refused at import."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


class FileFlag(Flag):
    """RPM file attributes that matter to us (rpm's RPMFILE_*)."""

    NONE = 0
    CONFIG = auto()
    NOREPLACE = auto()
    GHOST = auto()
    DOC = auto()
    LICENSE = auto()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One path of a package.

    ``path`` is absolute and canonical (``/usr/bin/ls``, never ``/bin/ls``). ``mode`` holds permission, set-id and
    sticky bits only (``0o4755``). ``size`` and ``sha256`` (hex) are of a regular file's content. ``hardlink`` is the
    path of the first link of its group within the package, empty for a file with one name.
    ``capabilities`` is in cap_to_text(3) form.
    """

    path: str
    kind: FileKind
    mode: int
    user: str = "root"
    group: str = "root"
    mtime: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""
    hardlink: str = ""
    capabilities: str = ""
    flags: FileFlag = FileFlag.NONE


@dataclass(frozen=True, slots=True)
class Script:
    """A maintainer script, scriptlet or trigger. ``kind`` is ``postinst``, ``%post``, ``%transfiletriggerin`` …

    ``condition`` says for what a trigger runs: comma-separated RPM dependencies (``%triggerin``) or path prefixes
    (``%filetriggerin`` and its kin); empty for every other script.
    """

    kind: str
    interpreter: str
    text: str
    condition: str = ""


class PackageContent(Protocol):
    """A finished package of ours, as the compose engine sees it."""

    @property
    def nevra(self) -> Nevra: ...

    @property
    def source(self) -> SourceRef: ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the *unsigned* RPM: the identity of the content, whoever signed it."""
        ...

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every path, sorted by path, ghosts included."""
        ...

    def read(self, wanted: Callable[[str], bool]) -> Iterator[tuple[FileEntry, bytes]]:
        """Yield regular files whose path is wanted with their content, in payload order, decompressing once.

        Every wanted path of a hard-link group is yielded, each with the content.
        """
        ...
