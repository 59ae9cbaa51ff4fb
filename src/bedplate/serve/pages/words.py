"""Numbers, times and states in words, as the templates want them. Pure; ``now`` is an argument."""

from __future__ import annotations

from datetime import UTC, datetime

from bedplate.fleet.observing import Stage
from bedplate.fleet.values import RolloutStatus

STAGE_WORDS = {
    Stage.OFFERED.value: "offered",
    Stage.DOWNLOADING.value: "downloading",
    Stage.REBOOTING.value: "rebooting",
    Stage.RETURNED.value: "returned",
    Stage.HEALTHY.value: "healthy",
    Stage.FELL_BACK.value: "fell back",
    Stage.TIMED_OUT.value: "timed out",
}
STATUS_WORDS = {
    RolloutStatus.RUNNING.value: "running",
    RolloutStatus.PAUSED.value: "paused",
    RolloutStatus.STOPPED.value: "stopped",
    RolloutStatus.ABORTED.value: "aborted",
    RolloutStatus.COMPLETE.value: "complete",
}


def count(number: float) -> str:
    """``12345`` as ``12,345``, with a narrow space that does not break."""
    return f"{number:,.0f}".replace(",", "\u202f")


def nodes(number: int) -> str:
    """A number of nodes in words."""
    return f"{count(number)} {'node' if number == 1 else 'nodes'}"


def percent(share: float) -> str:
    """A share, with as many digits as it needs to be told from none and from all."""
    value = share * 100
    if value and value < 0.1:
        return "<\u202f0.1\u202f%"
    if 99.9 < value < 100:
        return ">\u202f99.9\u202f%"
    return f"{value:.0f}\u202f%" if value >= 10 or value == int(value) else f"{value:.1f}\u202f%"


def size(number: float) -> str:
    """Bytes in the unit a person would choose (decimal), fewer with a true minus."""
    if number < 0:
        return f"\u2212{size(-number)}"
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f}\u202f{unit}" if unit == "B" or number >= 100 else f"{number:.1f}\u202f{unit}"
        number /= 1000
    return f"{number:.2f}\u202fGB"


def duration(seconds: float) -> str:
    """A length of time, in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}\u202fs"
    for limit, first, second, names in (
        (3600, 60, 1, ("min", "s")),
        (86400, 3600, 60, ("h", "min")),
        (10**12, 86400, 3600, ("d", "h")),
    ):
        if whole < limit:
            one, rest = divmod(whole, first)
            two = rest // second
            tail = f" {two}\u202f{names[1]}" if two and names[0] != "min" else ""
            return f"{one}\u202f{names[0]}{tail}"
    return "an age"


def ago(then: float, now: float) -> str:
    """How long ago something was; ``never`` for 0."""
    if not then:
        return "never"
    age = now - then
    if age < 5:
        return "just now"
    return f"{coarse(age)} ago"


def coarse(seconds: float) -> str:
    """The largest unit alone: nobody asks for the minutes of three days."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)}\u202f{name}"
    return f"{int(seconds)}\u202fs"


def stamp(then: float) -> str:
    """A time for people, UTC."""
    return _utc(then, "%Y-%m-%d %H:%M:%S UTC")


def short_stamp(then: float) -> str:
    """A time to the minute, UTC."""
    return _utc(then, "%d %b %H:%M")


def machine_stamp(then: float) -> str:
    """A time as the ``datetime`` attribute wants it."""
    return _utc(then, "%Y-%m-%dT%H:%M:%SZ")


def _utc(then: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(then, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "out of reckoning"
