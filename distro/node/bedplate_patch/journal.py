"""Where a patch stands, on the disk: one word that the initrd's shell can read too, and the facts that go with it.

The store (``/var/lib/bedplate-patch``) holds at most one patch, in ``current``:

    state      a word of ``State`` and the CRC of that word
    complete   exists when everything that may change has been saved
    items      what was saved, a line each: ``C path`` put back, ``A path`` was not there
    saved/     the saved files below their own paths
    boots      boots since the packages were changed
    reserve    room for the way back, on a disk that is full
    facts.json what else is needed to judge and report

A state that cannot be read counts as "the packages were being changed": what was saved is put back. That always ends in
the old system, whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from bedplate_patch import atomic
from bedplate_patch.door import run
from bedplate_patch.errors import NotStarted

_RESERVE_BYTES = 8 << 20

Checkpoint = Callable[[str], None]
"""Called before each step that changes the disk, with its name. Tests stop the process there."""


def no_checkpoint(_step: str) -> None:
    """What runs outside of tests."""


class State(StrEnum):
    """Where a patch stands. ``SWAPPED`` is written by the initrd alone."""

    SAVING = "saving"
    APPLYING = "applying"
    APPLIED = "applied"
    RESTORING = "restoring"
    SWAPPED = "swapped"
    UNREADABLE = "unreadable"


class Journal:
    """The journal of the patch in ``store``. No ``current`` directory: no patch is under way."""

    def __init__(
        self, store: Path, checkpoint: Checkpoint = no_checkpoint, flush: Callable[[], None] = os.sync
    ) -> None:
        self.store = store
        self.current = store / "current"
        self.checkpoint = checkpoint
        self.flush = flush

    @property
    def under_way(self) -> bool:
        """Whether a patch was begun and neither kept nor taken back."""
        return self.current.is_dir()

    @property
    def complete(self) -> bool:
        """Whether everything was saved: before that nothing of the system was changed."""
        return (self.current / "complete").exists()

    def begin(self) -> None:
        """Start a new patch.

        Raises:
            NotStarted: one is under way.
        """
        if self.under_way:
            raise NotStarted("a patch is under way", remedy="see: bedplate-patch status")
        self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.clear_leftovers()
        beside = self.store / "begun"
        beside.mkdir(mode=0o700)
        (beside / "saved").mkdir()
        self.checkpoint("begin")
        (beside / "state").write_bytes(encode(State.SAVING))
        (beside / "boots").write_bytes(b"0\n")
        with (beside / "reserve").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        atomic.sync_directory(beside)
        beside.rename(self.current)
        atomic.sync_directory(self.store)

    def release_reserve(self) -> None:
        """Free what was set aside, so that a full disk does not stop the way back."""
        (self.current / "reserve").unlink(missing_ok=True)

    @property
    def state(self) -> State:
        """The state on the disk; ``UNREADABLE`` when it is damaged."""
        try:
            return decode((self.current / "state").read_bytes())
        except OSError:
            return State.UNREADABLE

    def move_to(self, state: State) -> None:
        """Record ``state``; all that was written before is on the disk first."""
        self.checkpoint(f"before {state}")
        self.flush()
        atomic.write(self.current / "state", encode(state))
        self.checkpoint(f"after {state}")

    def mark_complete(self) -> None:
        """Everything is saved and on the disk."""
        self.flush()
        atomic.write(self.current / "complete", b"")
        self.checkpoint("complete")

    def write_items(self, items: list[tuple[str, str]]) -> None:
        """The list of what to put back: ``("C" or "A", path without its first slash)``."""
        text = "".join(f"{kind} {path}\n" for kind, path in items)
        atomic.write(self.current / "items", text.encode("utf-8", "surrogateescape"))
        self.checkpoint("items")

    def items(self) -> list[tuple[str, str]]:
        """What ``write_items`` wrote."""
        text = (self.current / "items").read_bytes().decode("utf-8", "surrogateescape")
        return [(line[0], line[2:]) for line in text.split("\n") if line]

    @property
    def boots(self) -> int:
        """Boots since the packages were changed, counted by the initrd; 99 when the counter is damaged."""
        try:
            return int((self.current / "boots").read_text())
        except (OSError, ValueError):
            return 99

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Keep ``facts`` (JSON values)."""
        body = json.dumps(facts, sort_keys=True)
        digest = hashlib.sha256(body.encode()).hexdigest()
        atomic.write(self.current / "facts.json", f"{digest}\n{body}\n".encode())
        self.checkpoint("facts")

    def facts(self) -> dict[str, Any]:
        """What ``write_facts`` kept; empty when there is none or it is damaged."""
        try:
            digest, _, body = (self.current / "facts.json").read_text().partition("\n")
            body = body.rstrip("\n")
            if hashlib.sha256(body.encode()).hexdigest() != digest:
                return {}
            found = json.loads(body)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def end(self) -> None:
        """The patch is over, kept or taken back: what was saved is let go. One rename decides."""
        self.checkpoint("end")
        gone = self.store / "over"
        _remove(gone)
        self.current.rename(gone)
        atomic.sync_directory(self.store)
        self.checkpoint("ended")
        self.clear_leftovers()

    def clear_leftovers(self) -> None:
        """Remove what an interrupted start or end left."""
        for name in ("begun", "over"):
            _remove(self.store / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process patches.

        Raises:
            NotStarted: another one does.
        """
        self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.store / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise NotStarted("another bedplate-patch is running", remedy="wait for it to end") from error
            yield


def _remove(tree: Path) -> None:
    # Tens of thousands of names, which rm takes away in a fifth of the time. What is left goes the next time.
    if tree.exists():
        run(["rm", "-rf", "--", str(tree)], seconds=600)


def encode(state: State) -> bytes:
    """A state as it lies on the disk."""
    return f"{state} {zlib.crc32(state.encode()):08x}\n".encode()


def decode(data: bytes) -> State:
    """The state that ``encode`` wrote, or that the initrd wrote without a CRC."""
    words = data.decode("ascii", "replace").split()
    if words in ([State.SWAPPED.value], [State.RESTORING.value]):
        return State(words[0])
    for state in State:
        if data == encode(state):
            return state
    return State.UNREADABLE
