"""Marks files of an rpm database as not installed. Runs as a program of its own, in the tools tree's Python.

rpm ignores ``--excludepath`` together with ``--justdb``. The state of a file is one byte of the array ``FILESTATES``,
which rpm adds to a header when it installs it, outside of what the header's digest covers. The database is written by
the tools tree's SQLite, whose version is in the file, so that the bytes do not depend on the machine.

Usage: ``python3 rpmdb_states.py DATABASE``, with the paths on standard input, one a line.

Source: rpm's docs/manual/format_header.md; lib/rpmtag.h (tags); lib/rpmfi.h (states).
"""

from __future__ import annotations

import sqlite3
import struct
import sys

_BASENAMES, _DIRNAMES, _DIRINDEXES, _FILESTATES = 1117, 1118, 1116, 1029
_NOT_INSTALLED = 2


def mark(header: bytes, paths: frozenset[str]) -> bytes:
    """``header`` (as the database keeps it, without magic) with every file of ``paths`` marked as not installed."""
    count, _ = struct.unpack_from(">II", header)
    start = 8 + 16 * count
    entries = {}
    for number in range(count):
        tag, _, offset, length = struct.unpack_from(">IIiI", header, 8 + 16 * number)
        entries[tag] = (start + offset, length)
    if not {_BASENAMES, _DIRNAMES, _DIRINDEXES, _FILESTATES} <= entries.keys():
        return header  # a package without files
    names, folders = (_strings(header, *entries[tag]) for tag in (_BASENAMES, _DIRNAMES))
    at, length = entries[_DIRINDEXES]
    indexes = struct.unpack_from(f">{length}I", header, at)
    changed = bytearray(header)
    states, _ = entries[_FILESTATES]
    for number, (name, index) in enumerate(zip(names, indexes, strict=True)):
        if folders[index] + name in paths:
            changed[states + number] = _NOT_INSTALLED
    return bytes(changed)


def _strings(header: bytes, at: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        end = header.index(b"\0", at)
        found.append(header[at:end].decode("utf-8", "surrogateescape"))
        at = end + 1
    return found


def main(database: str, paths: frozenset[str]) -> None:
    """Mark ``paths`` in every header of the database."""
    connection = sqlite3.connect(database)
    with connection:
        for key, header in connection.execute("SELECT hnum, blob FROM Packages ORDER BY hnum").fetchall():
            changed = mark(header, paths)
            if changed != header:
                connection.execute("UPDATE Packages SET blob = ? WHERE hnum = ?", (changed, key))
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], frozenset(sys.stdin.read().splitlines()))
