"""Results of stages kept under a digest of all they depend on.

One file per result: a line of canonical JSON (entries, sizes, the digest of the rest), then the contents in order. A
file that is cut short or altered is not used, and made again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bedplate.compose.plan import StageOutput
from bedplate.model.digest import canonical_json, sha256
from bedplate.model.package import FileEntry, FileKind

_FIELDS = ("path", "mode", "user", "group", "size", "sha256", "target")


def pack(output: StageOutput) -> bytes:
    """A result as bytes."""
    body = b"".join(output.contents[e.path] for e in output.files if e.kind is FileKind.FILE)
    header = {
        "name": output.name,
        "entries": [[e.kind.value, *(getattr(e, name) for name in _FIELDS)] for e in output.files],
        "replaces": list(output.replaces),
        "body": sha256(body),
    }
    return canonical_json(header) + b"\n" + body


def unpack(data: bytes) -> StageOutput | None:
    """The inverse of :func:`pack`; None for anything that is not exactly what it wrote."""
    head, newline, body = data.partition(b"\n")
    try:
        header: dict[str, Any] = json.loads(head)
        if not newline or header["body"] != sha256(body):
            return None
        entries = tuple(
            FileEntry(kind=FileKind(kind), **dict(zip(_FIELDS, values, strict=True)))
            for kind, *values in header["entries"]
        )
        contents: dict[str, bytes] = {}
        at = 0
        for entry in entries:
            if entry.kind is FileKind.FILE:
                contents[entry.path] = body[at : at + entry.size]
                at += entry.size
        return StageOutput(header["name"], entries, contents, tuple(header["replaces"]))
    except (ValueError, KeyError, TypeError):
        return None


class StageCache:
    """Results below one directory. Safe for several processes: files appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> StageOutput | None:
        """The result kept under ``key``, None when there is none that is whole."""
        try:
            return unpack((self._folder / key).read_bytes())
        except FileNotFoundError:
            return None

    def put(self, key: str, output: StageOutput) -> None:
        """Keep a result."""
        write_entry(self._folder / key, pack(output))


def write_entry(path: Path, data: bytes) -> None:
    """Write a cache entry: other processes see it whole or not at all.

    Nothing waits until it is on the disk, which takes milliseconds for each of some hundred entries. After a power
    failure it may hold anything: this is for entries whose readers check them and make them again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
