"""What the machine remembers of the releases it followed, and the pin by which dnf stays at one state.

Both are small files that are old or new, never half.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bedplate_patch import atomic
from bedplate_patch.errors import PatchError

_FORMAT = 1
_KEPT_FAILURES = 8


@dataclass(frozen=True, slots=True)
class Pin:
    """The state dnf uses: the release's version, the state's name, the digest of its metadata."""

    version: str
    state: str
    repomd_sha256: str


@dataclass(frozen=True, slots=True)
class Pending:
    """A release on its way in: its pin, the pin before it, and the newest report of bedplate-patch before it began."""

    pin: Pin
    previous: Pin | None
    report_before: str


@dataclass(frozen=True, slots=True)
class Memory:
    """``image`` is what the machine was made from, ``version`` the release that truly runs, ``failed`` those that were
    taken back. The image stands here because os-release is a file of a package: an upgrade forgets what made it."""

    image: str
    version: str
    failed: tuple[str, ...] = ()
    pending: Pending | None = None

    def failing(self, version: str) -> Memory:
        """The same with one more release that was taken back, and nothing on its way."""
        kept = [one for one in self.failed if one != version]
        return replace(self, failed=(*kept, version)[-_KEPT_FAILURES:], pending=None)


class Store:
    """The two files below ``root``.

    Raises (reading):
        PatchError: a file is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._memory = root / "memory.json"
        self._pin = root / "pin.json"
        self.root = root

    def read(self) -> Memory | None:
        """What is remembered; None of a machine that never followed a release."""
        data = _load(self._memory)
        if data is None:
            return None
        try:
            if data["format"] != _FORMAT:
                raise ValueError("of another format")
            pending = data["pending"]
            return Memory(
                str(data["image"]),
                str(data["version"]),
                tuple(map(str, data["failed"])),
                None
                if pending is None
                else Pending(Pin(**pending["pin"]), _pin(pending["previous"]), str(pending["report_before"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self._memory) from error

    def write(self, memory: Memory) -> None:
        """Remember."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        atomic.write(self._memory, json.dumps({"format": _FORMAT, **asdict(memory)}).encode())

    def pin(self) -> Pin | None:
        """The state dnf uses; None: what the repository serves."""
        data = _load(self._pin)
        try:
            return _pin(data)
        except TypeError as error:
            raise _damaged(self._pin) from error

    def set_pin(self, pin: Pin | None) -> None:
        """Let dnf use another state from now on."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        if pin is None:
            self._pin.unlink(missing_ok=True)
            atomic.sync_directory(self.root)
        else:
            atomic.write(self._pin, json.dumps(asdict(pin)).encode())


def _pin(data: dict[str, Any] | None) -> Pin | None:
    return None if data is None else Pin(**data)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(data, dict):
        raise _damaged(path)
    return data


def _damaged(path: Path) -> PatchError:
    return PatchError(f"{path} is damaged", remedy="remove it: bedplate-follow begins anew from the image's version")
