"""The content of the root file system as a tar stream, for a system that brings its own kernel.

What only a machine's own boot needs is left out: kernel modules, firmware, boot loaders. Labels of SELinux are those of
the system the content is put on and are left out too; file capabilities are kept.

Source: pax(1) interchange format, ``SCHILY.xattr.`` records as GNU tar and libarchive write them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bedplate.model.errors import BadInput
from bedplate.model.filesystem import FileNode, FileSystem

# What lies below is left out; the directories that the kernel or a boot fills stay, empty.
LEFT_OUT = (
    "/boot", "/efi", "/usr/lib/modules", "/usr/lib/firmware", "/usr/lib/systemd/boot", "/usr/lib/linux",
)  # fmt: skip
EMPTIED = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp")
_GONE = ("/lost+found",)
_KEPT_XATTRS = ("security.capability",)


@dataclass(frozen=True, slots=True)
class Extra:
    """A file a form adds or puts in another's place; with a ``target`` a symbolic link."""

    data: bytes = b""
    mode: int = 0o644
    target: str = ""


def tar_stream(system: FileSystem, epoch: int, extras: Mapping[str, Extra] | None = None) -> Iterator[bytes]:
    """The tree as a tar archive: paths without a leading slash, in byte order, ``extras`` by absolute path in their
    places. Files with several names are hard links to the first.

    Raises:
        BadInput: the file system is damaged, or an extra's directory is not there.
    """
    left = dict(extras or {})
    known: set[str] = {"/"}
    first: dict[int, str] = {}
    for node in system.walk():
        path = node.path
        if path == "/" or _is_left_out(path):
            continue
        known.add(path)
        if path in left:
            yield from _extra(path, left.pop(path), epoch)
        elif node.is_directory:
            yield _header(node, tarfile.DIRTYPE, epoch, system)
        elif node.is_symlink:
            yield _header(node, tarfile.SYMTYPE, epoch, system, link=b"".join(system.stream(node)))
        elif node.is_file and node.number in first:
            yield _header(node, tarfile.LNKTYPE, epoch, system, link=first[node.number].lstrip("/").encode())
        elif node.is_file:
            first[node.number] = path
            yield _header(node, tarfile.REGTYPE, epoch, system, size=node.size)
            yield from system.stream(node)
            yield bytes(-node.size % tarfile.BLOCKSIZE)
    for path, extra in sorted(left.items()):
        if path.rpartition("/")[0] not in known and path.count("/") > 1:
            raise BadInput("there is no directory for this file in the image", where=path)
        yield from _extra(path, extra, epoch)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _is_left_out(path: str) -> bool:
    if path in _GONE or any(path == one or path.startswith(one + "/") for one in LEFT_OUT):
        return True
    return any(path.startswith(one + "/") for one in EMPTIED)


def _header(node: FileNode, kind: bytes, epoch: int, system: FileSystem, size: int = 0, link: bytes = b"") -> bytes:
    info = tarfile.TarInfo(node.path.lstrip("/"))
    info.type, info.size, info.linkname = kind, size, link.decode("utf-8", "surrogateescape")
    info.mode, info.uid, info.gid = node.mode & 0o7777, node.uid, node.gid
    # A file system may know no times of its own; nothing is newer than the image.
    info.mtime = min(node.mtime, epoch) or epoch
    if kind == tarfile.REGTYPE:
        kept = {name: value for name, value in system.xattrs(node) if name in _KEPT_XATTRS}
        info.pax_headers = {
            f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in kept.items()
        }
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _extra(path: str, extra: Extra, epoch: int) -> Iterator[bytes]:
    info = tarfile.TarInfo(path.lstrip("/"))
    info.type = tarfile.SYMTYPE if extra.target else tarfile.REGTYPE
    info.size, info.linkname, info.mtime = len(extra.data), extra.target, epoch
    info.mode = 0o777 if extra.target else extra.mode
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    yield extra.data + bytes(-len(extra.data) % tarfile.BLOCKSIZE)
