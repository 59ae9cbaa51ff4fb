"""Which files of an image are scripts, and for which interpreter: seen while contents are read, kept per group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bedplate.compose.groups import ContentGroup, GroupSource
from bedplate.compose.stages.cache import write_entry
from bedplate.model.digest import canonical_json

_LONGEST_LINE = 256


def interpreter_of(data: bytes) -> str:
    """The program the first line names (execve(2)), empty for what is no script; ``env NAME`` gives NAME."""
    if not data.startswith(b"#!"):
        return ""
    words = data[2:_LONGEST_LINE].split(b"\n", 1)[0].decode(errors="replace").split()
    if not words:
        return ""
    return words[1] if words[0].endswith("/env") and len(words) > 1 else words[0]


class ScriptIndex:
    """Interpreters of the scripts of content groups, kept below one directory under the groups' keys."""

    def __init__(self, folder: Path, source: GroupSource) -> None:
        self._folder = folder
        self._source = source

    def reading(self, group: ContentGroup) -> Iterator[tuple[str, bytes]]:
        """The group's contents, as the source gives them; what is seen on the way is kept."""
        seen: dict[str, str] = {}
        for path, data in self._source.read(group):
            interpreter = interpreter_of(data)
            if interpreter:
                seen[path] = interpreter
            yield path, data
        write_entry(self._folder / group.key, canonical_json(seen))

    def of(self, group: ContentGroup) -> dict[str, str]:
        """Path -> interpreter of each script of the group; reads the group only when nothing is kept of it."""
        try:
            found = json.loads((self._folder / group.key).read_bytes())
        except (FileNotFoundError, ValueError):
            for _ in self.reading(group):
                pass
            found = json.loads((self._folder / group.key).read_bytes())
        return dict(found)
