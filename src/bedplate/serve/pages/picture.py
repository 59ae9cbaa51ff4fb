"""Geometry of the pictures: stacked areas over time, bars of stages. Numbers in, SVG coordinates out, no markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.fleet.values import RingCounts
from bedplate.serve.pages.timeline import STAGES, Moment
from bedplate.serve.pages.words import count, duration

WIDTH, HEIGHT = 1080, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 34


@dataclass(frozen=True, slots=True)
class Area:
    """One stage's area: its CSS class and path."""

    stage: str
    path: str


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of an axis: where, and what it says."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that happened: where, its kind, its sentence, and a word where there is room for one."""

    at: float
    kind: str
    label: str
    short: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A stacked area chart, ready to be written as SVG."""

    areas: tuple[Area, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    markers: tuple[Marker, ...]
    now: float
    empty: bool
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def stacked(moments: Sequence[Moment], happened: Sequence[tuple[float, str, str, str]]) -> Picture:
    """The roll-out in time: one area for each stage, healthy at the bottom, failures on top.

    Args:
        moments: Counts at times in order, at least one.
        happened: (time, kind, sentence, a word) of what is marked, in order.
    """
    begin, end = moments[0].at, max(moments[-1].at, moments[0].at + 1)
    most = max(moment.reached for moment in moments)
    ceiling = nice_ceiling(most)
    bottom, inner = HEIGHT - BOTTOM, WIDTH - LEFT - RIGHT

    def x(at: float) -> float:
        return round(LEFT + inner * (at - begin) / (end - begin), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - TOP) * value / ceiling, 1)

    below = [0] * len(moments)
    areas = []
    for index, stage in enumerate(STAGES):
        above = [low + moment.counts[index] for low, moment in zip(below, moments, strict=True)]
        if above != below:
            forth = " ".join(f"{x(m.at)},{y(v)}" for m, v in zip(moments, above, strict=True))
            back = " ".join(f"{x(m.at)},{y(v)}" for m, v in zip(reversed(moments), reversed(below), strict=True))
            areas.append(Area(stage.value, f"M{forth} L{back} Z"))
        below = above
    steps = 4
    up = tuple(Tick(y(ceiling * n / steps), count(ceiling * n / steps)) for n in range(steps + 1))
    markers = _markers([(x(at), kind, words, short) for at, kind, words, short in happened if begin <= at <= end])
    return Picture(tuple(areas), time_ticks(begin, end, x), up, markers, x(end), most == 0)


def _markers(happened: Sequence[tuple[float, str, str, str]]) -> tuple[Marker, ...]:
    """Marks with their words, where the next mark leaves room. What happened at one place is one mark, the later kind
    winning."""
    merged: list[tuple[float, str, str, str]] = []
    for at, kind, words, short in happened:
        if merged and at - merged[-1][0] < 3:
            before = merged.pop()
            merged.append((before[0], kind, f"{before[2]}; {words}", short or before[3]))
        else:
            merged.append((at, kind, words, short))
    ends = [*(one[0] for one in merged), WIDTH - 4.0][1:]
    return tuple(
        Marker(at, kind, words, short if at + 14 + 7.2 * len(short) < end else "")
        for (at, kind, words, short), end in zip(merged, ends, strict=True)
    )


def time_ticks(begin: float, end: float, x: object) -> tuple[Tick, ...]:
    """Round times since the beginning, about six of them."""
    place = x if callable(x) else float
    span = end - begin
    units = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 2592000)
    step = next((unit for unit in units if span / unit <= 7), units[-1])
    return tuple(
        Tick(place(begin + number * step), f"+{duration(number * step)}" if number else "0")
        for number in range(int(span // step) + 1)
    )


def nice_ceiling(value: float) -> int:
    """The next round number that four steps divide."""
    if value <= 4:
        return 4
    power: float = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10):
        if value <= factor * power:
            found = round(factor * power)
            return found + (-found % 4)
    return round(10 * power)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar: its stage, where it begins and how long it is, out of 1000."""

    stage: str
    start: float
    length: float
    number: int


def bar(counts: RingCounts) -> tuple[Part, ...]:
    """A ring's nodes as a bar of stages, in the order in which nodes pass them. What is there is at least visible."""
    numbers = (
        ("healthy", counts.healthy),
        ("rebooting", counts.rebooting),
        ("downloading", counts.downloading),
        ("offered", counts.offered),
        ("timed-out", counts.timed_out),
        ("fell-back", counts.fell_back),
    )
    total = max(counts.nodes, counts.reached)
    if not total:
        return ()
    parts, start = [], 0.0
    for stage, number in numbers:
        if number:
            length = min(max(1000 * number / total, 4.0), 1000 - start)
            parts.append(Part(stage, round(start, 1), round(length, 1), number))
            start += length
    return tuple(parts)
