"""Write an unsigned RPM v4 package in one streaming pass: same input, same bytes.

The header comes before the payload in the file but holds the payload's digest. All its digests have a fixed length, so
room for it is left, the payload is streamed behind, and the header is written into the room at the end.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import zstandard

from bedplate.model.errors import BadInput
from bedplate.model.package import FileEntry, FileFlag, FileKind, Nevra
from bedplate.packages.atomic import replacing
from bedplate.packages.rpm import assemble
from bedplate.packages.rpm.header import Entry, encode_header, int32s, int64s, string
from bedplate.packages.rpm.payload import (
    TRAILER,
    PayloadDigests,
    PayloadWriter,
    archive_size,
    member_header,
    newc_header,
    stripped_header,
)
from bedplate.packages.rpm.spec import Contents, PackageSpec, check_spec
from bedplate.packages.rpm.tags import LEAD_MAGIC, SigTag, Tag

WRITER_VERSION = f"2 zstd-{'.'.join(str(part) for part in zstandard.ZSTD_VERSION)}"
"""Changes whenever the same input would give other bytes: part of the key under which finished RPMs are cached."""

COMPRESSION_LEVEL = 3
_PLACEHOLDER = "0" * 64
_COPY = 1 << 20
_EXECUTABLE = 0o111
_MAX_ACCOUNTS = 1 << 20
_LEAD = struct.Struct(">4sBBHH66sHH16x")
_LEAD_ARCH = {"x86_64": 1, "i686": 1, "aarch64": 19, "noarch": 255}


@dataclass(frozen=True, slots=True)
class WrittenRpm:
    """A finished package: ``sha256`` and ``size`` in bytes of the whole unsigned file; its files, with digests."""

    path: Path
    nevra: Nevra
    sha256: str
    size: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    index: int
    entry: FileEntry
    header: bytes
    size: int


def write_rpm(spec: PackageSpec, contents: Contents, out: Path, *, compression: int = COMPRESSION_LEVEL) -> WrittenRpm:
    """Write the package ``spec`` to ``out`` (beside it first, then renamed over it).

    Args:
        spec: What the package is; ``size`` of regular files must be right, ``sha256`` may be empty.
        contents: Gives a file's bytes; asked once for each hard-link group, in payload order.
        compression: zstd level.

    Raises:
        BadInput: the spec is not valid, or a content does not have the size or digest its entry names.
    """
    files = tuple(assemble.normalise(entry) for entry in check_spec(spec))
    layout = assemble.make_layout(files)
    members = _plan_members(layout)
    accounts = {entry.path: _read_small(entry, contents) for entry in files if assemble.names_accounts(entry)}
    plain = archive_size((member.header for member in members), (member.size for member in members))
    digests = {entry.path: _PLACEHOLDER for entry in files if _has_digest(entry)}

    def header(known: dict[str, str], colours: dict[str, int], payload: PayloadDigests) -> bytes:
        return encode_header(
            assemble.main_entries(spec, layout, known, colours, payload, compression, accounts), Tag.REGION
        )

    empty = PayloadDigests(_PLACEHOLDER, 0, _PLACEHOLDER, plain)
    room = _head(spec, header(digests, {}, empty), empty)
    with replacing(out) as stream:
        stream.seek(len(room))
        payload = PayloadWriter(stream, compression, plain)
        colours: dict[str, int] = {}
        for member in members:
            _write_member(member, layout, contents, payload, digests, colours, str(spec.nevra))
        payload.write(newc_header(TRAILER.encode()))
        payload.pad()
        done = payload.finish()
        head = _head(spec, header(digests, colours, done), done)
        if len(head) != len(room) or done.archive_size != plain:
            raise AssertionError("the header does not fit the room left for it")
        stream.seek(0)
        stream.write(head)
        stream.flush()
        digest, size = _digest(stream)
    return WrittenRpm(
        out, spec.nevra, digest, size, tuple(replace(entry, sha256=digests.get(entry.path, "")) for entry in files)
    )


def signature_header(entries: dict[int, Entry]) -> bytes:
    """The signature header with the padding that follows it."""
    blob = encode_header(entries, SigTag.REGION)
    return blob + b"\0" * (-len(blob) % 8)


def _head(spec: PackageSpec, header: bytes, payload: PayloadDigests) -> bytes:
    nevra = spec.nevra
    name = f"{nevra.name}-{nevra.evr.version}-{nevra.evr.release}".encode()[:65]
    lead = _LEAD.pack(LEAD_MAGIC, 3, 0, 0, _LEAD_ARCH.get(nevra.arch, 1), name, 1, 5)
    signature: dict[int, Entry] = {SigTag.SHA256_HEADER: string(hashlib.sha256(header).hexdigest())}
    # Chosen by the uncompressed size, known before the payload: the choice must not change the header's length.
    if payload.archive_size > assemble.LARGE_FILE - (64 << 20):
        signature[SigTag.LONG_SIZE] = int64s(len(header) + payload.size)
        signature[SigTag.LONG_PAYLOAD_SIZE] = int64s(payload.archive_size)
    else:
        signature[SigTag.SIZE] = int32s(len(header) + payload.size)
        signature[SigTag.PAYLOAD_SIZE] = int32s(payload.archive_size)
    return lead + signature_header(signature) + header


def _has_digest(entry: FileEntry) -> bool:
    return entry.kind is FileKind.FILE and not entry.flags & FileFlag.GHOST


def _plan_members(layout: assemble.Layout) -> list[_Member]:
    """The archive in rpm's order: files with one name by path, then the link groups, each in one piece."""
    order = sorted(range(len(layout.files)), key=lambda index: (layout.links[index] > 1, layout.first[index], index))
    members = []
    for index in order:
        entry = layout.files[index]
        if entry.flags & FileFlag.GHOST:
            continue
        # The content of a link group travels with its last name, as rpm expects when it unpacks.
        size = entry.size if layout.last[index] == index else 0
        if layout.is_large:
            header = stripped_header(index)
        else:
            header = member_header(entry, inode=layout.first[index] + 1, links=layout.links[index], size=size)
        members.append(_Member(index, entry, header, size))
    return members


