"""Seconds of a build's steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bedplate.model.progress import Progress


@dataclass
class Clock:
    """``seconds`` by the name of the step. Steps may run beside one another: then their sum is more than the whole."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and show it."""
        begin = time.monotonic()
        with self.progress.task(name):
            yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 3)
