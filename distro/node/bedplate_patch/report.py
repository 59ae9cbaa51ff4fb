"""What happened, as a value that is printed, kept and read by machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bedplate_patch import atomic
from bedplate_patch.errors import Exit
from bedplate_patch.health import Finding
from bedplate_patch.restart import Restarts
from bedplate_patch.transaction import Change

_KEPT = 30
_LAST = "last"
FORMAT = 1


@dataclass(frozen=True)
class Report:
    """One run. ``outcome`` is ``nothing-to-do``, ``planned``, ``done``, ``reboot-needed``, ``rolled-back``,
    ``not-started`` or ``needs-a-person``; ``id`` names the patch; times are seconds since the epoch."""

    outcome: str
    id: str = ""
    message: str = ""
    remedy: str = ""
    started: float = 0.0
    ended: float = 0.0
    changes: tuple[Change, ...] = ()
    restarts: Restarts = field(default_factory=Restarts)
    restarted: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    verify: tuple[str, ...] = ()
    boot_entries: tuple[str, ...] = ()

    @property
    def code(self) -> Exit:
        """The exit status."""
        return {
            "reboot-needed": Exit.REBOOT_NEEDED,
            "rolled-back": Exit.ROLLED_BACK,
            "not-started": Exit.NOT_STARTED,
            "needs-a-person": Exit.NEEDS_A_PERSON,
        }.get(self.outcome, Exit.DONE)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"format": FORMAT, "exit": int(self.code), **asdict(self)}

    def but(self, **changes: Any) -> Report:
        """The same with some fields replaced."""
        return replace(self, **changes)


def keep(report: Report, store: Path) -> None:
    """Keep a report below ``store``/reports; of many the last ones stay."""
    folder = store / "reports"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{report.id or 'none'}.json"
    atomic.write(folder / name, (json.dumps(report.as_json(), indent=1) + "\n").encode())
    # Names tell the time, and a clock may have been wrong.
    atomic.write(folder / _LAST, f"{name}\n".encode())
    for old in sorted(path for path in folder.glob("*.json") if path.name != name)[: -_KEPT + 1]:
        old.unlink(missing_ok=True)


def last(store: Path) -> dict[str, Any] | None:
    """The report that was kept last; where nothing says which that was, the newest."""
    folder = store / "reports"
    try:
        named = [folder / (folder / _LAST).read_text().strip()]
    except (OSError, ValueError):
        named = []
    for path in (*named, *sorted(folder.glob("*.json"), reverse=True)):
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return None


def lines(report: Report) -> list[str]:
    """The report for people."""
    text = {
        "nothing-to-do": "Nothing to patch.",
        "planned": "This is what would change; nothing was touched.",
        "done": "Patched; the system is well.",
        "reboot-needed": "Patched; a reboot is needed. What was replaced is kept until a boot went well.",
        "rolled-back": "The patch was taken back; the system is as it was.",
        "not-started": "Not started; nothing was touched.",
        "needs-a-person": "Something is left that needs a person.",
    }
    found = [text.get(report.outcome, report.outcome)]
    if report.message:
        found.append(report.message)
    if report.remedy:
        found.append(report.remedy)
    for change in report.changes:
        versions = " -> ".join(one for one in (change.old, change.new) if one)
        names = f"  [{' '.join(change.advisories)}]" if change.advisories else ""
        found.append(f"  {change.action:9} {change.name}.{change.arch}  {versions}{names}")
    verb = "would restart" if report.outcome == "planned" else "restarted"
    found += [
        f"  {verb} {unit}" for unit in (report.restarts.units if report.outcome == "planned" else report.restarted)
    ]
    found += [f"  left alone, still uses replaced files: {who}" for who in report.restarts.sessions]
    found += [f"  reboot: {reason}" for reason in report.restarts.reboot]
    found += [f"  {finding.check}: {finding.what}" for finding in report.findings]
    found += [f"  rpm -V: {line}" for line in report.verify]
    found += [f"  boot: {line}" for line in report.boot_entries]
    return found
