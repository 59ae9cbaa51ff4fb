"""What every imported package's files go through, whatever format they came in: drops, modes, flags, set-id checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bedplate.model.definition.facts import Mode, PackageFacts
from bedplate.model.errors import Finding, Level
from bedplate.model.globs import matcher
from bedplate.model.package import FileEntry, FileKind
from bedplate.packages.draft import Recipe

_SET_ID = 0o6000
_STICKY = 0o1000
_OTHERS_WRITE = 0o002


def apply(recipe: Recipe, files: Iterable[FileEntry]) -> tuple[tuple[FileEntry, ...], tuple[Finding, ...]]:
    """The files of our package, sorted by path, and what was noticed about them.

    Directories of ``filesystem`` are left to it, paths the facts drop are gone, modes the facts give are set. A set-id
    or world-writable file that no fact declares is an error finding.
    """
    facts = recipe.facts or PackageFacts(name=recipe.package.name)
    dropped = matcher(facts.drop)
    kept = [
        entry
        for entry in files
        if not dropped(entry.path) and not (entry.kind is FileKind.DIRECTORY and entry.path in recipe.directories)
    ]
    kept = _regroup(kept)
    findings = [*_unused_modes(facts, kept, recipe), *_surprises(kept, facts.modes, recipe.package.name)]
    result = [_with_mode(entry, facts.modes) for entry in kept]
    return tuple(sorted(result, key=lambda entry: entry.path)), tuple(findings)


def _regroup(files: list[FileEntry]) -> list[FileEntry]:
    """Hard links whose first name was dropped hang on the first name that is left."""
    paths = {entry.path for entry in files}
    heirs: dict[str, str] = {}
    result = []
    for entry in files:
        if entry.hardlink and entry.hardlink not in paths:
            heir = heirs.setdefault(entry.hardlink, entry.path)
            result.append(replace(entry, hardlink=heir))
        else:
            result.append(entry)
    return result


def _with_mode(entry: FileEntry, modes: Mapping[str, Mode]) -> FileEntry:
    # Links of one file share one mode: the first path's.
    mode = modes.get(entry.hardlink or entry.path)
    if mode is None or entry.kind is FileKind.SYMLINK:
        return entry
    capabilities = mode.capabilities or entry.capabilities
    return replace(entry, mode=int(mode.mode, 8), user=mode.user, group=mode.group, capabilities=capabilities)


def _unused_modes(facts: PackageFacts, files: list[FileEntry], recipe: Recipe) -> Iterable[Finding]:
    paths = {entry.path for entry in files}
    for path in sorted(facts.modes):
        if path not in paths:
            yield Finding(
                id="import.mode.unused",
                level=Level.WARNING,
                cause=f"the facts give {path} a mode, but the package does not hold it",
                where=recipe.package.name,
                remedy="take the entry out of distro/packages, or correct its path",
            )


def _surprises(files: list[FileEntry], modes: Mapping[str, Mode], name: str) -> Iterable[Finding]:
    for entry in files:
        if entry.kind is FileKind.SYMLINK or (entry.hardlink or entry.path) in modes:
            continue
        if entry.mode & _SET_ID and entry.kind is FileKind.FILE:
            yield Finding(
                id="import.setid.undeclared",
                level=Level.ERROR,
                cause=f"{entry.path} has mode {entry.mode:04o} ({entry.user}:{entry.group})",
                where=name,
                remedy="read what it does, then declare its mode in distro/packages, or a mode without the set-id bit",
            )
        elif entry.mode & _OTHERS_WRITE and not (entry.kind is FileKind.DIRECTORY and entry.mode & _STICKY):
            yield Finding(
                id="import.mode.world-writable",
                level=Level.ERROR,
                cause=f"{entry.path} has mode {entry.mode:04o}: anybody may write to it",
                where=name,
                remedy="declare its mode in distro/packages",
            )
