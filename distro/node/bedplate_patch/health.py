"""Whether the system is as well after a patch as it was before. Only lengths of time count, no clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from bedplate_patch.config import Health
from bedplate_patch.door import Completed
from bedplate_patch.services import Snapshot

CHECKS = (Path("etc/bedplate-patch/health.d"), Path("usr/lib/bedplate-patch/health.d"))
_PAUSE = 1.0


class Looks(Protocol):
    """What the checks need of the system."""

    def snapshot(self) -> Snapshot:
        """The state of this moment."""

    def active(self, unit: str) -> bool:
        """Whether a unit is active."""

    def expected(self, unit: str) -> bool:
        """Whether a service ought to run all the time."""

    def run_check(self, command: list[str], seconds: float) -> Completed:
        """Run a check of the operator's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is worse than before: ``check`` is a stable id (``unit-failed``, ``unit-stopped``,
    ``socket-gone``, ``interface-down``, ``route-gone``, ``operator``)."""

    check: str
    what: str


@dataclass(frozen=True, slots=True)
class Clock:
    """Lengths of time and waiting; replaced in tests."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def judge(
    before: Snapshot, system: Looks, limits: Health, root: Path = Path("/"), clock: Clock = Clock()
) -> list[Finding]:
    """What is worse than ``before``, once services had their time to come up and stayed up; empty: all is well."""
    end = clock.monotonic() + limits.settle_seconds
    findings = compare(before, system, limits)
    while findings and clock.monotonic() < end:
        clock.sleep(_PAUSE)
        findings = compare(before, system, limits)
    if findings:
        return findings
    end = clock.monotonic() + limits.watch_seconds
    while clock.monotonic() < end:
        clock.sleep(_PAUSE)
        findings = compare(before, system, limits)
        if findings:
            return findings
    return operators(system, limits, root)


def compare(before: Snapshot, system: Looks, limits: Health) -> list[Finding]:
    """The default checks, once."""
    now = system.snapshot()
    found = [
        Finding("unit-failed", unit)
        for unit in now.failed
        if unit not in before.failed and _counts(unit, limits.ignore_units)
    ]
    failed = {finding.what for finding in found}
    found += [
        Finding("unit-stopped", unit)
        for unit in before.active
        if unit not in now.active
        and unit not in failed
        and _counts(unit, limits.ignore_units)
        and system.expected(unit)
        and not system.active(unit)
    ]
    found += [
        Finding("socket-gone", socket)
        for socket in before.sockets
        if socket not in now.sockets and _counts(socket, limits.ignore_sockets)
    ]
    found += [Finding("interface-down", one) for one in before.interfaces if one not in now.interfaces]
    found += [Finding("route-gone", one) for one in before.routes if one not in now.routes]
    return found


def _counts(name: str, ignored: Iterable[str]) -> bool:
    return not any(fnmatchcase(name, pattern) for pattern in ignored)


def operators(system: Looks, limits: Health, root: Path) -> list[Finding]:
    """The operator's own checks: executables, and lists of units that must be active (``NAME.units``, one a line). A
    file below /etc hides one of the same name below /usr; an empty one or a link to /dev/null turns it off."""
    chosen: dict[str, Path] = {}
    for folder in reversed(CHECKS):
        directory = root / folder
        if directory.is_dir():
            chosen |= {one.name: one for one in directory.iterdir() if not one.name.startswith(".")}
    found = []
    for name, path in sorted(chosen.items()):
        if not path.is_file() or path.stat().st_size == 0:
            continue
        if name.endswith(".units"):
            units = [line.strip() for line in path.read_text().splitlines()]
            found += [
                Finding("operator", f"{name}: {unit} is not active")
                for unit in units
                if unit and not unit.startswith("#") and not system.active(unit)
            ]
            continue
        done = system.run_check([str(path)], limits.check_seconds)
        if done.code != 0:
            last = done.text.strip().rsplit("\n", 1)[-1][:200]
            found.append(Finding("operator", f"{name}: ended with {done.code}{': ' + last if last else ''}"))
    return found
