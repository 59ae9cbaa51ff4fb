"""Paths that several packages hold: rpm refuses a transaction whose packages disagree about one.

Directories may be shared when mode and owner are the same; files only when they are alike in everything. Packages that
conflict by name never meet in a transaction and are not compared. Source: rpm's ``rpmfilesCompare``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from bedplate.model.errors import Finding, Level
from bedplate.model.package import FileEntry, FileKind
from bedplate.model.relation import relation_names
from bedplate.packages.rpm.reader import RpmPackage

_Look = tuple[str, int, str, str, str, str]


def collisions(packages: Iterable[RpmPackage]) -> list[Finding]:
    """An error for each path that two packages, which may be installed together, hold in different ways."""
    seen: dict[str, list[tuple[str, _Look]]] = {}
    conflicting: dict[str, set[str]] = {}
    for package in packages:
        name = package.nevra.name
        conflicting[name] = {one for text in package.conflicts for one in relation_names(text)}
        for entry in package.files:
            seen.setdefault(entry.path, []).append((name, _look(entry)))
    return [
        Finding(
            id="import.path.collision",
            level=Level.ERROR,
            cause=f"{path} is {_words(one)} in {first}, {_words(two)} in {second}",
            where=f"{first}, {second}",
            remedy="give both the same mode in distro/packages, or leave the path out of one with `drop`",
        )
        for path, holders in sorted(seen.items())
        if len(holders) > 1
        for (first, one), (second, two) in combinations(holders, 2)
        if one != two and first != second and not _apart(first, second, conflicting)
    ]


def _look(entry: FileEntry) -> _Look:
    if entry.kind is FileKind.SYMLINK:
        return (entry.kind.value, 0, "", "", entry.target, "")
    content = entry.sha256 if entry.kind is FileKind.FILE else ""
    return (entry.kind.value, entry.mode, entry.user, entry.group, content, entry.capabilities)


def _words(look: _Look) -> str:
    kind, mode, user, group, content, _ = look
    if kind == FileKind.SYMLINK.value:
        return f"a link to {content}"
    return f"a {kind} {mode:04o} {user}:{group}" + (f" ({content[:8]}…)" if content else "")


def _apart(one: str, two: str, conflicting: Mapping[str, set[str]]) -> bool:
    return two in conflicting[one] or one in conflicting[two]
