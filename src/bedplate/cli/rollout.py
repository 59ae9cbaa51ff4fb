"""A simulated roll-out for a person: one picture in time, the rings, what happened."""

from __future__ import annotations

import io
import shutil
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedplate.fleet.simulation import Outcome, Sample
    from bedplate.fleet.values import RingCounts

_ROWS = 10
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_NARROWEST, _WIDEST = 40, 100
_STATUS_COLORS = {"complete": "green", "stopped": "red", "running": "yellow"}


def outcome_text(outcome: Outcome, *, color: bool) -> str:
    """The outcome as text; ``color`` for a terminal that shows it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=color, no_color=not color, highlight=False)
    for line in _picture(outcome, width):
        console.print(line, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("ring")
    for name in ("nodes", "reached", "healthy", "fell back", "timed out", "off the curve"):
        table.add_column(name, justify="right")
    for name, counts in outcome.samples[-1].counts.items():
        table.add_row(name, *_cells(counts), f"{outcome.deviation[name]:.2%}")
    console.print()
    console.print(table)
    console.print()
    for at, note in outcome.notes:
        console.print(f"[dim]{_clock(at):>8}[/]  {note.sentence}", soft_wrap=True)
    status = outcome.rollout.status.value
    shade = _STATUS_COLORS.get(status, "yellow")
    why = f": {outcome.rollout.why}" if outcome.rollout.why else ""
    console.print()
    console.print(
        f"[bold {shade}]{status}[/] after {_clock(outcome.ended).strip()}; {outcome.reached:.2%} of the fleet was "
        f"offered the release{why}",
        soft_wrap=True,
    )
    return stream.getvalue().rstrip()


def _cells(counts: RingCounts) -> list[str]:
    numbers = (counts.nodes, counts.reached, counts.healthy, counts.fell_back, counts.timed_out)
    return [f"{number:,}" for number in numbers]


def _picture(outcome: Outcome, width: int) -> list[str]:
    """The share of the fleet that runs the release, over time; the axis reaches what was reached."""
    columns = width - 9
    end = max(outcome.ended, 1.0)
    times = [sample.at for sample in outcome.samples]
    shares = [_share(outcome.samples[_at(times, end * (n + 0.5) / columns)]) for n in range(columns)]
    top = max(*shares, 1e-9)
    lines = []
    for row in range(_ROWS, 0, -1):
        cells = "".join(_cell(share / top * _ROWS - (row - 1)) for share in shares)
        label = f"{top * row / _ROWS:7.1%}" if row in (_ROWS, _ROWS // 2) else " " * 7
        lines.append(f"[dim]{label}[/] [cyan]{cells}[/]")
    middle = _clock(end / 2).strip()
    last = _clock(end).strip()
    gap = " " * max(1, columns // 2 - len(middle) // 2 - 1)
    axis = f"0{gap}{middle}"
    lines.append(f"[dim]        {axis}{last:>{max(1, columns - len(axis))}}[/]")
    return ["[bold]Share of the fleet that runs the release and is healthy[/]", *lines]


def _at(times: list[float], moment: float) -> int:
    return max(0, bisect_right(times, moment) - 1)


def _share(sample: Sample) -> float:
    nodes = sum(counts.nodes for counts in sample.counts.values())
    return sum(counts.healthy for counts in sample.counts.values()) / nodes if nodes else 0.0


def _cell(level: float) -> str:
    return _EIGHTHS[max(0, min(8, round(level * 8)))]


def _clock(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours // 24}d {hours % 24:02}:{minutes:02}" if hours >= 24 else f"{hours}:{minutes:02}"
