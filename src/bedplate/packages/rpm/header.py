"""RPM header blobs: decode with every size, offset and count checked; encode in rpm's own canonical form.

A blob is magic, number of index entries, size of the data store, the index (tag, type, offset, count; big endian)
and the store. The first entry is a *region* that spans the whole blob; its trailer closes the store.
Source: rpm ``docs/manual/format_header.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bedplate.model.errors import BadInput
from bedplate.packages.rpm.tags import (
    HEADER_MAGIC,
    MAX_HEADER_BYTES,
    MAX_HEADER_ENTRIES,
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURE_ENTRIES,
    SigTag,
    Tag,
    Type,
)

Value = str | bytes | tuple[int, ...] | tuple[str, ...]

_ENTRY = struct.Struct(">IIII")
_TRAILER = struct.Struct(">IIiI")
_INTRO = struct.Struct(">8sII")
INTRO_SIZE = _INTRO.size
_WIDTH = {Type.CHAR: 1, Type.INT8: 1, Type.INT16: 2, Type.INT32: 4, Type.INT64: 8}
_LETTER = {Type.CHAR: "B", Type.INT8: "B", Type.INT16: "H", Type.INT32: "I", Type.INT64: "Q"}
_STRINGS = (Type.STRING, Type.STRING_ARRAY, Type.I18NSTRING)


@dataclass(frozen=True, slots=True)
class Entry:
    """One value: integers for the INT types, text for STRING, a tuple of texts for the arrays, bytes for BIN."""

    type: Type
    value: Value


def int16s(*values: int) -> Entry:
    """An entry of unsigned 16-bit integers."""
    return Entry(Type.INT16, values)


def int32s(*values: int) -> Entry:
    """An entry of unsigned 32-bit integers."""
    return Entry(Type.INT32, values)


def int64s(*values: int) -> Entry:
    """An entry of unsigned 64-bit integers."""
    return Entry(Type.INT64, values)


def string(value: str) -> Entry:
    """An entry of one string."""
    return Entry(Type.STRING, value)


def strings(*values: str) -> Entry:
    """An entry of an array of strings."""
    return Entry(Type.STRING_ARRAY, values)


def i18n(value: str) -> Entry:
    """An entry of a translatable string, in the C locale only."""
    return Entry(Type.I18NSTRING, (value,))


def binary(value: bytes) -> Entry:
    """An entry of raw bytes."""
    return Entry(Type.BIN, value)


def encode_header(entries: Mapping[int, Entry], region: Tag | SigTag) -> bytes:
    """The blob for ``entries``, magic included, tags in ascending order inside a region ``region``.

    Raises:
        BadInput: a text holds a NUL, or a number does not fit its type.
    """
    index = bytearray()
    store = bytearray()
    for tag in sorted(entries):
        entry = entries[tag]
        data, count = _encode_value(tag, entry)
        store += b"\0" * (-len(store) % _WIDTH.get(entry.type, 1))
        index += _ENTRY.pack(tag, entry.type, len(store), count)
        store += data
    size = _ENTRY.size
    head = _ENTRY.pack(region, Type.BIN, len(store), size)
    store += _TRAILER.pack(region, Type.BIN, -(len(index) + size), size)
    return _INTRO.pack(HEADER_MAGIC, len(entries) + 1, len(store)) + head + bytes(index) + bytes(store)


def _encode_value(tag: int, entry: Entry) -> tuple[bytes, int]:
    value = entry.value
    if isinstance(value, bytes):
        return value, len(value)
    if isinstance(value, str):
        return _c_string(tag, value), 1
    if entry.type in _STRINGS:
        return b"".join(_c_string(tag, str(text)) for text in value), len(value)
    try:
        return struct.pack(f">{len(value)}{_LETTER[entry.type]}", *value), len(value)
    except struct.error as error:
        raise BadInput(f"a number of header tag {tag} does not fit its type ({error})") from error


def _c_string(tag: int, text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise BadInput(f"a text of header tag {tag} holds a NUL character")
    return data + b"\0"


@dataclass(frozen=True, slots=True)
class _Slot:
    type: Type
    offset: int
    count: int
    end: int


class Header:
    """A decoded header blob. Every entry was checked to lie within the store when it was made.

    ``blob`` is the exact bytes, magic included: what digests and header signatures cover.
    """

    def __init__(self, blob: bytes, region: Tag | SigTag, where: str) -> None:
        self.blob = blob
        self._where = where
        magic, entries, size = _INTRO.unpack_from(blob)
        start = INTRO_SIZE + entries * _ENTRY.size
        if magic != HEADER_MAGIC or len(blob) != start + size:
            raise _bad("the header's sizes do not match its bytes", where)
        self._store = memoryview(blob)[start:]
        self._slots: dict[int, _Slot] = {}
        self._check_region(blob, entries, region)
        end = 0
        for number in range(1, entries):
            tag, kind, offset, count = _ENTRY.unpack_from(blob, INTRO_SIZE + number * _ENTRY.size)
            slot = self._check_entry(tag, kind, offset, count, size - _ENTRY.size)
            # Entries after one another, never over one another: what rpm writes, and no store is read twice.
            if offset < end:
                raise _bad(f"header tag {tag} overlaps the entry before it", where)
            if tag in self._slots:
                raise _bad(f"header tag {tag} stands twice", where)
            end = slot.end
            self._slots[tag] = slot

    def _check_region(self, blob: bytes, entries: int, region: Tag | SigTag) -> None:
        tag, kind, offset, count = _ENTRY.unpack_from(blob, INTRO_SIZE)
        if (tag, kind, count) != (region, Type.BIN, _ENTRY.size) or offset != len(self._store) - _ENTRY.size:
            raise _bad("the header's region does not span the header", self._where)
        trailer = _TRAILER.unpack_from(self._store, offset)
        if trailer != (region, Type.BIN, -entries * _ENTRY.size, _ENTRY.size):
            raise _bad("the header's region trailer is wrong", self._where)

    def _check_entry(self, tag: int, kind: int, offset: int, count: int, limit: int) -> _Slot:
        if tag < Tag.I18N_TABLE or kind not in Type._value2member_map_:
            raise _bad(f"header entry with tag {tag} and type {kind} is not valid", self._where)
        data_type = Type(kind)
        if offset >= limit or not 1 <= count <= limit - offset:
            raise _bad(f"header tag {tag} points outside the header", self._where)
        if data_type in _STRINGS:
            if data_type is Type.STRING and count != 1:
                raise _bad(f"header tag {tag} holds {count} values, may hold one", self._where)
            return _Slot(data_type, offset, count, self._end_of_strings(tag, offset, count, limit))
        width = _WIDTH.get(data_type, 1)
        end = offset + width * count
        if offset % width or end > limit:
            raise _bad(f"header tag {tag} is misaligned or points outside the header", self._where)
        return _Slot(data_type, offset, count, end)

    def _end_of_strings(self, tag: int, offset: int, count: int, limit: int) -> int:
        blob, base = self.blob, len(self.blob) - len(self._store)
        position, stop = base + offset, base + limit
        for _ in range(count):
            position = blob.find(b"\0", position, stop) + 1
            if not position:
                raise _bad(f"a text of header tag {tag} does not end", self._where)
        return position - base

    def __contains__(self, tag: int) -> bool:
        return tag in self._slots

    def __iter__(self) -> Iterator[int]:
        return iter(self._slots)

    def entry(self, tag: int) -> Entry:
        """Type and value of ``tag``.

        Raises:
            KeyError: the header does not hold it.
        """
        slot = self._slots[tag]
        data = self._store[slot.offset : slot.end]
        if slot.type is Type.BIN:
            return Entry(slot.type, bytes(data))
        if slot.type in _STRINGS:
            texts = tuple(bytes(data[:-1]).decode("utf-8", "surrogateescape").split("\0"))
            return Entry(slot.type, texts[0] if slot.type is Type.STRING else texts)
        return Entry(slot.type, struct.unpack(f">{slot.count}{_LETTER[slot.type]}", data))

    def text(self, tag: int, default: str = "") -> str:
        """The (first) string of ``tag``, ``default`` when absent.

        Raises:
            BadInput: the tag holds something else.
        """
        if tag not in self._slots:
            return default
        value = self.entry(tag).value
        if isinstance(value, str):
            return value
        if isinstance(value, tuple) and isinstance(value[0], str):
            return value[0]
        raise _bad(f"header tag {tag} is not a text", self._where)

    def texts(self, tag: int) -> tuple[str, ...]:
        """All strings of ``tag``, empty when absent.

        Raises:
            BadInput: the tag holds something else.
        """
        if tag not in self._slots:
            return ()
        entry = self.entry(tag)
        if isinstance(entry.value, str):
            return (entry.value,)
        if entry.type not in _STRINGS:
            raise _bad(f"header tag {tag} is not a list of texts", self._where)
        return entry.value  # type: ignore[return-value]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All integers of ``tag``, empty when absent.

        Raises:
            BadInput: the tag holds something else.
        """
        if tag not in self._slots:
            return ()
        entry = self.entry(tag)
        if entry.type not in _WIDTH:
            raise _bad(f"header tag {tag} is not a list of numbers", self._where)
        return entry.value  # type: ignore[return-value]

    def number(self, tag: int, default: int | None = None) -> int | None:
        """The first integer of ``tag``, ``default`` when absent."""
        values = self.numbers(tag)
        return values[0] if values else default

    def data(self, tag: int) -> bytes:
        """The raw bytes of ``tag``, empty when absent.

        Raises:
            BadInput: the tag holds something else.
        """
        if tag not in self._slots:
            return b""
        value = self.entry(tag).value
        if not isinstance(value, bytes):
            raise _bad(f"header tag {tag} is not binary data", self._where)
        return value

    def entries(self) -> dict[int, Entry]:
        """Every entry, for encoding again with changes."""
        return {tag: self.entry(tag) for tag in self._slots}


def header_size(intro: bytes, region: Tag | SigTag, where: str) -> int:
    """Whole size in bytes of the blob that starts with ``intro`` (its first :data:`INTRO_SIZE` bytes).

    Raises:
        BadInput: no header starts here, or it claims more than the format allows.
    """
    if len(intro) < INTRO_SIZE:
        raise _bad("the file ends within a header", where)
    magic, entries, size = _INTRO.unpack_from(intro)
    signature = region is SigTag.REGION
    if magic != HEADER_MAGIC:
        raise _bad("no RPM header where one must be", where)
    if not 1 <= entries <= (MAX_SIGNATURE_ENTRIES if signature else MAX_HEADER_ENTRIES):
        raise _bad(f"a header with {entries} entries is not valid", where)
    if not _ENTRY.size <= size <= (MAX_SIGNATURE_BYTES if signature else MAX_HEADER_BYTES):
        raise _bad(f"a header with {size} bytes of data is not valid", where)
    return int(INTRO_SIZE + entries * _ENTRY.size + size)


def _bad(message: str, where: str) -> BadInput:
    return BadInput(message, where=where, remedy="the package is damaged or not an RPM: get it again from its upstream")
