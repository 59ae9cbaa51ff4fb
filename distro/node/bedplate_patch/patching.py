"""The flow: plan, save, change, restart, judge, keep or take back. Every step is in the journal before it is taken."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from bedplate_patch import boot, guard, saved
from bedplate_patch.config import Config
from bedplate_patch.door import Completed
from bedplate_patch.errors import NotStarted, PatchError
from bedplate_patch.health import Clock, Finding, Looks, judge
from bedplate_patch.journal import Journal, State
from bedplate_patch.memory import Memory
from bedplate_patch.processes import Process, using_any, using_replaced
from bedplate_patch.report import Report, keep
from bedplate_patch.restart import Restarts, decide
from bedplate_patch.services import Snapshot
from bedplate_patch.transaction import Change, PackageManager, Plan, Request
from bedplate_patch.verify import rpm_verify
from bedplate_patch.windows import next_start, openings, start_allowed


class Machine(Looks, Protocol):
    """What the flow needs of the machine besides looking at it."""

    def ordering(self, units: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Unit -> what it is ordered after."""

    def restart(self, unit: str) -> Completed:
        """Restart a unit if it runs."""

    def start(self, unit: str) -> Completed:
        """Start a unit that ought to run."""

    def reload_manager(self) -> None:
        """Unit files are read anew."""

    def reboot(self) -> None:
        """Restart the machine."""

    def reboot_at_once(self) -> None:
        """Restart a machine that cannot stop its services."""

    def boot_id(self) -> str:
        """The kernel's name for this boot."""


