"""What a person sees: a bar on a terminal, plain lines otherwise, JSON when a program reads."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bedplate.model.errors import BedplateError
from bedplate.model.progress import Progress, Task

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_QUIET_SECONDS = 0.5  # Plain output mentions a step only when it took this long, so that a cached run says little.


@dataclass(slots=True)
class _LineTask:
    done: int = 0

    def advance(self, amount: int = 1) -> None:
        self.done += amount


@dataclass(slots=True)
class LineProgress:
    """Plain lines on standard error: one when a step that took a while has ended."""

    depth: int = 0

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        started = time.monotonic()
        task = _LineTask()
        self.depth += 1
        try:
            yield task
        finally:
            self.depth -= 1
        seconds = time.monotonic() - started
        if seconds >= _QUIET_SECONDS:
            amount = f", {_amount(task.done, unit)}" if task.done else ""
            print(f"{'  ' * self.depth}{name}: {seconds:.1f} s{amount}", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


@dataclass(slots=True)
class _BarTask:
    bars: RichProgress
    bar: TaskID

    def advance(self, amount: int = 1) -> None:
        self.bars.advance(self.bar, amount)


@dataclass(slots=True)
class BarProgress:
    """A live display on a terminal. Finished steps stay as a line, running ones are bars below."""

    bars: RichProgress | None = None
    depth: int = 0

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        bars = self._enter()
        started = time.monotonic()
        bar = bars.add_task("  " * (self.depth - 1) + name, total=total)
        try:
            yield _BarTask(bars, bar)
        except BaseException:
            self._leave(bar)
            raise
        seconds = time.monotonic() - started
        done = int(bars.tasks[bars.task_ids.index(bar)].completed)
        if seconds >= _QUIET_SECONDS:
            amount = f"  [dim]{_amount(done, unit)}[/dim]" if done else ""
            bars.console.print(
                f"[green]✓[/green] {'  ' * (self.depth - 1)}{name}  [bold]{seconds:.1f} s[/bold]{amount}"
            )
        self._leave(bar)

    def say(self, line: str) -> None:
        from rich.console import Console

        console = self.bars.console if self.bars else Console(stderr=True)
        console.print(line, markup=False, highlight=False)

    def _enter(self) -> RichProgress:
        if self.bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Rich

            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), TaskProgressColumn())
            self.bars = Rich(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
            self.bars.start()
        self.depth += 1
        return self.bars

    def _leave(self, bar: TaskID) -> None:
        self.depth -= 1
        if self.bars is not None:
            self.bars.remove_task(bar)
            if self.depth == 0:
                self.bars.stop()
                self.bars = None


@dataclass(slots=True)
class Output:
    """Where a command's result goes. ``as_json`` prints one JSON document on standard output and nothing else there."""

    as_json: bool = False
    progress: Progress = field(default_factory=LineProgress)

    def result(self, value: Any, text: str) -> None:
        """Print ``value`` (JSON-ready) for programs, or ``text`` for people."""
        print(json.dumps(value, indent=2, sort_keys=True) if self.as_json else text)

    def failure(self, error: BedplateError) -> None:
        """Print an error for people on standard error and, for programs, as JSON on standard output."""
        if self.as_json:
            body = {"message": error.message, "where": error.where, "remedy": error.remedy, "details": error.details}
            print(json.dumps({"error": body}, indent=2))
        print(f"bedplate: {error}", file=sys.stderr)


def choose_progress() -> Progress:
    """Bars when standard error is a terminal, lines otherwise."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def _amount(number: int, unit: str) -> str:
    return human_bytes(number) if unit in ("B", "bytes") else f"{number:,} {unit}".rstrip()


def human_bytes(number: float) -> str:
    """``number`` of bytes in the unit a person would choose (decimal: 1 MB is 1,000,000 bytes)."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.2f} GB"
