"""What an initrd holds: the members of a newc archive, unpacked within bounds.

Source: the kernel's "initramfs buffer format". Only what Bedplate writes is read: one archive, plain or in one zstd
frame.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

import zstandard

from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput

MAX_UNPACKED = 512 << 20
MAX_MEMBERS = 100_000
_ZSTD = b"\x28\xb5\x2f\xfd"
_HEAD = 110
_FIELDS = 13


@dataclass(frozen=True, slots=True)
class CpioMember:
    """One member: ``mode`` with type and permission bits, ``size`` in bytes, ``sha256`` (hex) of its data (content or
    link target), ``device`` of a node."""

    path: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    sha256: str
    device: tuple[int, int]

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.mode)


def unpack_initrd(data: bytes, where: str) -> bytes:
    """The plain archive of an initrd.

    Raises:
        BadInput: damaged, larger than any initrd, or compressed in another way.
    """
    if data[:6] == b"070701":
        return data
    if data[:4] != _ZSTD:
        raise BadInput("the initrd is neither a cpio archive nor zstd", where=where)
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as stream:
            plain = bytes(stream.read(MAX_UNPACKED + 1))
    except zstandard.ZstdError as error:
        raise BadInput(f"the initrd is damaged ({error})", where=where) from error
    if len(plain) > MAX_UNPACKED:
        raise BadInput(f"the initrd unpacks to more than {MAX_UNPACKED} bytes", where=where)
    return plain


def members(archive: bytes, where: str) -> list[CpioMember]:
    """The members of a plain newc archive, in its order.

    Raises:
        BadInput: cut short, a damaged header, or a path twice.
    """
    found: dict[str, CpioMember] = {}
    at = 0
    while len(found) < MAX_MEMBERS:
        head = archive[at : at + _HEAD]
        if len(head) < _HEAD or head[:6] != b"070701":
            raise BadInput("the initrd's archive is damaged", where=f"{where} at byte {at}")
        try:
            fields = [int(head[6 + 8 * number : 14 + 8 * number], 16) for number in range(_FIELDS)]
        except ValueError as error:
            raise BadInput("the initrd's archive has a damaged header", where=f"{where} at byte {at}") from error
        _, mode, uid, gid, _, mtime, size, _, _, major, minor, name_size, _ = fields
        start = at + _HEAD
        path = archive[start : start + name_size].rstrip(b"\0").decode(errors="replace")
        body = _aligned(start + name_size)
        if name_size == 0 or body + size > len(archive):
            raise BadInput("the initrd's archive is cut short", where=f"{where}:{path}")
        if path == "TRAILER!!!":
            return list(found.values())
        if path in found:
            raise BadInput("the initrd holds a path twice", where=f"{where}:{path}")
        content = archive[body : body + size]
        found[path] = CpioMember(path, mode, uid, gid, mtime, size, sha256(content), (major, minor))
        at = _aligned(body + size)
    raise BadInput(f"the initrd has more than {MAX_MEMBERS} members", where=where)


def _aligned(offset: int) -> int:
    return offset + -offset % 4
