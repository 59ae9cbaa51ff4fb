"""Maintenance windows: minutes of the week in a time zone, with one rule for daylight saving.

A window opens at a local time on a weekday and stays open for a length of *real* time. Where clocks go forward over
the opening time, it opens at the first instant after the gap; where they go back over it, it opens at the first of the
two and not again. So a window of three hours is three hours long in every week of the year.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEK_SECONDS = 7 * 86400.0
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_DAY_SECONDS = 86400
# 1902 and 8999: days around them can still be counted by datetime. Times beyond are taken for these.
_EARLIEST, _LATEST = -2145916800.0, 221845392000.0


@dataclass(frozen=True, slots=True)
class Window:
    """One opening a week: on ``day`` (0 is Monday) at ``minute`` of the local day, ``length`` seconds of real time."""

    day: int
    minute: int
    length: float

    @classmethod
    def parse(cls, day: str, clock: str, length: float) -> Window:
        """The window that opens on ``day`` (``mon`` … ``sun``) at ``clock`` (``HH:MM``).

        Raises:
            ValueError: no such day or time, or a length that is not between a minute and a week.
        """
        if day not in DAYS:
            raise ValueError(f"{day!r} is no day; write one of {', '.join(DAYS)}")
        found = _CLOCK.fullmatch(clock)
        if found is None:
            raise ValueError(f"{clock!r} is no time of day; write it like 02:30")
        if not 60 <= length <= WEEK_SECONDS:
            raise ValueError("a window is between a minute and a week long")
        return cls(DAYS.index(day), int(found[1]) * 60 + int(found[2]), length)


def find_zone(name: str) -> ZoneInfo:
    """The zone called ``name`` (IANA, such as ``Europe/Berlin``).

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no time zone {name!r}; write it like Europe/Berlin or UTC") from error


def opens_at(day: date, minute: int, zone: ZoneInfo) -> float:
    """Unix time of ``minute`` of the local ``day``, by the rule of this module."""
    local = datetime.combine(day, time(minute // 60, minute % 60), tzinfo=zone)
    stamp = local.replace(fold=0).timestamp()
    if datetime.fromtimestamp(stamp, zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return stamp
    # The local time does not exist: with fold=0 it was read with the offset before the gap, so the difference of the
    # two readings is how long the gap is, and the gap ends where the clock that was put forward reads its far side.
    gap = local.replace(fold=0).timestamp() - local.replace(fold=1).timestamp()
    low, high = stamp - gap, stamp
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def openings(windows: tuple[Window, ...], zone: str, now: float) -> tuple[tuple[float, float], ...]:
    """When the windows are open around ``now``, as (from, until), merged where they touch, in order.

    It reaches from the week before the UTC day of ``now`` to the week after it. The result for a day is kept.
    """
    clamped = min(max(now, _EARLIEST), _LATEST)
    return _openings(windows, zone, int(clamped // _DAY_SECONDS))


@lru_cache(maxsize=512)
def _openings(windows: tuple[Window, ...], zone_name: str, day_number: int) -> tuple[tuple[float, float], ...]:
    zone = find_zone(zone_name)
    middle = datetime.fromtimestamp(day_number * _DAY_SECONDS, UTC).date()
    spans: list[tuple[float, float]] = []
    for offset in range(-8, 9):
        day = middle + timedelta(days=offset)
        for window in windows:
            if window.day == day.weekday():
                start = opens_at(day, window.minute, zone)
                spans.append((start, start + window.length))
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def start_allowed(windows: tuple[Window, ...], zone: str, now: float, needed: float) -> bool:
    """Whether something that takes ``needed`` seconds may start at ``now`` and end inside. No windows: always."""
    if not windows:
        return True
    return any(start <= now and now + needed <= end for start, end in openings(windows, zone, now))


def next_start(windows: tuple[Window, ...], zone: str, now: float, needed: float) -> float | None:
    """The first time from ``now`` on at which something of ``needed`` seconds may start; None: no window is long
    enough."""
    if not windows:
        return now
    starts = (max(start, now) for start, end in openings(windows, zone, now) if max(start, now) + needed <= end)
    return min(starts, default=None)
