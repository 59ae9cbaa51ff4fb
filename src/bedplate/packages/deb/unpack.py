"""Unpacks a .deb's payload as the current user: for tools that are run from there, never for images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from bedplate.model.errors import BedplateError
from bedplate.model.package import FileEntry, FileKind
from bedplate.packages.deb.reader import DebPackage


def unpack(package: Path, root: Path, *, drop: tuple[str, ...] = ()) -> int:
    """Write the payload of ``package`` below ``root`` and give the number of bytes written.

    Owners and set-id bits are left out: nothing in the result has more rights than the caller. Paths matching a
    pattern of ``drop`` are skipped. Two packages may share a path only with the same content.

    Raises:
        BadInput: the package is damaged or hostile.
        BedplateError: another package has put a different file at the same path.
    """
    written = 0
    for entry, data in DebPackage.open(package).payload():
        if any(fnmatchcase(entry.path, pattern) for pattern in drop):
            continue
        target = root / entry.path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind is FileKind.DIRECTORY:
            target.mkdir(exist_ok=True)
        elif entry.kind is FileKind.SYMLINK:
            _place(target, entry, package, partial(os.symlink, entry.target))
        elif entry.hardlink:
            _place(target, entry, package, partial(os.link, root / entry.hardlink[1:]))
        else:
            _place(target, entry, package, partial(_write, data))
            target.chmod(entry.mode & 0o777 | 0o600)
            written += len(data)
    return written


def _write(content: bytes, path: Path) -> None:
    with path.open("xb") as stream:
        stream.write(content)


def _place(target: Path, entry: FileEntry, package: Path, make: Callable[[Path], None]) -> None:
    try:
        make(target)
    except FileExistsError:
        if not _same(target, entry):
            raise BedplateError(
                f"{entry.path} is already there with other content",
                where=package.name,
                remedy="drop one of the packages",
            ) from None


def _same(target: Path, entry: FileEntry) -> bool:
    if entry.kind is FileKind.SYMLINK:
        return target.is_symlink() and str(target.readlink()) == entry.target
    return target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == entry.sha256
