"""Classifications kept on disk, so that an unchanged script is not read again: one JSON file per state of the rules."""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from bedplate.model.digest import sha256
from bedplate.model.package import Script
from bedplate.packages.scripts.claims import Kind, Need, NeedKind
from bedplate.packages.scripts.classify import Classification, Gap, Piece, classify, script_digest


@cache
def rules_version() -> str:
    """Digest of everything that decides a classification: the sources of this package."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in sources))


class ClassificationStore:
    """Classifications by script, below ``folder``. Safe to lose, to share between processes and to interrupt."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"script-rules-{rules_version()[:16]}.json"
        self._entries: dict[str, Any] = self._read()
        self._new = False

    def classify(self, script: Script, *, triggered: bool) -> Classification:
        """As :func:`bedplate.packages.scripts.classify.classify`, from the store when it is known."""
        key = f"{script_digest(script)} {script.kind} {script.interpreter} {triggered}"
        entry = self._entries.get(key)
        known = _load(entry) if entry is not None else None
        if known is not None:
            return known
        result = classify(script, triggered=triggered)
        self._entries[key] = _dump(result)
        self._new = True
        return result

    def save(self) -> None:
        """Write what is new, with what another process may have added meanwhile."""
        if not self._new:
            return
        self._entries = {**self._read(), **self._entries}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(descriptor, "w") as stream:
                json.dump(self._entries, stream, separators=(",", ":"), sort_keys=True)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).rename(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._new = False

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _dump(classification: Classification) -> list[Any]:
    pieces = [[p.kind, p.first, p.last, [[need.kind, *need.key] for need in p.needs]] for p in classification.pieces]
    return [pieces, [[gap.first, gap.last, gap.reason] for gap in classification.gaps]]


def _load(entry: Any) -> Classification | None:
    """None for an entry that is not as written: it is made anew."""
    try:
        pieces, gaps = entry
        return Classification(
            tuple(
                Piece(Kind(kind), first, last, tuple(Need(NeedKind(need), tuple(key)) for need, *key in needs))
                for kind, first, last, needs in pieces
            ),
            tuple(Gap(first, last, reason) for first, last, reason in gaps),
        )
    except (TypeError, ValueError):
        return None
