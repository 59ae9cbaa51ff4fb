"""The outer layers of an RPM file: lead, signature header, main header, payload."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bedplate.model.errors import BadInput, BedplateError
from bedplate.packages.rpm.header import INTRO_SIZE, Header, encode_header, header_size
from bedplate.packages.rpm.tags import LEAD_MAGIC, LEAD_SIZE, SIGNATURE_TAGS, SigTag, Tag

COPY_SIZE = 1 << 20
REMEDY = "the package is damaged or not an RPM: get it again from its upstream"


@dataclass(frozen=True, slots=True)
class Container:
    """A parsed RPM file. ``lead`` is its first 96 bytes, ``payload_offset`` where the payload starts; it runs to the
    end of the file (``size`` bytes in all)."""

    path: Path
    lead: bytes
    signature: Header
    header: Header
    payload_offset: int
    size: int

    def unsigned_head(self) -> bytes:
        """All that comes before the payload, without what signing adds."""
        kept = {tag: entry for tag, entry in self.signature.entries().items() if tag not in SIGNATURE_TAGS}
        return self.lead + padded(encode_header(kept, SigTag.REGION)) + self.header.blob

    def unsigned_sha256(self) -> str:
        """Hex SHA-256 of the whole file without what signing adds: the same before and after signing."""
        digest = hashlib.sha256(self.unsigned_head())
        with self.path.open("rb") as stream:
            stream.seek(self.payload_offset)
            while block := stream.read(COPY_SIZE):
                digest.update(block)
        return digest.hexdigest()


def padded(signature: bytes) -> bytes:
    """A signature header with the padding to eight bytes that follows it."""
    return signature + b"\0" * (-len(signature) % 8)


def open_container(path: Path) -> Container:
    """Parse the outer layers of ``path`` and check the header's digest and the file's length.

    Raises:
        BadInput: not a binary RPM v4 package, damaged, or cut short.
        BedplateError: the file cannot be read.
    """
    where = path.name
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            lead = stream.read(LEAD_SIZE)
            if len(lead) != LEAD_SIZE or not lead.startswith(LEAD_MAGIC):
                raise BadInput("not an RPM package", where=where, remedy=REMEDY)
            if lead[4] not in (3, 4):
                raise BadInput(f"RPM format version {lead[4]} is not known", where=where)
            if lead[6:8] != b"\0\0":
                raise BadInput("a source package; a binary package is wanted", where=where)
            signature = Header(_read_blob(stream, SigTag.REGION, size, where), SigTag.REGION, where)
            padding = -len(signature.blob) % 8
            if any(stream.read(padding)):
                raise BadInput("bytes hidden between the signature and the header", where=where, remedy=REMEDY)
            header = Header(_read_blob(stream, Tag.REGION, size, where), Tag.REGION, where)
            offset = stream.tell()
    except OSError as error:
        raise BedplateError(f"cannot read ({error.strerror})", where=str(path)) from error
    container = Container(path, lead, signature, header, offset, size)
    _check(container, where)
    return container


def _read_blob(stream: BinaryIO, region: SigTag | Tag, size: int, where: str) -> bytes:
    intro = stream.read(INTRO_SIZE)
    length = header_size(intro, region, where)
    if stream.tell() - INTRO_SIZE + length > size:
        raise BadInput("the file ends within a header", where=where, remedy=REMEDY)
    return intro + stream.read(length - INTRO_SIZE)


def _check(container: Container, where: str) -> None:
    signature, header = container.signature, container.header
    wanted = signature.text(SigTag.SHA256_HEADER)
    if not wanted:
        raise BadInput(
            "no SHA-256 digest of the header: made by an rpm older than 4.14",
            where=where,
            remedy="use a newer build of the package",
        )
    if hashlib.sha256(header.blob).hexdigest() != wanted:
        raise BadInput("the header does not have the digest it must have", where=where, remedy=REMEDY)
    length = signature.number(SigTag.LONG_SIZE) or signature.number(SigTag.SIZE)
    if length is not None and length != len(header.blob) + container.size - container.payload_offset:
        raise BadInput("the file is longer or shorter than it says", where=where, remedy=REMEDY)
    if Tag.SOURCE_RPM not in header:
        raise BadInput("a source package; a binary package is wanted", where=where)