@dataclass
class Patcher:
    """One machine's patching. ``packages`` makes a package manager when one is needed; ``processes`` looks at /proc;
    ``verify`` says what packages, by name, and the disk disagree on."""

    journal: Journal
    layout: saved.Layout
    packages: Callable[[], PackageManager]
    machine: Machine
    config: Config = field(default_factory=Config)
    clock: Clock = field(default_factory=Clock)
    now: Callable[[], float] = time.time
    processes: Callable[[], list[Process]] = using_replaced
    verify: Callable[[Sequence[str]], list[str]] = rpm_verify
    kernel: Callable[[], str] = boot.running

    @property
    def _memory(self) -> Memory:
        return Memory(self.journal.store)

    def plan(self, request: Request) -> Report:
        """The dry run: what would change, restart, reboot.

        Raises:
            NotStarted: it cannot be resolved.
        """
        manager = self.packages()
        try:
            plan = manager.plan(self._excluding(request))
        finally:
            manager.close()
        if not plan.changes:
            return self._stamped(Report("nothing-to-do"))
        concerned = using_any(plan.old_files)
        restarts = self._decide(concerned, plan.changes)
        opens = next_start(self.config.windows, self.config.zone, self.now(), plan.seconds)
        message = ""
        if opens is None:
            message = f"No window is long enough for {plan.seconds / 60:.0f} minutes."
        elif opens > self.now():
            message = f"The next window opens at {_clock(opens)}."
        return self._stamped(Report("planned", message=message, changes=plan.changes, restarts=restarts))

    def apply(self, request: Request, *, outside_windows: bool = False, again: bool = False) -> Report:
        """Patch, and take it back when the system is not well afterwards.

        Args:
            outside_windows: Start although no window is open.
            again: Try versions that were taken back before.

        Raises:
            NotStarted: nothing was touched.
        """
        with self.journal.locked():
            self._clear_the_way()
            manager = self.packages()
            try:
                return self._apply(manager, request, outside_windows=outside_windows, again=again)
            finally:
                manager.close()

    def _clear_the_way(self) -> None:
        if not self.journal.under_way:
            return
        if self.journal.state is State.APPLIED:
            raise NotStarted(
                "the last patch waits for a reboot", remedy="reboot, or keep it as it is: bedplate-patch confirm"
            )
        self._recover()

    def _apply(self, manager: PackageManager, request: Request, *, outside_windows: bool, again: bool) -> Report:
        started = self.now()
        plan = manager.plan(self._excluding(request))
        if not plan.changes:
            return self._stamped(Report("nothing-to-do", started=started))
        if not again and self._memory.was_taken_back(plan.changes):
            raise NotStarted(
                "exactly these packages were taken back before", remedy="wait for newer ones, or try --again"
            )
        if not outside_windows:
            self._check_window(plan)
        saved.check_room(self.layout, self.journal.store, plan.download_bytes + plan.installed_bytes)
        new_files = manager.fetch()
        paths = plan.old_files | new_files
        before = self.machine.snapshot()
        identity = time.strftime("%Y%m%dT%H%M%S", time.gmtime(started)) + "-" + secrets.token_hex(3)
        facts: dict[str, Any] = {
            "id": identity,
            "started": started,
            "boot_id": self.machine.boot_id(),
            "before": before.as_json(),
            "changes": [asdict(change) for change in plan.changes],
            "entries": list(boot.entries(self.layout.root)),
            "kernels": list(boot.kernels_in(new_files)),
            "units": _hold_units(paths),
        }
        report = Report("done", id=identity, started=started, changes=plan.changes)
        self.journal.begin()
        try:
            self.journal.write_facts(facts)
            saved.save(self.journal, saved.concerned(self.layout, paths), paths)
            self.journal.move_to(State.APPLYING)
        except (OSError, PatchError) as error:
            self.journal.end()
            raise NotStarted(f"the system could not be saved: {error}") from error
        try:
            manager.commit()
            manager.close()
            saved.narrow(self.journal, self.layout)
            self.journal.move_to(State.APPLIED)
        except (PatchError, OSError) as error:
            manager.close()
            return self._take_back(report.but(message=str(error)), facts)
        return self._after(report, facts)

    def _after(self, report: Report, facts: dict[str, Any]) -> Report:
        self._reload_units(facts)
        restarts = self._decide(self.processes(), report.changes)
        done, findings = self._restart(restarts.units)
        report = report.but(restarts=restarts, restarted=tuple(done))
        findings = findings or judge(_before(facts), self.machine, self.config.health, self.layout.root, self.clock)
        if findings:
            return self._take_back(report.but(findings=tuple(findings)), facts)
        if restarts.reboot:
            report = self._finish(report.but(outcome="reboot-needed"))
            if self.config.reboot == "when-needed":
                self.machine.reboot()
            return report
        self.journal.end()
        return self._finish(report)

    def _reload_units(self, facts: dict[str, Any]) -> None:
        # It takes seconds: every generator runs again.
        if facts.get("units", True):
            self.machine.reload_manager()

    def _restart(self, units: tuple[str, ...]) -> tuple[list[str], list[Finding]]:
        done: list[str] = []
        for unit in units:
            self.journal.checkpoint(f"restart {unit}")
            result = self.machine.restart(unit)
            if result.code != 0:
                return done, [Finding("unit-failed", f"{unit}: {result.text.strip()[:300]}")]
            done.append(unit)
        return done, []

    def _take_back(self, report: Report, facts: dict[str, Any]) -> Report:
        """Put everything back while the system runs, and restart what used the new files."""
        self._put_back()
        changes = _changes(facts)
        entries = boot.put_back(facts["entries"], self.layout.root) if "entries" in facts else []
        verify = self.verify([change.name for change in changes if change.old])
        self.journal.move_to(State.SWAPPED)
        self._reload_units(facts)
        restarts = self._decide(self.processes(), changes)
        for unit in restarts.units:
            self.machine.restart(unit)
        before = _before(facts)
        now = self.machine.snapshot()
        for unit in before.active:
            if (unit not in now.active and self.machine.expected(unit)) or (
                unit in now.failed and unit not in before.failed
            ):
                self.machine.start(unit)
        worse = judge(before, self.machine, self.config.health, self.layout.root, self.clock) if facts else []
        self._memory.remember_taken_back(changes)
        outcome = "needs-a-person" if verify or worse else "rolled-back"
        report = report.but(
            outcome=outcome,
            id=report.id or str(facts.get("id", "")),
            changes=changes,
            findings=(*report.findings, *(Finding(f"after-{one.check}", one.what) for one in worse)),
            verify=tuple(verify),
            boot_entries=tuple(entries),
        )
        self.journal.end()
        return self._finish(report)

    def _put_back(self) -> None:
        try:
            self.journal.release_reserve()
            self.journal.move_to(State.RESTORING)
            saved.put_back(self.journal, self.layout)
        except OSError as error:
            raise PatchError(
                f"the patch could not be taken back while the system runs: {error}",
                remedy="restart the machine: the next boot takes it back before anything starts",
            ) from error

    def confirm(self) -> Report:
        """After a reboot: judge the system, then let go of what was saved or take the patch back and reboot again."""
        with self.journal.locked():
            if not self.journal.under_way:
                return self._stamped(Report("nothing-to-do", message="No patch waits to be confirmed."))
            facts, state = self.journal.facts(), self.journal.state
            report = Report("done", id=str(facts.get("id", "")), started=float(facts.get("started", 0.0)))
            if state is not State.APPLIED:
                return self._recover()
            changes = _changes(facts)
            report = report.but(changes=changes)
            if not facts:
                return self._take_back(report.but(message="the facts of the patch are damaged"), facts)
            rebooted = facts.get("boot_id") != self.machine.boot_id()
            findings: list[Finding] = []
            if rebooted and facts.get("kernels") and not boot.runs(self.kernel(), facts["kernels"]):
                findings.append(
                    Finding("kernel-fell-back", f"{self.kernel()} runs, not {' or '.join(facts['kernels'])}")
                )
            findings = findings or judge(_before(facts), self.machine, self.config.health, self.layout.root, self.clock)
            if not findings:
                self.journal.end()
                return self._finish(report)
            report = self._take_back(report.but(findings=tuple(findings)), facts)
            if rebooted:
                # What runs was started from the new files.
                self.machine.reboot()
            return report

    def recover(self) -> Report:
        """At boot, or before a new patch: finish what was interrupted. The result is the old system or the new one."""
        with self.journal.locked():
            return self._recover()

    def _recover(self) -> Report:
        journal = self.journal
        if not journal.under_way:
            journal.clear_leftovers()
            return self._stamped(Report("nothing-to-do"))
        facts, state = journal.facts(), journal.state
        report = Report("rolled-back", id=str(facts.get("id", "")), started=float(facts.get("started", 0.0)))
        if not journal.complete or state is State.SAVING:
            journal.end()
            return self._finish(
                report.but(outcome="not-started", message="It was interrupted before anything changed.")
            )
        if state is State.APPLIED:
            return self._stamped(Report("reboot-needed", id=report.id, message="The patch waits to be confirmed."))
        message = _why(facts, journal.boots)
        if state is not State.SWAPPED:
            self._put_back()
        else:
            saved.remove_leftovers(journal, self.layout)
        entries = boot.put_back(facts["entries"], self.layout.root) if "entries" in facts else []
        changes = _changes(facts)
        verify = self.verify([change.name for change in changes if change.old])
        if journal.boots > 0:
            # It had its boots. Where power was lost before, the packages are not to blame.
            self._memory.remember_taken_back(changes)
        journal.end()
        outcome = "needs-a-person" if verify else "rolled-back"
        return self._finish(
            report.but(
                outcome=outcome, message=message, changes=changes, verify=tuple(verify), boot_entries=tuple(entries)
            )
        )

    def deadline(self) -> Report:
        """A boot that was never confirmed: restart, so that the initrd counts it as failed."""
        facts = self.journal.facts()
        if (
            self.journal.under_way
            and self.journal.state is State.APPLIED
            and facts.get("boot_id") != self.machine.boot_id()
        ):
            self.machine.reboot_at_once()
            return self._stamped(Report("reboot-needed", message="This boot came to no end; trying again."))
        return self._stamped(Report("nothing-to-do"))

    def automatic(self, mode: str) -> Report:
        """What the timer calls: once for each opening of a window; ``mode`` is ``off``, ``security`` or ``all``."""
        now = self.now()
        if mode == "off":
            return self._stamped(Report("nothing-to-do", message="Automatic updates are off."))
        if self.config.windows:
            spans = [span for span in openings(self.config.windows, self.config.zone, now) if span[0] <= now < span[1]]
            if not spans:
                return self._stamped(Report("nothing-to-do", message="No window is open."))
            if spans[0][0] <= self._memory.last_automatic <= now:
                return self._stamped(Report("nothing-to-do", message="Done in this window already."))
        if self.journal.under_way and self.journal.state is State.APPLIED:
            return self._stamped(Report("nothing-to-do", message="The last patch waits for a reboot."))
        self._memory.remember_automatic(now)
        return self.apply(Request(scope=mode))

    def _check_window(self, plan: Plan) -> None:
        windows, zone = self.config.windows, self.config.zone
        if start_allowed(windows, zone, self.now(), plan.seconds):
            return
        opens = next_start(windows, zone, self.now(), plan.seconds)
        when = f"it may start at {_clock(opens)}" if opens is not None else "no window is long enough"
        raise NotStarted(
            f"{len(plan.changes)} packages may take {plan.seconds / 60:.0f} minutes; no open window has them; {when}",
            remedy="wait, or say --now",
        )

    def _decide(self, processes: list[Process], changes: tuple[Change, ...]) -> Restarts:
        units = tuple(sorted({process.unit for process in processes if process.unit.endswith(".service")}))
        return decide(processes, changes, self.machine.ordering(units), self.config.never_restart)

    def _excluding(self, request: Request) -> Request:
        return Request(request.scope, (*self.config.exclude, *request.exclude), request.only)

    def _finish(self, report: Report) -> Report:
        report = self._stamped(report)
        keep(report, self.journal.store)
        return report

    def _stamped(self, report: Report) -> Report:
        now = self.now()
        return report.but(started=report.started or now, ended=now)


def _hold_units(paths: Iterable[str]) -> bool:
    """Whether systemd reads any of these: units, what is beside them, generators, and scripts it makes units of."""
    return any("/systemd/" in path or path.startswith("/etc/init.d/") for path in paths)


def _before(facts: dict[str, Any]) -> Snapshot:
    return Snapshot.from_json(facts.get("before", {}))


def _changes(facts: dict[str, Any]) -> tuple[Change, ...]:
    return tuple(Change(**{**one, "advisories": tuple(one["advisories"])}) for one in facts.get("changes", []))


def _why(facts: dict[str, Any], boots: int) -> str:
    if facts.get("kind") == guard.KIND:
        return "The transaction failed or was interrupted; packages and files are as they were before it."
    if boots > 0:
        return "The machine did not come up with the patch."
    return "The patch was interrupted, as by loss of power."


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
