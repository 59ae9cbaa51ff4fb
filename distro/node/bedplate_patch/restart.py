"""What to restart after files were replaced, in which order, and what only a reboot reaches."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bedplate_patch.processes import Process
from bedplate_patch.transaction import Change

# Restarting these takes sessions, or everything that talks over them, down with them.
NEVER = (
    "dbus.service",
    "dbus-broker.service",
    "systemd-logind.service",
    "user@*.service",
    "user-runtime-dir@*.service",
    "getty@*.service",
    "serial-getty@*.service",
    "console-getty.service",
    "container-getty@*.service",
    "display-manager.service",
    "bedplate-patch*.service",
    "bedplate-updates.service",
    "cloud-init*.service",
    "cloud-final.service",
    "systemd-cryptsetup@*.service",
)
_SESSIONS = re.compile(r"session-.*\.scope|user@.*\.service|.*\.scope")
# Packages whose new version only a boot brings into use, and why.
BOOT_PACKAGES = (
    ("linux-image-*", "a new kernel starts with the machine"),
    ("libc6", "every running program holds the C library, the first process too"),
    ("libselinux1", "the first process holds the SELinux library"),
    ("systemd", "the first process and its helpers are replaced as one"),
    ("udev", "devices were set up by the old version"),
    ("dbus*", "the message bus cannot be restarted under its users"),
    ("selinux-policy-*", "running processes keep the domains of the old policy"),
    ("systemd-boot*", "the boot loader runs at boot"),
    ("*microcode*", "microcode is loaded at boot"),
)


@dataclass(frozen=True, slots=True)
class Restarts:
    """``units`` in the order to restart them; ``sessions``: who else still uses old files and is left alone, as
    ``name[pid] in unit``; ``reboot``: why only a reboot will do, empty when none is needed."""

    units: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    reboot: tuple[str, ...] = ()


def decide(
    processes: Iterable[Process],
    changes: Iterable[Change],
    after: Mapping[str, Collection[str]],
    never: Collection[str] = (),
) -> Restarts:
    """Units to restart, from the processes that use replaced files.

    Args:
        processes: As /proc shows them.
        changes: The packages of the transaction.
        after: Unit -> the units it is ordered after (systemd.unit(5), ``After=``).
        never: Further patterns of units to leave alone.
    """
    units: set[str] = set()
    sessions: list[str] = []
    reasons: list[str] = []
    for change in changes:
        for pattern, reason in BOOT_PACKAGES:
            if change.action != "remove" and fnmatchcase(change.name, pattern):
                reasons.append(f"{change.name}: {reason}")
                break
    for process in processes:
        who = f"{process.name}[{process.pid}]"
        if process.pid == 1:
            reasons.append("systemd itself uses replaced files")
        elif _SESSIONS.fullmatch(process.unit):
            sessions.append(f"{who} in {process.unit}")
        elif not process.unit:
            sessions.append(f"{who} of no unit")
        elif any(fnmatchcase(process.unit, pattern) for pattern in (*NEVER, *never)):
            if process.unit.startswith(("bedplate-", "getty", "serial-getty", "console-getty", "cloud-")):
                sessions.append(f"{who} in {process.unit}")
            else:
                reasons.append(f"{process.unit} uses replaced files and cannot be restarted safely")
        else:
            units.add(process.unit)
    return Restarts(tuple(in_order(units, after)), tuple(sorted(set(sessions))), tuple(dict.fromkeys(reasons)))


def in_order(units: Collection[str], after: Mapping[str, Collection[str]]) -> list[str]:
    """The units, those first that others are ordered after; by name where nothing says so, and in a loop."""
    left = {unit: set(after.get(unit, ())) & set(units) - {unit} for unit in units}
    ordered: list[str] = []
    while left:
        ready = sorted(unit for unit, before in left.items() if not before & left.keys())
        chosen = ready or [min(left)]
        for unit in chosen:
            ordered.append(unit)
            del left[unit]
    return ordered
