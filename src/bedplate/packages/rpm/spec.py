"""What a package to write is made of: one value, checked before a byte is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from bedplate.model.errors import BadInput
from bedplate.model.package import FileEntry, FileFlag, FileKind, Nevra, Script, SourceRef

Contents = Callable[[FileEntry], Iterable[bytes | memoryview]]
"""Gives the content of a regular file in pieces. Called once for each link group; twice for files that name users."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\Z")
_VERSION = re.compile(r"[A-Za-z0-9._+~^]+\Z")
_MAX_PATH = 4095


@dataclass(frozen=True, slots=True)
class FileTrigger:
    """A file trigger: ``kind`` is ``%filetriggerin``, ``%transfiletriggerin``, ``%filetriggerun``,
    ``%transfiletriggerun``, ``%filetriggerpostun`` or ``%transfiletriggerpostun``; it runs for paths that start with
    one of ``prefixes``, higher ``priority`` first."""

    kind: str
    interpreter: str
    text: str
    prefixes: tuple[str, ...]
    priority: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """A binary package to write.

    Dependencies are RPM dependency strings, rich ones included. What rpmbuild adds by itself is added by the writer too
    and need not be given: the package's own ``name = evr`` and ``name(isa) = evr``, ``config(name)``, ``user(x)`` and
    ``group(x)``, ``rpmlib(…)``, interpreters of scriptlets, and ``bedplate-source(name) = evr``. ELF dependencies and
    those of the scripts among the files are the caller's.

    ``files`` may be in any order; directories that other packages own too are fine. ``build_time`` is in seconds since
    the epoch. ``scriptlets`` are of the kinds ``%pre``, ``%post``, ``%preun``, ``%postun``, ``%pretrans``,
    ``%posttrans``, ``%preuntrans``, ``%postuntrans``.
    """

    nevra: Nevra
    source: SourceRef
    summary: str
    description: str
    license: str
    url: str = ""
    vendor: str = ""
    distribution: str = ""
    packager: str = ""
    group: str = "Unspecified"
    build_time: int = 0
    build_host: str = "bedplate"
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    obsoletes: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    supplements: tuple[str, ...] = ()
    enhances: tuple[str, ...] = ()
    files: tuple[FileEntry, ...] = ()
    scriptlets: tuple[Script, ...] = ()
    file_triggers: tuple[FileTrigger, ...] = ()
    changelog: tuple[tuple[int, str, str], ...] = field(default=())
    """``(seconds since the epoch, "Author <mail> - evr", text)``, newest first."""


def check_spec(spec: PackageSpec) -> tuple[FileEntry, ...]:
    """The files of ``spec`` in rpm's order (bytes of the path).

    Raises:
        BadInput: a name, version or path that RPM or an image cannot hold; two entries with one path; a hard link
            whose first link is missing or differs.
    """
    where = str(spec.nevra)
    for kind, text, pattern in (
        ("name", spec.nevra.name, _NAME),
        ("version", spec.nevra.evr.version, _VERSION),
        ("release", spec.nevra.evr.release, _VERSION),
        ("architecture", spec.nevra.arch, _NAME),
        ("source name", spec.source.name, _NAME),
        ("source version", spec.source.evr.version, _VERSION),
    ):
        if not pattern.match(text):
            raise BadInput(f"{kind} {text!r} holds what RPM forbids", where=where)
    files = tuple(sorted(spec.files, key=lambda entry: entry.path.encode("utf-8", "surrogateescape")))
    by_path = {entry.path: entry for entry in files}
    if len(by_path) != len(files):
        double = next(one.path for one, two in pairwise(files) if one.path == two.path)
        raise BadInput(f"two files are called {double}", where=where)
    for entry in files:
        check_path(entry.path, where)
        if entry.mode & ~0o7777 or entry.size < 0 or not 0 <= entry.mtime < 1 << 32:
            raise BadInput(f"mode, size or time of {entry.path} is out of range", where=where)
        if entry.kind is FileKind.SYMLINK and (not entry.target or "\0" in entry.target):
            raise BadInput(f"symbolic link {entry.path} has no valid target", where=where)
        if entry.hardlink:
            _check_hardlink(entry, by_path.get(entry.hardlink), where)
    return files


def _check_hardlink(entry: FileEntry, first: FileEntry | None, where: str) -> None:
    if entry.flags & FileFlag.GHOST or (first is not None and first.flags & FileFlag.GHOST):
        raise BadInput(f"{entry.path} is a hard link and a %ghost", where=where)
    if first is None or first.kind is not FileKind.FILE or entry.kind is not FileKind.FILE:
        raise BadInput(f"{entry.path} is a hard link to {entry.hardlink}, which is no file of the package", where=where)
    if first.hardlink not in ("", first.path):
        raise BadInput(f"{entry.path} is a hard link to {entry.hardlink}, which is itself a later link", where=where)
    alike = (first.mode, first.user, first.group, first.size, first.mtime, first.capabilities)
    if alike != (entry.mode, entry.user, entry.group, entry.size, entry.mtime, entry.capabilities):
        raise BadInput(f"the hard links {entry.path} and {first.path} differ in mode, owner, size or time", where=where)


def check_path(path: str, where: str) -> None:
    """Refuse a path that is not absolute and in its simplest form.

    Raises:
        BadInput: relative, with ``.``, ``..`` or an empty part, with a NUL, or too long.
    """
    if path == "/":
        return
    parts = path.split("/")
    if (
        parts[0]
        or any(part in ("", ".", "..") for part in parts[1:])
        or "\0" in path
        or len(path.encode("utf-8", "surrogateescape")) > _MAX_PATH
    ):
        raise BadInput(
            f"unsafe path {path!r}",
            where=where,
            remedy="the package could write outside its root; do not use it, and tell its upstream",
        )
