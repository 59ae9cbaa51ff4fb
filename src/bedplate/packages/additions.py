"""What the facts of a package add to its payload: the files, links, directories and accounts its scripts would make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from bedplate.model.definition.facts import AddedFile, Mode, PackageFacts
from bedplate.model.errors import BadInput
from bedplate.model.package import FileEntry, FileFlag, FileKind
from bedplate.packages.draft import PayloadStore, Recipe

SYSUSERS = "/usr/lib/sysusers.d/"
TMPFILES = "/usr/lib/tmpfiles.d/"


def add(recipe: Recipe, files: Iterable[FileEntry], store: PayloadStore) -> list[FileEntry]:
    """``files`` with what the facts add; contents of added files are put into ``store``.

    What upstream's payload has at the same path gives way to a declared link or file, and a declared directory sets its
    owner and mode. Where the package brings accounts, upstream's own sysusers.d files, whose numbers are chosen on the
    machine, give way to one with the frozen numbers.

    Raises:
        BadInput: a fact copies a file that the package does not hold, or a sysusers.d file of upstream's names an
            account that the facts do not.
    """
    facts = recipe.facts
    kept = list(files)
    if facts is None:
        return kept
    stamp = max((entry.mtime for entry in kept), default=0)
    added: dict[str, FileEntry] = {}
    for path, mode in facts.directories.items():
        added[path] = _owned(FileEntry(path, FileKind.DIRECTORY, 0, mtime=stamp), mode)
    for path, target in facts.links.items():
        added[path] = FileEntry(path, FileKind.SYMLINK, 0o777, mtime=stamp, target=target)
    by_path = {entry.path: entry for entry in kept}
    for path, file in facts.files.items():
        added[path] = _file(recipe, path, file, by_path, store, stamp)
    name = recipe.package.name
    if facts.tmpfiles:
        path = f"{TMPFILES}bedplate-{name}.conf"
        added[path] = _put(path, "\n".join([*facts.tmpfiles, ""]).encode(), store, stamp)
    if recipe.accounts:
        path = f"{SYSUSERS}bedplate-{name}.conf"
        added[path] = _put(path, recipe.accounts.encode(), store, stamp)
        kept = [entry for entry in kept if not _is_replaced(entry, facts, store, name)]
    _refuse_unlike(kept, added, name)
    return [*(entry for entry in kept if entry.path not in added), *added.values()]


def _owned(entry: FileEntry, mode: Mode) -> FileEntry:
    return replace(
        entry, mode=int(mode.mode, 8), user=mode.user, group=mode.group, capabilities=mode.capabilities or ""
    )


def _put(path: str, data: bytes, store: PayloadStore, stamp: int) -> FileEntry:
    store.put(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return FileEntry(path, FileKind.FILE, 0o644, mtime=stamp, size=len(data), sha256=digest)


def _file(
    recipe: Recipe, path: str, file: AddedFile, by_path: dict[str, FileEntry], store: PayloadStore, stamp: int
) -> FileEntry:
    flags = FileFlag.CONFIG | FileFlag.NOREPLACE if file.config else FileFlag.NONE
    if not file.copy_of:
        return replace(_owned(_put(path, file.content.lstrip("\n").encode(), store, stamp), file.mode), flags=flags)
    source = by_path.get(file.copy_of)
    if source is None or source.kind is not FileKind.FILE:
        raise BadInput(
            f"the facts make {path} a copy of {file.copy_of}, which the package does not hold",
            where=recipe.package.name,
            remedy="correct `copy_of` in distro/packages",
        )
    if file.edits:
        text = _edited(recipe.package.name, file, store.text(source.hardlink or source.path))
        return replace(_owned(_put(path, text.encode(), store, stamp), file.mode), flags=flags)
    store.copy(source.hardlink or source.path, path)
    made = FileEntry(path, FileKind.FILE, 0, mtime=stamp, size=source.size, sha256=source.sha256)
    return replace(_owned(made, file.mode), flags=flags)


def _edited(package: str, file: AddedFile, text: str) -> str:
    for edit in file.edits:
        times = text.count(edit.old)
        if times != 1:
            raise BadInput(
                f"an edit of {file.copy_of} looks for a text that is there {times} times, not once: {edit.old!r:.80}",
                where=package,
                remedy="upstream changed the file: look at it, and correct `edits` in distro/packages",
            )
        text = text.replace(edit.old, edit.new)
    return text


def _is_replaced(entry: FileEntry, facts: PackageFacts, store: PayloadStore, name: str) -> bool:
    if entry.kind is not FileKind.FILE or not entry.path.startswith(SYSUSERS):
        return False
    known = {"u": {*facts.users}, "g": {*facts.groups, *facts.users}}
    for line in store.text(entry.hardlink or entry.path).splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#") or fields[0][0] not in known:
            continue
        if fields[1] not in known[fields[0][0]]:
            raise BadInput(
                f"{entry.path} makes the account {fields[1]!r}, which the package's facts do not name",
                where=name,
                remedy="give it a number in distro/ids.toml and name it among the users or groups of the package",
            )
    return True


def _refuse_unlike(kept: Iterable[FileEntry], added: dict[str, FileEntry], name: str) -> None:
    for entry in kept:
        other = added.get(entry.path)
        if other is not None and FileKind.DIRECTORY in (entry.kind, other.kind) and entry.kind is not other.kind:
            raise BadInput(
                f"the facts make {entry.path} a {other.kind}, in the package it is a {entry.kind}",
                where=name,
                remedy="correct the entry in distro/packages",
            )
