"""A cpio archive in "newc" form, the one the kernel unpacks as initramfs; the same entries give the same bytes.

Source: the kernel's "initramfs buffer format".
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.model.errors import BadInput


@dataclass(frozen=True, slots=True)
class CpioEntry:
    """One member: ``mode`` holds type and permission bits; ``data`` is content or link target; ``device`` of a node."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> CpioEntry:
    """A directory."""
    return CpioEntry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> CpioEntry:
    """A regular file."""
    return CpioEntry(path, stat.S_IFREG | mode, data)


def link(path: str, target: str) -> CpioEntry:
    """A symbolic link."""
    return CpioEntry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> CpioEntry:
    """A character device."""
    return CpioEntry(path, stat.S_IFCHR | mode, device=(major, minor))


def archive(entries: Iterable[CpioEntry]) -> bytes:
    """The archive of ``entries``: sorted by path, owned by root, time 0, inode numbers counted from 1.

    Raises:
        BadInput: a path twice, or not relative.
    """
    ordered = sorted(entries, key=lambda entry: entry.path)
    paths = [entry.path for entry in ordered]
    if len(set(paths)) != len(paths) or any(path.startswith("/") or ".." in path.split("/") for path in paths):
        raise BadInput("an initramfs needs distinct relative paths", details=[p for p in paths if paths.count(p) > 1])
    out = bytearray()
    for number, entry in enumerate(ordered, 1):
        out += _member(entry, number)
    out += _member(CpioEntry("TRAILER!!!", 0), 0)
    out += bytes(-len(out) % 512)
    return bytes(out)


def _member(entry: CpioEntry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    head += bytes(-len(head) % 4)
    return head + entry.data + bytes(-len(entry.data) % 4)
