"""Saves what one ordinary transaction changes, path by path: for a few packages that is less than all of ``/usr``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from bedplate_patch.errors import NotStarted
from bedplate_patch.journal import Journal
from bedplate_patch.saved import NOT_SAVED, Layout, Saver

# What triggers make out of many packages' files, so that no package lists it.
_MADE = ("usr/lib/udev/hwdb.bin", "usr/share/glib-2.0/schemas/gschemas.compiled")
_ALTERNATIVES = "usr/lib/bedplate/alternatives"
_MODULES = re.compile(r"usr/lib/modules/[^/]+")


def save_paths(journal: Journal, layout: Layout, transaction_paths: Iterable[str]) -> None:
    """Save what a transaction of a few packages changes, path by path instead of all of ``/usr``, and mark the journal
    complete. ``transaction_paths`` are absolute: all files of the packages that go and come.

    Raises:
        NotStarted: a name that cannot be kept in the list.
    """
    target = journal.current / "saved"
    items: list[tuple[str, str]] = []
    inside = (*layout.copied, *layout.kept, *NOT_SAVED)
    wanted = {_real(layout.root, path) for path in transaction_paths} | set(made(layout, transaction_paths))
    for path in sorted(wanted):
        if "\n" in path:
            raise NotStarted(f"a file's name holds a line break: {path!r}", remedy="rename or remove it")
        if any(path == one or path.startswith(one + "/") for one in inside):
            continue
        live = layout.root / path
        if not os.path.lexists(live):
            new = _first_missing(layout.root, path)
            if not items or items[-1] != ("A", new):
                items.append(("A", new))
        elif live.is_symlink() or not live.is_dir():
            Saver(layout, journal.checkpoint, target).tree(path, link=True)
            items.append(("C", path))
    for one in layout.copied:
        if os.path.lexists(layout.root / one):
            Saver(layout, journal.checkpoint, target).tree(one, link=False)
            items.append(("C", one))
    journal.write_items(items)
    (journal.current / "kept").write_text("")
    journal.mark_complete()


def made(layout: Layout, transaction_paths: Iterable[str]) -> list[str]:
    """What triggers may write outside of the copied trees, for these paths."""
    found = list(_MADE)
    try:
        lines = (layout.root / _ALTERNATIVES).read_text().splitlines()
    except FileNotFoundError:
        lines = []
    found += [line.split()[0].lstrip("/") for line in lines if line.startswith("/")]
    kernels = {match[0] for match in map(_MODULES.match, (path.lstrip("/") for path in transaction_paths)) if match}
    for folder in sorted(kernels):
        found += [f"{folder}/{path.name}" for path in sorted((layout.root / folder).glob("modules.*"))]
    return found


def _real(root: Path, path: str) -> str:
    """``path`` without its first slash, and with its directory as it is called below ``root``: /lib is /usr/lib."""
    folder, _, name = path.lstrip("/").rpartition("/")
    real = _real_folder(root, folder)
    return f"{real}/{name}" if real else name


@lru_cache(maxsize=4096)
def _real_folder(root: Path, folder: str) -> str:
    real = os.path.relpath(os.path.realpath(root / folder), os.path.realpath(root))
    return "" if real == "." else real


def _first_missing(root: Path, path: str) -> str:
    parts = path.split("/")
    for count in range(1, len(parts)):
        here = "/".join(parts[:count])
        if not os.path.lexists(root / here):
            return here
    return path
