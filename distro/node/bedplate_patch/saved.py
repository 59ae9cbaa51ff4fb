"""Saves the system before a patch and puts it back, file by file.

``/usr`` is saved as a tree of hard links: rpm never writes into a file, it puts a new one in its place, so the old one
lives on in the saved tree and costs a directory entry. What is written in place (``/etc``, the package database, ...)
is copied. Putting back makes each path what it was: the same inode, or the same content, mode, owner, times and
extended attributes. It can be repeated from any point; the saved files are only read.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate_patch.errors import NotStarted
from bedplate_patch.journal import Checkpoint, Journal

LINKED = ("usr",)
COPIED = (
    "etc",
    "var/lib/rpm",
    "var/lib/dnf",
    "var/lib/bedplate",
    "var/lib/selinux",
    "var/lib/systemd/catalog",
)
# The administrator's own below a saved tree: never saved, never put back.
KEPT = ("usr/local",)
# What a package may own and an upgrade must not take back: data and what lives in memory only.
NOT_SAVED = ("proc", "sys", "dev", "run", "tmp", "var/tmp", "var/run", "var/lock", "var/cache", "home", "root", "efi")
# Held by whoever saves: put back, it would be nobody's.
_LOCKS = ("var/lib/dnf/rpmdb_lock.pid",)
# Trees that only triggers of these paths write into, and that take long to copy.
_ONLY_FOR = {"var/lib/selinux": "/usr/share/selinux/", "var/lib/systemd/catalog": "/usr/lib/systemd/catalog/"}
_SQLITE_BESIDE = ("-wal", "-shm", "-journal")
_RPM_BESIDE = re.compile(r";[0-9a-f]{8}")
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """What is saved below ``root``: trees that are linked, trees and files that are copied, trees left alone."""

    root: Path
    linked: tuple[str, ...] = LINKED
    copied: tuple[str, ...] = COPIED
    kept: tuple[str, ...] = KEPT

    def extra(self, paths: Iterable[str]) -> list[str]:
        """Those of a transaction's ``paths`` (absolute) that lie outside of the trees, without their first slash.
        Directories are not among them: they hold what is not ours."""
        inside = (*self.linked, *self.copied, *NOT_SAVED, "bin", "sbin", "lib", "lib64")
        found = []
        for path in sorted({path.lstrip("/") for path in paths}):
            if any(path == one or path.startswith(one + "/") for one in inside):
                continue
            if not (self.root / path).is_dir() or (self.root / path).is_symlink():
                found.append(path)
        return found


ROOT_LAYOUT = Layout(Path("/"))


def concerned(layout: Layout, paths: Collection[str]) -> Layout:
    """``layout`` without the trees to copy that a transaction of these ``paths`` (absolute) cannot change."""
    copied = (
        tree
        for tree in layout.copied
        if tree not in _ONLY_FOR or any(path.startswith(_ONLY_FOR[tree]) for path in paths)
    )
    return replace(layout, copied=tuple(copied))


def copied_bytes(layout: Layout) -> int:
    """How many bytes the copies will take, at most."""
    total = 0
    for one in layout.copied:
        for folder, _, names in os.walk(layout.root / one):
            for name in names:
                total += Path(folder, name).lstat().st_size + 4096
    return total


def check_room(layout: Layout, store: Path, coming: int) -> None:
    """Refuse to begin what would fill the disk. ``coming``: bytes of the new packages, packed and unpacked.

    Raises:
        NotStarted: too little room.
    """
    place = store if store.exists() else store.parent
    free = shutil.disk_usage(place).free
    # A directory of the saved tree takes a block.
    folders = sum(1 for one in layout.linked for _ in os.walk(layout.root / one)) * 4096
    needed = coming + copied_bytes(layout) + folders + _SPARE_BYTES
    if free < needed:
        raise NotStarted(
            f"{needed >> 20} MiB are needed to patch with a way back, {free >> 20} MiB are free",
            remedy="make room, or grow the disk: the root follows at the next boot",
        )


def save(journal: Journal, layout: Layout, transaction_paths: Iterable[str]) -> None:
    """Save everything a transaction may change, and mark the journal complete."""
    target = journal.current / "saved"
    items: list[tuple[str, str]] = []
    for one in layout.linked:
        if os.path.lexists(layout.root / one):
            Saver(layout, journal.checkpoint, target).tree(one, link=True)
            items.append(("C", one))
    for one in (*layout.copied, *layout.extra(transaction_paths)):
        if "\n" in one:
            raise NotStarted(f"a file's name holds a line break: {one!r}", remedy="rename or remove it")
        if not os.path.lexists(layout.root / one):
            items.append(("A", one))
            continue
        Saver(layout, journal.checkpoint, target).tree(one, link=False)
        items.append(("C", one))
    journal.write_items(items)
    (journal.current / "kept").write_text("".join(f"{one}\n" for one in layout.kept))
    journal.mark_complete()


class Saver:
    """Saves trees and single files below ``target``, by their own paths."""

    def __init__(self, layout: Layout, checkpoint: Checkpoint, target: Path) -> None:
        self.layout = layout
        self.checkpoint = checkpoint
        self.target = target

    def tree(self, path: str, *, link: bool) -> None:
        """Save ``path`` and all below it, as hard links or as copies."""
        source = self.layout.root / path
        missing = [one for one in reversed(Path(path).parents) if str(one) != "."]
        for parent in missing:
            if not (self.target / parent).is_dir():
                (self.target / parent).mkdir()
                copy_metadata(self.layout.root / parent, self.target / parent)
        status = os.lstat(source)
        if link and stat.S_ISDIR(status.st_mode):
            self._linked(path, os.fspath(source), status.st_dev)
        elif link:
            _link(os.fspath(source), os.fspath(self.target / path))
        else:
            self._copied(path, source, status, status.st_dev)

    def _linked(self, path: str, source: str, device: int) -> None:
        # Tens of thousands of files: plain strings, and nothing is asked that the directory does not say by itself.
        target = f"{self.target}/{path}"
        Path(target).mkdir()
        self.checkpoint(f"save {path}")
        with os.scandir(source) as entries:
            for entry in entries:
                here = f"{path}/{entry.name}"
                if not entry.is_dir(follow_symlinks=False):
                    _link(entry.path, f"{target}/{entry.name}")
                elif here not in self.layout.kept:
                    # What is mounted there belongs to someone else.
                    if entry.stat(follow_symlinks=False).st_dev == device:
                        self._linked(here, entry.path, device)
                    else:
                        Path(target, entry.name).mkdir()
        copy_metadata(source, target)

    def _copied(self, path: str, source: Path, status: os.stat_result, device: int) -> None:
        target = self.target / path
        if path in _LOCKS:
            return
        if stat.S_ISDIR(status.st_mode):
            if path in self.layout.kept:
                return
            target.mkdir()
            self.checkpoint(f"save {path}")
            if status.st_dev == device:
                with os.scandir(source) as entries:
                    for entry in entries:
                        below = entry.stat(follow_symlinks=False)
                        self._copied(f"{path}/{entry.name}", Path(entry.path), below, device)
            copy_metadata(source, target)
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            copy(source, target, status)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        # Another file system, or a file with all the links it can have.
        status = os.lstat(source)
        if not stat.S_ISSOCK(status.st_mode):
            copy(Path(source), Path(target), status)


def copy(source: Path, target: Path, status: os.stat_result) -> None:
    """A file or symbolic link with its metadata. SQLite databases are copied as their own library does: whole, whatever
    another process is writing."""
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(source.readlink())
    elif source.suffix == ".sqlite":
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
    elif source.name.endswith(tuple(f".sqlite{suffix}" for suffix in _SQLITE_BESIDE)):
        return
    else:
        shutil.copyfile(source, target, follow_symlinks=False)
    copy_metadata(source, target)


def copy_metadata(source: Path | str, target: Path | str) -> None:
    """Owner, mode, times and extended attributes, labels among them."""
    status, now = os.lstat(source), os.lstat(target)
    if (status.st_uid, status.st_gid) != (now.st_uid, now.st_gid):
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        now = os.lstat(target)
    if not stat.S_ISLNK(status.st_mode) and status.st_mode != now.st_mode:
        Path(target).chmod(stat.S_IMODE(status.st_mode))
    wanted, there = _attributes(source), _attributes(target)
    for name in there.keys() - wanted.keys():
        os.removexattr(target, name, follow_symlinks=False)
    for name, value in wanted.items():
        if there.get(name) != value:
            os.setxattr(target, name, value, follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _attributes(path: Path | str) -> dict[str, bytes]:
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


def narrow(journal: Journal, layout: Layout, path: str = "etc") -> None:
    """After the transaction: of the copied tree ``path`` only what differs from its copy stays in the list, so that
    what others write there later is not taken back with it."""
    items: list[tuple[str, str]] = []
    for kind, one in journal.items():
        if (kind, one) == ("C", path):
            items += _differences(journal.current / "saved" / path, layout.root / path, path)
        else:
            items.append((kind, one))
    journal.write_items(items)


def _differences(saved: Path, live: Path, path: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    before, after = _names(saved), _names(live)
    for name in sorted(before | after):
        here = f"{path}/{name}"
        if "\n" in name:
            continue
        if name not in before:
            found.append(("A", here))
        elif name not in after or not alike(saved / name, live / name):
            found.append(("C", here))
        elif (saved / name).is_dir() and not (saved / name).is_symlink():
            found += _differences(saved / name, live / name, here)
    return found


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _inodes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}


def alike(one: Path, two: Path) -> bool:
    """Whether two paths are of one kind and have the same content, owner and mode. Of directories only these latter."""
    first, second = os.lstat(one), os.lstat(two)
    if (first.st_ino, first.st_dev) == (second.st_ino, second.st_dev):
        return True
    if (first.st_mode, first.st_uid, first.st_gid) != (second.st_mode, second.st_uid, second.st_gid):
        return False
    if stat.S_ISLNK(first.st_mode):
        return one.readlink() == two.readlink()
    if stat.S_ISREG(first.st_mode):
        return first.st_size == second.st_size and filecmp.cmp(one, two, shallow=False)
    return True


def put_back(journal: Journal, layout: Layout) -> int:
    """Make every saved path what it was; the number of paths that were changed. It may be repeated from any point."""
    changed = 0
    restorer = _Restorer(journal, layout)
    # Libraries and programs first, what lists them last.
    for kind, path in journal.items():
        saved, live = journal.current / "saved" / path, layout.root / path
        if kind == "A":
            changed += restorer.remove(live)
        elif os.path.lexists(saved):
            if os.path.lexists(live.parent) and not live.parent.is_dir():
                # A file that took the place of a directory.
                restorer.remove(live.parent)
            live.parent.mkdir(parents=True, exist_ok=True)
            changed += restorer.entry(saved, live, path)
    remove_leftovers(journal, layout)
    journal.flush()
    return changed


def remove_leftovers(journal: Journal, layout: Layout) -> None:
    """Remove the half-written files that rpm (``NAME;5f00aa11``) and putting back left beside single files, and give
    directories that were made anew what they had. In trees both has happened already."""
    by_folder: dict[Path, set[str]] = {}
    for _, path in journal.items():
        if path not in layout.linked:
            by_folder.setdefault((layout.root / path).parent, set()).add(Path(path).name)
    for folder, known in sorted(by_folder.items()):
        if not folder.is_dir():
            continue
        besides = {_beside(folder / name).name for name in known}
        for name in sorted(_names(folder)):
            if name in besides or (_RPM_BESIDE.fullmatch(name[-9:]) and name[:-9] in known):
                (folder / name).unlink()
    below = {
        parent for folder in by_folder for parent in (folder, *folder.parents) if parent.is_relative_to(layout.root)
    }
    for folder in sorted(below - {layout.root}, reverse=True):
        saved = journal.current / "saved" / folder.relative_to(layout.root)
        if saved.is_dir() and folder.is_dir():
            copy_metadata(saved, folder)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.bedplate-patch")


class _Restorer:
    def __init__(self, journal: Journal, layout: Layout) -> None:
        self.journal = journal
        self.layout = layout
        self.checkpoint = journal.checkpoint

    def entry(self, saved: Path, live: Path, path: str) -> int:
        status = os.lstat(saved)
        there = os.lstat(live) if os.path.lexists(live) else None
        if stat.S_ISDIR(status.st_mode):
            return self._directory(saved, live, path, there)
        if there is not None and stat.S_ISDIR(there.st_mode):
            self.remove(live)
        elif there is not None and alike(saved, live) and there.st_mtime_ns == status.st_mtime_ns:
            return 0
        self.checkpoint(f"restore {path}")
        beside = _beside(live)
        beside.unlink(missing_ok=True)
        try:
            os.link(saved, beside, follow_symlinks=False)
        except OSError:
            copy(saved, beside, status)
        if live.suffix == ".sqlite":
            # Changes to another content: SQLite would apply them to this one.
            for suffix in _SQLITE_BESIDE:
                live.with_name(live.name + suffix).unlink(missing_ok=True)
        beside.rename(live)
        return 1

    def _directory(self, saved: Path, live: Path, path: str, there: os.stat_result | None) -> int:
        changed = 0
        if there is not None and not stat.S_ISDIR(there.st_mode):
            self.remove(live)
            there = None
        if there is None:
            self.checkpoint(f"restore {path}")
            live.mkdir()
            changed += 1
        elif there.st_dev != os.lstat(live.parent).st_dev and path not in self.layout.linked:
            return 0
        # Names that are the same file on both sides were never replaced: most of a linked tree.
        same = os.lstat(saved).st_dev == os.lstat(live).st_dev
        wanted, present = _inodes(saved), _inodes(live)
        for name in sorted(wanted):
            if not same or wanted[name] != present.get(name):
                changed += self.entry(saved / name, live / name, f"{path}/{name}")
        for name in sorted(present):
            if name not in wanted and f"{path}/{name}" not in self.layout.kept:
                changed += self.remove(live / name)
        copy_metadata(saved, live)
        return changed

    def remove(self, path: Path) -> int:
        if not os.path.lexists(path):
            return 0
        self.checkpoint(f"remove {path.name}")
        if path.is_dir() and not path.is_symlink():
            if path.is_mount():
                return 0
            shutil.rmtree(path)
        else:
            path.unlink()
        return 1
