"""How engines say how far they are, without knowing who looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1) -> None:
        """Say that ``amount`` more units are done."""
        ...


class Progress(Protocol):
    """Where progress goes: a bar on a terminal, plain lines otherwise, nowhere in tests."""

    def task(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """A context in which the work runs; leaving it ends the task."""
        ...

    def say(self, line: str) -> None:
        """A line the user should see whatever the display is (a fall-back taken, a lock made anew)."""
        ...


class _Quiet:
    def advance(self, amount: int = 1) -> None:
        """Nobody looks."""


class NoProgress:
    """A :class:`Progress` that shows nothing."""

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield _Quiet()

    def say(self, line: str) -> None:
        """Nobody listens."""
