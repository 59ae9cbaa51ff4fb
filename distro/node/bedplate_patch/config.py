"""The configuration: ``/etc/bedplate/patch.toml``. Every mistake is reported at once; no file means the defaults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedplate_patch.errors import BadInput
from bedplate_patch.windows import Window, find_zone

_OPENING = re.compile(r"(mon|tue|wed|thu|fri|sat|sun|daily) +([0-9:]+) +([0-9]+)(h|min)")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Health:
    """Limits of the health checks, in seconds: how long services may take to come up, how long they must then stay up,
    how long one check of the operator's may run."""

    settle_seconds: float = 90.0
    watch_seconds: float = 15.0
    check_seconds: float = 60.0
    ignore_units: tuple[str, ...] = ()
    ignore_sockets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """What the administrator decided. ``reboot`` is ``never`` or ``when-needed``; ``never_restart`` are patterns of
    units."""

    exclude: tuple[str, ...] = ()
    reboot: str = "never"
    zone: str = "UTC"
    windows: tuple[Window, ...] = ()
    never_restart: tuple[str, ...] = ()
    health: Health = field(default_factory=Health)


def read_config(path: Path) -> Config:
    """The configuration at ``path``.

    Raises:
        BadInput: mistakes in it.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    try:
        return parse_config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: not valid TOML: {error}") from error
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", remedy=error.remedy) from error


def parse_config(values: Mapping[str, Any]) -> Config:
    """The configuration from parsed TOML.

    Raises:
        BadInput: unknown keys, wrong values.
    """
    mistakes: list[str] = []
    known = {
        "patch": {"exclude", "reboot"},
        "window": {"zone", "open"},
        "restart": {"never"},
        "health": {"settle_seconds", "watch_seconds", "check_seconds", "ignore_units", "ignore_sockets"},
    }
    parts: dict[str, Mapping[str, Any]] = {}
    for name, table in values.items():
        if name not in known or not isinstance(table, Mapping):
            mistakes.append(f"{name}: no such table; there are {', '.join(known)}")
            continue
        mistakes += [f"{name}.{key}: no such key" for key in table if key not in known[name]]
        parts[name] = table
    patch, window = parts.get("patch", {}), parts.get("window", {})
    zone = window.get("zone", "UTC")
    try:
        find_zone(str(zone))
    except ValueError as error:
        mistakes.append(f"window.zone: {error}")
    windows: list[Window] = []
    for text in _texts(window, "window", "open", mistakes):
        try:
            windows += parse_opening(text)
        except ValueError as error:
            mistakes.append(f"window.open: {text!r}: {error}")
    reboot = patch.get("reboot", "never")
    if reboot not in ("never", "when-needed"):
        mistakes.append(f'patch.reboot: {reboot!r}: write "never" or "when-needed"')
    table = parts.get("health", {})
    seconds = {key: table[key] for key in ("settle_seconds", "watch_seconds", "check_seconds") if key in table}
    for key, value in seconds.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 3600:
            mistakes.append(f"health.{key}: write seconds between 0 and 3600")
    exclude = _texts(patch, "patch", "exclude", mistakes)
    never = _texts(parts.get("restart", {}), "restart", "never", mistakes)
    units = _texts(table, "health", "ignore_units", mistakes)
    sockets = _texts(table, "health", "ignore_sockets", mistakes)
    if mistakes:
        raise BadInput("; ".join(mistakes), remedy="correct it; see docs/howto/patch-a-server.md")
    health = Health(**seconds, ignore_units=units, ignore_sockets=sockets)
    return Config(exclude, reboot, zone, tuple(windows), never, health)


def parse_opening(text: str) -> list[Window]:
    """``sun 03:00 4h``, ``daily 01:30 90min``.

    Raises:
        ValueError: something else.
    """
    found = _OPENING.fullmatch(text.strip())
    if found is None:
        raise ValueError("write it like `sun 03:00 4h` or `daily 01:30 90min`")
    length = int(found[3]) * (3600.0 if found[4] == "h" else 60.0)
    days = _DAYS if found[1] == "daily" else (found[1],)
    return [Window.parse(day, found[2], length) for day in days]


def _texts(table: Mapping[str, Any], name: str, key: str, mistakes: list[str]) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or any(not isinstance(one, str) for one in value):
        mistakes.append(f"{name}.{key}: write a list of texts")
        return ()
    return tuple(value)
