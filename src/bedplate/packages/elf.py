"""What an ELF file requires and provides, in the form rpm's own generator writes.

``libc.so.6(GLIBC_2.34)(64bit)`` for a symbol version, ``libc.so.6()(64bit)`` for a library, ``rtld(GNU_HASH)`` for a
program that only a loader with GNU hash tables can start. Only the sections that matter are looked at, so that a
large program costs no more than a small one. Sources: elf(5), the gABI's symbol versioning, rpm ``tools/elfdeps.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAGIC = b"\x7fELF"
_ET_EXEC, _ET_DYN = 2, 3
_PT_INTERP = 3
_SHT_DYNAMIC, _SHT_VERDEF, _SHT_VERNEED = 6, 0x6FFFFFFD, 0x6FFFFFFE
_DT_NULL, _DT_NEEDED, _DT_HASH, _DT_SONAME, _DT_DEBUG, _DT_GNU_HASH = 0, 1, 4, 14, 21, 0x6FFFFEF5
_VER_FLG_BASE = 1
_EM_ALPHA = (41, 0x9026)
_LOADERS = ("ld.", "ld-", "ld64.", "ld64-")
_MAX_RECORDS = 100_000
"""Bound on dynamic tags and on version records, so that a crafted file ends."""


@dataclass(frozen=True, slots=True)
class ElfDependencies:
    """RPM dependency names of one file, without doubles, in the order found."""

    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


NOTHING = ElfDependencies()


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    offset: int
    size: int
    link: int
    info: int


class _Elf:
    """Access to the tables of one file; every read is bounds-checked by ``struct`` or a slice."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.is64 = data[4] == 2
        self.order = "<" if data[5] == 1 else ">"
        head = struct.unpack_from(self.order + ("HHIQQQIHHHHHH" if self.is64 else "HHIIIIIHHHHHH"), data, 16)
        self.type, self.machine = head[0], head[1]
        self._program_offset, self._section_offset = head[4], head[5]
        self._program_size, self._program_count = head[8], head[9]
        self._section_size, self._section_count = head[10], head[11]
        self._left = _MAX_RECORDS

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise IndexError("too many records")

    def has_interpreter(self) -> bool:
        for number in range(self._program_count):
            (kind,) = struct.unpack_from(
                self.order + "I", self.data, self._program_offset + number * self._program_size
            )
            if kind == _PT_INTERP:
                return True
        return False

    def sections(self) -> list[_Section]:
        layout = self.order + ("IIQQQQIIQQ" if self.is64 else "IIIIIIIIII")
        found = []
        for number in range(self._section_count if self._section_offset else 0):
            entry = struct.unpack_from(layout, self.data, self._section_offset + number * self._section_size)
            found.append(_Section(entry[1], entry[4], entry[5], entry[6], entry[7]))
        return found

    def text(self, strings: _Section, offset: int) -> str:
        start, end = strings.offset + offset, strings.offset + strings.size
        piece = bytes(self.data[start : min(end, start + 4096)])
        return piece.split(b"\0", 1)[0].decode("utf-8", "replace")

    def dynamic(self, section: _Section) -> Iterator[tuple[int, int]]:
        layout = self.order + ("qQ" if self.is64 else "iI")
        size = struct.calcsize(layout)
        for number in range(min(section.size // size, _MAX_RECORDS)):
            tag, value = struct.unpack_from(layout, self.data, section.offset + number * size)
            if tag == _DT_NULL:
                return
            yield tag, value

    def definitions(self, section: _Section) -> Iterator[tuple[int, list[int]]]:
        """Flags and name offsets of each version definition."""
        position = section.offset
        for _ in range(min(section.info, _MAX_RECORDS)):
            _, flags, _, count, _, auxiliary, following = struct.unpack_from(
                self.order + "HHHHIII", self.data, position
            )
            names, at = [], position + auxiliary
            for _ in range(min(count, 16)):
                self._count()
                name, step = struct.unpack_from(self.order + "II", self.data, at)
                names.append(name)
                at += step
            yield flags, names
            if not following:
                return
            position += following

    def needs(self, section: _Section) -> Iterator[tuple[int, list[int]]]:
        """File name offset and version name offsets of each needed file."""
        position = section.offset
        for _ in range(min(section.info, _MAX_RECORDS)):
            _, count, file, auxiliary, following = struct.unpack_from(self.order + "HHIII", self.data, position)
            names, at = [], position + auxiliary
            for _ in range(count):
                self._count()
                _, _, _, name, step = struct.unpack_from(self.order + "IHHII", self.data, at)
                names.append(name)
                at += step
                if not step:
                    break
            yield file, names
            if not following:
                return
            position += following


def is_elf(data: bytes | memoryview) -> bool:
    """Whether ``data`` starts like an ELF file."""
    return bytes(data[:4]) == _MAGIC and len(data) >= 52


def dependencies(path: str, data: bytes | memoryview, *, executable: bool) -> ElfDependencies:
    """The dependencies of the file ``path`` with content ``data``.

    Anything but an executable or a shared object has none; so has a damaged file, as with rpm's generator: what does
    not load needs nothing.

    Args:
        executable: Whether any execute bit is set; a program without one is data and requires nothing.
    """
    if not is_elf(data):
        return NOTHING
    try:
        return _analyse(path, _Elf(memoryview(data)), executable)
    except (struct.error, IndexError, OverflowError):
        return NOTHING


def _analyse(path: str, elf: _Elf, executable: bool) -> ElfDependencies:
    if elf.type not in (_ET_EXEC, _ET_DYN):
        return NOTHING
    marker = "(64bit)" if elf.is64 and elf.machine not in _EM_ALPHA else ""
    wants_requires = executable or not elf.has_interpreter()
    requires: dict[str, None] = {}
    provides: dict[str, None] = {}
    sections = elf.sections()
    soname, tags = "", set()
    for section in sections:
        if section.kind not in (_SHT_DYNAMIC, _SHT_VERDEF, _SHT_VERNEED):
            continue
        strings = sections[section.link]
        if section.kind == _SHT_VERDEF:
            _add_definitions(elf, section, strings, marker, provides)
        elif section.kind == _SHT_VERNEED and wants_requires:
            for file, names in elf.needs(section):
                library = elf.text(strings, file)
                if _is_library(library):
                    requires.update((f"{library}({elf.text(strings, name)}){marker}", None) for name in names)
        elif section.kind == _SHT_DYNAMIC:
            for tag, value in elf.dynamic(section):
                tags.add(tag)
                if tag == _DT_SONAME:
                    soname = elf.text(strings, value)
                elif tag == _DT_NEEDED and wants_requires and _is_library(elf.text(strings, value)):
                    requires[f"{elf.text(strings, value)}(){marker}"] = None
    if wants_requires and _DT_GNU_HASH in tags and _DT_HASH not in tags:
        requires["rtld(GNU_HASH)"] = None
    soname = soname or path.rpartition("/")[2]
    if elf.type == _ET_DYN and _DT_DEBUG not in tags and _is_library(soname):
        provides[f"{soname}(){marker}"] = None
    return ElfDependencies(tuple(requires), tuple(provides))


def _is_library(soname: str) -> bool:
    """Whether ``soname`` names what others link with; plugins (``pam_unix.so``) are not."""
    return ".so" in soname and soname.startswith(("lib", *_LOADERS))


def _add_definitions(elf: _Elf, section: _Section, strings: _Section, marker: str, provides: dict[str, None]) -> None:
    library = ""
    for flags, names in elf.definitions(section):
        # The first name of a definition is its own, further ones name what it inherits from.
        for name in names:
            text = elf.text(strings, name)
            if not text:
                break
            if flags & _VER_FLG_BASE:
                library = text
            elif _is_library(library):
                provides[f"{library}({text}){marker}"] = None