def _write_member(
    member: _Member,
    layout: assemble.Layout,
    contents: Contents,
    payload: PayloadWriter,
    digests: dict[str, str],
    colours: dict[str, int],
    where: str,
) -> None:
    payload.write(member.header)
    entry = member.entry
    if entry.kind is FileKind.SYMLINK:
        payload.write(entry.target.encode("utf-8", "surrogateescape"))
    elif entry.kind is FileKind.FILE and layout.last[member.index] == member.index:
        digest, magic = _copy_content(entry, contents, payload, where)
        colour = _colour(magic) if entry.mode & _EXECUTABLE else 0
        first = layout.first[member.index]
        for number in range(first, member.index + 1):
            if layout.first[number] == first:
                path = layout.files[number].path
                digests[path] = digest
                colours[path] = colour
                if layout.files[number].sha256 not in ("", digest):
                    raise BadInput(f"the content of {path} does not have the digest it must have", where=where)
    payload.pad()


def _copy_content(entry: FileEntry, contents: Contents, payload: PayloadWriter, where: str) -> tuple[str, bytes]:
    digest = hashlib.sha256()
    left = entry.size
    magic = b""
    for piece in contents(entry):
        left -= len(piece)
        if left < 0:
            break
        if len(magic) < 5:
            magic += bytes(piece[:5])
        digest.update(piece)
        payload.write(piece)
    if left:
        raise BadInput(f"the content of {entry.path} is not {entry.size} bytes long", where=where)
    return digest.hexdigest(), magic


def _colour(magic: bytes) -> int:
    """rpm's file colour: 1 for 32-bit ELF, 2 for 64-bit ELF, else 0. rpmbuild gives one to executable files only."""
    return magic[4] if magic[:4] == b"\x7fELF" and magic[4:5] in (b"\x01", b"\x02") else 0


def _read_small(entry: FileEntry, contents: Contents) -> str:
    if entry.size > _MAX_ACCOUNTS:
        raise BadInput(f"{entry.path} is too long for a list of users")
    return b"".join(contents(entry)).decode(errors="replace")


def _digest(stream: BinaryIO) -> tuple[str, int]:
    stream.seek(0)
    digest, size = hashlib.sha256(), 0
    while block := stream.read(_COPY):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size
