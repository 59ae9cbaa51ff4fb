"""Just enough DER to walk a PKCS#7 structure. Source: ITU-T X.690."""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE = 0x30
SET = 0x31
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
CONTEXT_0 = 0xA0
_MAX_CHILDREN = 1000


class DerError(ValueError):
    """Not DER, or not of the expected shape."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its tag, its whole encoding and its content."""

    tag: int
    encoding: bytes
    content: bytes

    def expect(self, tag: int) -> Element:
        """This element, if it has ``tag``."""
        if self.tag != tag:
            raise DerError(f"tag {self.tag:#x} where {tag:#x} was expected")
        return self

    def children(self) -> list[Element]:
        """The elements within."""
        rest, found = self.content, []
        while rest:
            element, rest = read(rest)
            found.append(element)
            if len(found) > _MAX_CHILDREN:
                raise DerError("too many elements")
        return found


def read(data: bytes) -> tuple[Element, bytes]:
    """The first element of ``data`` and what follows it.

    Raises:
        DerError: it is cut short, of indefinite length, or has a tag of several bytes.
    """
    if len(data) < 2:
        raise DerError("cut short")
    tag, size, start = data[0], data[1], 2
    if tag & 0x1F == 0x1F:
        raise DerError("tags of several bytes are not used here")
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or len(data) < 2 + count:
            raise DerError("a length that DER does not allow")
        size, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    end = start + size
    if end > len(data):
        raise DerError("cut short")
    return Element(tag, data[:end], data[start:end]), data[end:]


def object_identifier(element: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER."""
    numbers: list[int] = []
    value = 0
    for byte in element.expect(OBJECT_IDENTIFIER).content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        raise DerError("an empty object identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(str(number) for number in (first, numbers[0] - 40 * first, *numbers[1:]))
