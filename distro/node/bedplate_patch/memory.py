"""What is remembered from patch to patch: which sets of packages were taken back, when one was last made by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bedplate_patch import atomic
from bedplate_patch.transaction import Change

_KEPT = 50


@dataclass(frozen=True, slots=True)
class Memory:
    """Small files in ``store``. One that is damaged counts as nothing remembered."""

    store: Path

    def was_taken_back(self, changes: Iterable[Change]) -> bool:
        """Whether exactly these packages were taken back before."""
        return _identity(changes) in self._taken_back()

    def remember_taken_back(self, changes: Iterable[Change]) -> None:
        """These packages, as one set, are not to be tried again."""
        entry = _identity(changes)
        if entry:
            known = [*(one for one in self._taken_back() if one != entry), entry]
            atomic.write(self._path, json.dumps(known[-_KEPT:]).encode())

    @property
    def last_automatic(self) -> float:
        """When a patch was last begun by itself, in seconds since the epoch; 0 when never."""
        try:
            return float((self.store / "last-automatic").read_text())
        except (OSError, ValueError):
            return 0.0

    def remember_automatic(self, now: float) -> None:
        """A patch begins by itself."""
        self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(self.store / "last-automatic", f"{now:.0f}\n".encode())

    @property
    def _path(self) -> Path:
        return self.store / "taken-back.json"

    def _taken_back(self) -> list[list[str]]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return []
        return found if isinstance(found, list) else []


def _identity(changes: Iterable[Change]) -> list[str]:
    return sorted(f"{one.name}.{one.arch} {one.new}" for one in changes)
