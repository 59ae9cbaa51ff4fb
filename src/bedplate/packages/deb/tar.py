"""A strict, streaming reader of the tar archives inside a .deb: plain files, directories and links, nothing else.

Sources: POSIX pax(1) (ustar and pax headers), the GNU long-name records dpkg-deb writes, deb(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bedplate.model.errors import BadInput
from bedplate.packages.deb.container import MemberStream, bad_package
from bedplate.packages.deb.limits import Limits

_BLOCK = 512
_ZERO = bytes(_BLOCK)
_KINDS = {b"0": "file", b"\0": "file", b"1": "hardlink", b"2": "symlink", b"5": "directory"}
_REFUSED = {b"3": "a character device", b"4": "a block device", b"6": "a named pipe", b"S": "a sparse file"}
_MAX_RECORD = 64 * 1024


@dataclass(frozen=True, slots=True)
class TarMember:
    """One entry as the archive names it; ``name`` and ``target`` are not yet checked."""

    name: str
    kind: str
    mode: int
    user: str
    group: str
    mtime: int
    target: str
    data: bytes


class TarReader:
    """Iterates over the members of one tar archive.

    Args:
        stream: The decompressed archive.
        limits: Bounds on members and single files.
        where: The package, for errors.
    """

    def __init__(self, stream: MemberStream, limits: Limits, where: str) -> None:
        self._stream = stream
        self._limits = limits
        self._where = where

    def __iter__(self) -> Iterator[TarMember]:
        """Yield every member in order, and check the end of the archive and of its compression.

        Raises:
            BadInput: a damaged header, a refused kind of file, too much of anything, a truncated archive.
        """
        extra: dict[str, str] = {}
        count = 0
        while (block := self._exactly(_BLOCK)) != _ZERO:
            count += 1
            if count > self._limits.members:
                raise self._bad(f"it has more than {self._limits.members} members")
            kind, size = self._check(block)
            if kind in (b"L", b"K"):
                record = self._record(size).rstrip(b"\0")
                extra["path" if kind == b"L" else "linkpath"] = self._text(record)
            elif kind == b"x":
                extra.update(self._pax(self._record(size)))
            elif kind == b"g":
                self._record(size)
            else:
                yield self._member(block, kind, size, extra)
                extra = {}
        self._finish()

    def _finish(self) -> None:
        while rest := self._stream.read(1024 * 1024):
            if rest.count(0) != len(rest):
                raise self._bad("there is data behind the end of its archive")

    def _check(self, block: bytes) -> tuple[bytes, int]:
        stored = self._number(block[148:156])
        if stored != sum(block) - sum(block[148:156]) + 8 * 32:
            raise self._bad("an archive header is damaged")
        return block[156:157], self._number(block[124:136])

    def _member(self, block: bytes, kind: bytes, size: int, extra: dict[str, str]) -> TarMember:
        name = extra.get("path") or self._name(block)
        if kind in _REFUSED:
            raise self._bad(f"{name!r} is {_REFUSED[kind]}")
        if kind not in _KINDS:
            raise self._bad(f"{name!r} is of unknown kind {kind!r}")
        if attributes := sorted(key for key in extra if key.startswith("SCHILY.xattr.")):
            raise self._bad(f"{name!r} has extended attributes ({', '.join(attributes)})")
        size = int(extra["size"]) if extra.get("size", "").isdigit() else size
        if kind not in (b"0", b"\0") and size:
            raise self._bad(f"{name!r} is no plain file but has content")
        if size > self._limits.file:
            raise self._bad(f"{name!r} is larger than {self._limits.file} bytes")
        return TarMember(
            name=name,
            kind=_KINDS[kind],
            mode=self._number(block[100:108]) & 0o7777,
            user=extra.get("uname") or self._owner(block[265:297], block[108:116]),
            group=extra.get("gname") or self._owner(block[297:329], block[116:124]),
            mtime=self._number(block[136:148]),
            target=extra.get("linkpath") or self._text(block[157:257].split(b"\0", 1)[0]),
            data=self._content(size),
        )

    def _name(self, block: bytes) -> str:
        name = self._text(block[:100].split(b"\0", 1)[0])
        # The prefix field is ustar's only; GNU archives keep other things there.
        prefix = self._text(block[345:500].split(b"\0", 1)[0]) if block[257:263] == b"ustar\0" else ""
        return f"{prefix}/{name}" if prefix else name

    def _owner(self, name: bytes, number: bytes) -> str:
        text = self._text(name.split(b"\0", 1)[0])
        if text:
            return text
        if self._number(number) == 0:
            return "root"
        raise self._bad(f"a file belongs to id {self._number(number)}, which has no name")

    def _content(self, size: int) -> bytes:
        data = self._exactly(size)
        self._exactly(-size % _BLOCK)
        return data

    def _record(self, size: int) -> bytes:
        if size > _MAX_RECORD:
            raise self._bad("a name record is too large")
        return self._content(size)

    def _pax(self, record: bytes) -> dict[str, str]:
        fields: dict[str, str] = {}
        while record:
            length_text, space, _ = record.partition(b" ")
            length = int(length_text) if length_text.isdigit() else 0
            key, equals, value = record[len(length_text) + 1 : length].partition(b"=")
            if not space or length <= len(length_text) + 1 or length > len(record) or not equals:
                raise self._bad("a pax record is damaged")
            fields[self._text(key)] = self._text(value.removesuffix(b"\n"))
            record = record[length:]
        return fields

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise self._bad("its archive is truncated")
        return data

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self._bad(f"a name is not UTF-8: {raw!r}") from error

    def _number(self, raw: bytes) -> int:
        if raw[0] & 0x80:
            return int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        text = raw.strip(b" \0")
        if text.strip(b"01234567"):
            raise self._bad("a number in an archive header is damaged")
        return int(text, 8) if text else 0

    def _bad(self, reason: str) -> BadInput:
        return bad_package(self._where, reason)
