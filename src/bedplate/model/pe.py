"""PE files (boot loader, unified kernel image): sections, and the bytes that a signature covers.

Sources: the PE format specification; UAPI group's UKI specification for the names of sections.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from bedplate.model.errors import BadInput

_MAX_SECTIONS = 96
PE32_PLUS = 0x20B
_PE32 = 0x10B
_SECURITY_DIRECTORY = 4


@dataclass(frozen=True, slots=True)
class PeHeaders:
    """Where the headers of a program lie and what they say; offsets are within the file.

    ``coff`` is the COFF file header, ``optional`` the optional header (of kind ``magic``), ``table`` the section table
    with ``count`` entries of 40 bytes each.
    """

    coff: int
    optional: int
    magic: int
    table: int
    count: int
    section_alignment: int
    file_alignment: int
    size: int


@dataclass(frozen=True, slots=True)
class Section:
    """One section: ``offset`` and ``size`` of its bytes in the file, without the padding to the file alignment."""

    name: str
    offset: int
    size: int
    raw_size: int


@dataclass(frozen=True, slots=True)
class PeFile:
    """A parsed PE file; all offsets are within ``data``."""

    data: bytes
    sections: tuple[Section, ...]
    header_size: int
    checksum_offset: int
    directory_offset: int
    table_offset: int
    table_size: int

    def section(self, name: str) -> bytes | None:
        """The bytes of the first section called ``name`` (``.cmdline``), None without one."""
        for entry in self.sections:
            if entry.name == name:
                return self.data[entry.offset : entry.offset + entry.size]
        return None

    def text(self, name: str) -> str:
        """A section as text without trailing NULs and blanks; empty without one."""
        return (self.section(name) or b"").rstrip(b"\0 \n").decode(errors="replace")

    @property
    def signed_size(self) -> int:
        """Where the certificate table starts: the end of what is signed."""
        return self.table_offset if self.table_size else len(self.data)

    def authenticode_digest(self) -> bytes:
        """SHA-256 as Authenticode defines it: without checksum, directory entry and certificate table."""
        digest = hashlib.sha256()
        digest.update(self.data[: self.checksum_offset])
        digest.update(self.data[self.checksum_offset + 4 : self.directory_offset])
        digest.update(self.data[self.directory_offset + 8 : self.header_size])
        covered = self.header_size
        for entry in sorted((one for one in self.sections if one.raw_size), key=lambda one: one.offset):
            digest.update(self.data[entry.offset : entry.offset + entry.raw_size])
            covered += entry.raw_size
        digest.update(self.data[covered : self.signed_size])
        return digest.digest()

    def unsigned(self) -> bytes:
        """The file as if never signed, in one normal form for signed and unsigned originals alike.

        The certificate table is gone, its directory entry and the checksum are zero, and the end is padded to the
        eight bytes a signer would pad to.
        """
        body = bytearray(self.data[: self.signed_size])
        body[self.checksum_offset : self.checksum_offset + 4] = bytes(4)
        body[self.directory_offset : self.directory_offset + 8] = bytes(8)
        return bytes(body) + bytes(-len(body) % 8)


def parse_pe(data: bytes, where: str) -> PeFile:
    """Parse a PE32 or PE32+ file.

    Raises:
        BadInput: it is not one, or its parts lie outside of the file or over one another.
    """
    try:
        return _parse(data)
    except (struct.error, ValueError) as error:
        raise BadInput(f"not an EFI program ({error})", where=where) from error


def parse_headers(data: bytes | bytearray, where: str) -> PeHeaders:
    """Parse the headers of a PE32 or PE32+ file, without looking at what they point to.

    Raises:
        BadInput: it is not one.
    """
    try:
        return _headers(data)
    except (struct.error, ValueError) as error:
        raise BadInput(f"not an EFI program ({error})", where=where) from error


def _headers(data: bytes | bytearray) -> PeHeaders:
    if data[:2] != b"MZ":
        raise ValueError("it does not begin with MZ")
    (start,) = struct.unpack_from("<I", data, 0x3C)
    if data[start : start + 4] != b"PE\0\0":
        raise ValueError("no PE header")
    count, optional_size = struct.unpack_from("<2xH12xH", data, start + 4)
    optional = start + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    if magic not in (PE32_PLUS, _PE32):
        raise ValueError(f"optional header of kind {magic:#x}")
    section_alignment, file_alignment = struct.unpack_from("<II", data, optional + 32)
    (size,) = struct.unpack_from("<I", data, optional + 60)
    return PeHeaders(
        start + 4, optional, magic, optional + optional_size, count, section_alignment, file_alignment, size
    )


def _parse(data: bytes) -> PeFile:
    head = _headers(data)
    directories = head.optional + (112 if head.magic == PE32_PLUS else 96)
    (directory_count,) = struct.unpack_from("<I", data, directories - 4)
    if directory_count <= _SECURITY_DIRECTORY or head.count > _MAX_SECTIONS:
        raise ValueError("no place for a signature, or too many sections")
    entry = directories + 8 * _SECURITY_DIRECTORY
    table_offset, table_size = struct.unpack_from("<II", data, entry)
    if table_size and (table_offset < head.size or table_offset + table_size != len(data)):
        raise ValueError("the signature table is not at the end of the file")
    end = table_offset if table_size else len(data)
    sections = [_section(data, head.table + 40 * number) for number in range(head.count)]
    _check_layout(sections, head.size, end)
    if not entry + 8 <= head.size <= end:
        raise ValueError("the headers do not fit")
    return PeFile(data, tuple(sections), head.size, head.optional + 64, entry, table_offset, table_size)


def _section(data: bytes, offset: int) -> Section:
    name, virtual_size, raw_size, raw_offset = struct.unpack_from("<8sI4xII", data, offset)
    text = name.rstrip(b"\0").decode("ascii", errors="replace")
    return Section(text, raw_offset, min(virtual_size, raw_size), raw_size)


def _check_layout(sections: list[Section], header_size: int, end: int) -> None:
    # Bytes that two sections share, or that lie outside of all, could differ between what is checked and what runs.
    last = header_size
    for entry in sorted((one for one in sections if one.raw_size), key=lambda one: one.offset):
        if entry.offset < last or entry.offset + entry.raw_size > end:
            raise ValueError(f"section {entry.name} lies outside of the file or over another")
        last = entry.offset + entry.raw_size
