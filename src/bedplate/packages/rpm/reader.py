"""Open an RPM, ours or a foreign one, and read its files: strict, bounded, digests verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from io import BufferedReader
from pathlib import Path

from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.package import FileEntry, Nevra, Script, SourceRef
from bedplate.packages.rpm import manifest
from bedplate.packages.rpm.archive import Archive, DigestingReader, archive_limit, read_members
from bedplate.packages.rpm.container import REMEDY, Container, open_container
from bedplate.packages.rpm.header import Header
from bedplate.packages.rpm.tags import HashAlgorithm, Tag


class RpmPackage:
    """A binary RPM v4 package: a :class:`bedplate.model.package.PackageContent` and more.

    Opening reads and checks the headers only; the payload is read, verified and forgotten by :meth:`read`.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        where = container.path.name
        self._where = where
        self._nevra = manifest.read_nevra(container.header, where)
        self._source = manifest.read_source(container.header, self._nevra, where)
        self._files = manifest.read_files(container.header, where)

    @classmethod
    def open(cls, path: Path) -> RpmPackage:
        """Open the package at ``path``.

        Raises:
            BadInput: not a binary RPM v4 package with SHA-256 digests, damaged, or with files no package may hold.
            BedplateError: the file cannot be read.
        """
        return cls(open_container(path))

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._container.path

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._container.size

    @property
    def header(self) -> Header:
        """The main header."""
        return self._container.header

    @property
    def signature(self) -> Header:
        """The signature header."""
        return self._container.signature

    @property
    def header_range(self) -> tuple[int, int]:
        """Offsets in bytes of the start and the end of the main header."""
        return self._container.payload_offset - len(self.header.blob), self._container.payload_offset

    @property
    def nevra(self) -> Nevra:
        return self._nevra

    @property
    def source(self) -> SourceRef:
        return self._source

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the unsigned form: the same whoever signed, and whether anyone did."""
        return self._container.unsigned_sha256()

    @cached_property
    def files(self) -> tuple[FileEntry, ...]:
        """Every path, sorted by path, ghosts included."""
        return tuple(sorted(self._files, key=lambda entry: entry.path))

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """Scriptlets, triggers and file triggers."""
        return manifest.read_scripts(self.header, self._where)

    def dependencies(self, kind: str) -> tuple[str, ...]:
        """Dependency strings of one kind: requires, provides, conflicts, obsoletes, recommends, suggests, supplements
        or enhances. Without ``rpmlib(…)``, which is about rpm and not about packages; sorted, each one once."""
        found = {str(one) for one in manifest.read_dependencies(self.header, kind, self._where)}
        return tuple(sorted(text for text in found if not text.startswith("rpmlib(")))

    @property
    def requires(self) -> tuple[str, ...]:
        """Required dependencies."""
        return self.dependencies("requires")

    @property
    def provides(self) -> tuple[str, ...]:
        """What it provides, itself included."""
        return self.dependencies("provides")

    @property
    def conflicts(self) -> tuple[str, ...]:
        """What it cannot be installed beside."""
        return self.dependencies("conflicts")

    @property
    def obsoletes(self) -> tuple[str, ...]:
        """What it replaces."""
        return self.dependencies("obsoletes")

    @property
    def recommends(self) -> tuple[str, ...]:
        """Weak dependencies."""
        return self.dependencies("recommends")

    @property
    def suggests(self) -> tuple[str, ...]:
        """Hints."""
        return self.dependencies("suggests")

    def read(self, wanted: Callable[[str], bool]) -> Iterator[tuple[FileEntry, bytes]]:
        """Yield wanted regular files with their content, in payload order, decompressing once.

        Every name of a link group that is wanted is yielded. The content of each yielded file has the digest the
        header names; when the iterator has run to its end, so has the whole payload.

        Raises:
            BadInput: the payload is damaged, does not fit the header, or is larger than it says.
            BedplateError: the file cannot be read.
        """
        header, where = self.header, self._where
        if header.text(Tag.PAYLOAD_FORMAT, "cpio") != "cpio":
            raise BadInput(f"payload format {header.text(Tag.PAYLOAD_FORMAT)!r} is not known", where=where)
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._container.payload_offset)
                compressor = header.text(Tag.PAYLOAD_COMPRESSOR) or _default_compressor(stream)
                raw = DigestingReader(stream)
                archive = Archive(raw, compressor, archive_limit(self._files), where)
                yield from read_members(archive, self._files, wanted, where)
                self._check_payload(raw.drain())
        except OSError as error:
            raise BedplateError(f"cannot read ({error.strerror})", where=str(self.path)) from error

    def verify_payload(self) -> None:
        """Read the whole package and verify every digest in it.

        Raises:
            BadInput: as :meth:`read`.
        """
        for _ in self.read(lambda path: True):
            pass

    def _check_payload(self, digest: str) -> None:
        known = self.header.texts(Tag.PAYLOAD_DIGEST)
        if known and self.header.number(Tag.PAYLOAD_DIGEST_ALGORITHM, HashAlgorithm.SHA256) != HashAlgorithm.SHA256:
            raise BadInput("the payload digest is not SHA-256", where=self._where)
        if known and known[0] != digest:
            raise BadInput("the payload does not have the digest it must have", where=self._where, remedy=REMEDY)


def _default_compressor(stream: BufferedReader) -> str:
    magic = stream.peek(4)[:4]
    return "none" if magic == b"0707" else "gzip"
