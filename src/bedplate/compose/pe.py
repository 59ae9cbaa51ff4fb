"""Adding sections to a PE/COFF program, as a unified kernel image needs it.

Source: Microsoft PE/COFF specification ("Section Table", "Optional Header Windows-Specific Fields"). Written here
because the general tools take a second for what is 100 microseconds of arithmetic and a copy.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.model.errors import BadInput
from bedplate.model.pe import PE32_PLUS, PeHeaders, parse_headers

_CODE, _DATA, _READ = 0x20, 0x40, 0x40000000
BLOCK = 4096
_SECTION = struct.Struct("<8sIIIIIIHHI")
_NX_COMPAT = 0x0100


@dataclass(frozen=True, slots=True)
class Section:
    """A section: name (with its dot, at most 8 bytes) and content."""

    name: str
    data: bytes


def _headers(data: bytes | bytearray, where: str) -> PeHeaders:
    head = parse_headers(data, where)
    if head.magic != PE32_PLUS:
        raise BadInput("not an EFI program for a 64-bit machine (PE32+)", where=where)
    return head


def sections(data: bytes, where: str) -> list[Section]:
    """The sections of a program, in the order of its table, each as long as in memory.

    Raises:
        BadInput: not a PE32+ program.
    """
    head = _headers(data, where)
    found = []
    for number in range(head.count):
        name, virtual, _, raw, at, *_ = _SECTION.unpack_from(data, head.table + number * _SECTION.size)
        found.append(Section(name.rstrip(b"\0").decode(errors="replace"), data[at : at + min(virtual, raw)]))
    return found


def add_sections(stub: bytes, added: Sequence[Section], where: str) -> bytes:
    """``stub`` with sections appended, each aligned in file and memory; the checksum is left 0, as UEFI allows.

    Raises:
        BadInput: ``stub`` is no PE32+ program, its header has no room, or it already has a section of that name.
    """
    head = _headers(stub, where)
    present = {section.name for section in sections(stub, where)}
    twice = [section.name for section in added if section.name in present]
    room = (head.size - head.table) // _SECTION.size
    if twice or head.count + len(added) > room:
        cause = f"it already has {', '.join(twice)}" if twice else f"its header has room for {room} sections"
        raise BadInput(f"sections cannot be added to the stub: {cause}", where=where)
    last = _SECTION.unpack_from(stub, head.table + (head.count - 1) * _SECTION.size)
    address = last[2] + last[1]
    out = bytearray(stub)
    initialized = 0
    for number, section in enumerate(added):
        address = _up(address, head.section_alignment)
        out += bytes(-len(out) % head.file_alignment)
        # Each section ends on a block: what two versions share then lies in equal blocks, and updates can leave it out.
        size = _up(len(out) + len(section.data), BLOCK) - len(out)
        kind = _CODE if section.name == ".linux" else _DATA
        fields = (section.name.encode(), len(section.data), address, size, len(out), 0, 0, 0, 0, kind | _READ)
        _SECTION.pack_into(out, head.table + (head.count + number) * _SECTION.size, *fields)
        out += section.data + bytes(size - len(section.data))
        address += len(section.data)
        initialized += len(section.data)
        if section.name == ".linux":
            _match_nx(out, head, section.data)
    (known,) = struct.unpack_from("<I", out, head.optional + 8)
    struct.pack_into("<I", out, head.optional + 8, known + initialized)
    struct.pack_into("<I", out, head.optional + 56, _up(address, head.section_alignment))
    struct.pack_into("<I", out, head.optional + 64, 0)
    struct.pack_into("<H", out, head.coff + 2, head.count + len(added))
    return bytes(out)


def _match_nx(out: bytearray, head: PeHeaders, kernel: bytes) -> None:
    # The stub may only claim NX compatibility when the kernel inside does, or strict firmware refuses to start it.
    inner = _headers(kernel, "kernel")
    (kernel_flags,) = struct.unpack_from("<H", kernel, inner.optional + 70)
    (flags,) = struct.unpack_from("<H", out, head.optional + 70)
    if not kernel_flags & _NX_COMPAT:
        struct.pack_into("<H", out, head.optional + 70, flags & ~_NX_COMPAT)


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
