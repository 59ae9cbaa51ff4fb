"""The fleet's policy as data: rings, curves, windows, budgets and the stop rule, read from TOML or JSON.

Every mistake of a file is reported at once with its path. Durations are ``"90s"``, ``"15m"``, ``"6h"``, ``"2d"`` or
sums of these (``"1h30m"``); shares are ``"2%"``; a limit is a count (``5``) or a share.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bedplate.fleet.windows import Window, find_zone
from bedplate.model.errors import BadInput

_DURATION_PART = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(d|h|m|s)")
_UNIT_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


def parse_duration(value: object) -> object:
    """``"1h30m"`` as seconds. Numbers pass as they are; anything else is left for the type to refuse."""
    if not isinstance(value, str):
        return value
    parts = _DURATION_PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value.replace(" ", ""):
        raise ValueError(f"{value!r} is no duration; write it like 90s, 15m, 6h, 2d or 1h30m")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def parse_share(value: object) -> object:
    """``"2%"`` as 0.02. Numbers pass as they are."""
    if not isinstance(value, str):
        return value
    found = _SHARE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value!r} is no share; write it like 2% or 0.5%")
    return float(found[1]) / 100


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=10 * 365 * 86400, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1, allow_inf_nan=False)]


def _known_zone(name: str) -> str:
    find_zone(name)
    return name


ZoneName = Annotated[str, Field(max_length=64), AfterValidator(_known_zone)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limit(_Model):
    """A number of nodes: a count, or a share of some whole. Written ``5`` or ``"2%"``."""

    count: int | None = Field(default=None, ge=0)
    share: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("a limit is a count like 5 or a share like 2%")
        if isinstance(value, int):
            return {"count": value}
        if isinstance(value, str):
            return {"share": parse_share(value)}
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> Limit:
        if (self.count is None) == (self.share is None):
            raise ValueError("a limit is a count like 5 or a share like 2%, not both and not neither")
        return self

    def __str__(self) -> str:
        return f"{self.count}" if self.share is None else f"{self.share * 100:g} %"


class RingKind(StrEnum):
    """``CANARY``: sees a release as soon as the first node is healthy, without a curve. ``WAVE``: along its curve."""

    CANARY = "canary"
    WAVE = "wave"


class WindowModel(_Model):
    """One opening a week on each of ``days``, from ``start`` (local time) on, ``length`` of real time long."""

    days: list[str] = Field(min_length=1, max_length=7)
    start: str
    length: Seconds

    @model_validator(mode="after")
    def _parses(self) -> WindowModel:
        self.windows()
        return self

    def windows(self) -> tuple[Window, ...]:
        """The same as values, one for each day."""
        return tuple(Window.parse(day, self.start, self.length) for day in self.days)


class Freeze(_Model):
    """A time in which nothing is offered, with the reason people are shown. Both ends carry a UTC offset."""

    start: datetime
    end: datetime
    reason: str = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _ordered(self) -> Freeze:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("start and end need a UTC offset, like 2026-12-20T00:00:00+01:00")
        if self.end <= self.start:
            raise ValueError("it ends before it starts")
        return self


class StopRule(_Model):
    """When a roll-out stops by itself: at least ``at_least`` nodes failed or timed out, and these are ``limit`` or more
    (a share is one of the nodes whose outcome is known)."""

    limit: Limit = Limit(share=0.01)
    at_least: int = Field(default=3, ge=1)


class Ring(_Model):
    """One ring of nodes. Rings of a channel are reached in the order of the file.

    The curve is ``start + (1 - start) * elapsed / duration``; without a duration it is held at ``start``. The ring
    after this one begins once this one's curve is at its end and ``healthy`` of its nodes ran the release for ``soak``.
    """

    name: str = Field(pattern=_NAME)
    channel: str = Field(default="stable", pattern=_NAME)
    kind: RingKind = RingKind.WAVE
    start: Share = 0.0
    duration: Seconds | None = None
    healthy: Share = 0.9
    soak: Seconds = 3600.0
    at_once: Limit | None = None
    zone: ZoneName = "UTC"
    windows: list[WindowModel] = []
    freezes: list[Freeze] = []

    @cached_property
    def openings(self) -> tuple[Window, ...]:
        """The ring's windows as values; empty means always open."""
        return tuple(window for model in self.windows for window in model.windows())


class Costs(_Model):
    """How long things take: what must fit into a window. The package figures are 5 min + 90 s a package + 15 min."""

    image: Seconds = 600.0
    packages_fixed: Seconds = 300.0
    package: Seconds = 90.0
    reboot: Seconds = 900.0


class Policy(_Model):
    """A fleet's policy.

    ``timeout``: a node that has not come out of an update after this long counts as a failure. ``watch_step``: the
    longest time between two looks at the fleet that still counts for a curve, so that neither an outage of the
    service nor a clock that jumps years ahead releases a whole ring at once.
    """

    rings: list[Ring] = Field(min_length=1, max_length=64)
    stop: StopRule = StopRule()
    costs: Costs = Costs()
    timeout: Seconds = 7200.0
    poll: Seconds = 300.0
    watch_step: Seconds = 300.0

    @model_validator(mode="after")
    def _names_are_unique(self) -> Policy:
        names = [ring.name for ring in self.rings]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"ring {', '.join(twice)} is defined twice")
        return self

    def ring(self, name: str) -> Ring | None:
        """The ring called ``name``, or None."""
        return next((ring for ring in self.rings if ring.name == name), None)

    def rings_of(self, channel: str) -> tuple[Ring, ...]:
        """The rings that follow ``channel``, in their order."""
        return tuple(ring for ring in self.rings if ring.channel == channel)


DEFAULT_POLICY = Policy(
    rings=[
        Ring(name="canary", kind=RingKind.CANARY),
        Ring(name="early", start=0.05, duration=6 * 3600.0),
        Ring(name="broad", start=0.01, duration=48 * 3600.0),
    ]
)
"""What a fleet has that said nothing: three rings of the stable channel."""


def parse_policy(text: str, *, where: str = "fleet.toml") -> Policy:
    """Read a policy from TOML, or from JSON when ``where`` ends in ``.json``.

    Raises:
        BadInput: it is not valid; the details are all its mistakes, one line each.
    """
    try:
        data: Mapping[str, Any] = json.loads(text) if where.endswith(".json") else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"not valid {'JSON' if where.endswith('.json') else 'TOML'}: {error}", where=where) from error
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        lines = [f"{_key(problem['loc'])}: {_what(problem)}" for problem in error.errors()]
        raise BadInput(
            f"the policy has {len(lines)} {'mistake' if len(lines) == 1 else 'mistakes'}",
            where=where,
            details=lines,
            remedy="correct them; docs/reference/fleet.schema.json has every key",
        ) from error


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(file)"


def _what(problem: Any) -> str:
    words = {"extra_forbidden": "no such key", "missing": "is missing"}
    return words.get(problem["type"], str(problem["msg"]).removeprefix("Value error, "))
