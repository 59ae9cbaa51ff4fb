"""The flow: settle what was on its way, ask, move to what is offered, and let the service know.

Moving is bedplate-patch's work: dnf is pinned to the offered state first, and back to the one before when the patch was
taken back or never began. Every step is remembered before it is taken, so that power may be lost at any time.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bedplate_follow.memory import Memory, Pending, Pin, Store
from bedplate_follow.offers import MAX_SNAPSHOT, Offer, Unbelievable, read_listing, read_snapshot, refusal
from bedplate_patch.errors import BadInput, Exit, NotStarted, PatchError


class Asked(Protocol):
    """The service as the flow needs it."""

    def listing(self) -> bytes:
        """The verified listing."""

    def fetch(self, name: str, limit: int) -> bytes:
        """One file."""


class Patches(Protocol):
    """bedplate-patch as the flow needs it."""

    def apply(self) -> tuple[int, dict[str, Any]]:
        """Patch everything: the exit status and the report."""

    def status(self) -> dict[str, Any]:
        """``under_way`` and ``last``, as ``bedplate-patch status --json`` says."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: ``code`` is the exit status, ``version`` runs, ``offered`` was offered (empty: nothing)."""

    code: Exit
    version: str
    offered: str
    message: str
    failed: tuple[str, ...] = ()


@dataclass
class Follower:
    """One machine that follows releases.

    Args:
        ask: The service, asked as a machine that runs a version and took others back.
        os_release: What the system says of itself.
    """

    store: Store
    patches: Patches
    ask: Callable[[str, tuple[str, ...]], Asked]
    os_release: Mapping[str, str]
    now: Callable[[], float] = time.time

    def run(self) -> Outcome:
        """Ask once, and move if there is something to move to; then ask once more, which is the report.

        Raises:
            PatchError: the service cannot be asked, or what it says cannot be believed.
        """
        with self._locked():
            memory = self._settle(self._remembered())
            if memory.pending is not None:
                # The service still hears what truly runs.
                self.ask(memory.version, memory.failed).listing()
                version = memory.pending.pin.version
                return _outcome(Exit.REBOOT_NEEDED, memory, version, f"{version} waits for a reboot")
            offered, why = self._offered(memory)
            if offered is None:
                return _outcome(Exit.DONE, memory, "", why)
            outcome = self._move(memory, offered)
            after = self._remembered()
            if (after.version, after.failed) != (memory.version, memory.failed):
                self._tell(after)
            return outcome

    def status(self) -> Outcome:
        """What is remembered; nobody is asked."""
        memory = self._remembered()
        pending = memory.pending.pin.version if memory.pending is not None else ""
        return _outcome(Exit.DONE, memory, pending, f"{pending} is on its way" if pending else "")

    def leave(self) -> Outcome:
        """Follow no more: dnf uses what the repository serves again."""
        with self._locked():
            memory = self._settle(self._remembered())
            if memory.pending is not None:
                raise NotStarted("a release waits for a reboot", remedy="reboot, then try again")
            self.store.set_pin(None)
            return _outcome(Exit.DONE, memory, "", "dnf uses what the repository serves")

    def _remembered(self) -> Memory:
        memory = self.store.read()
        if memory is None:
            image = self.os_release.get("IMAGE_ID", "")
            if not image.partition("-")[2]:
                raise BadInput(
                    "this system does not say which image it was made from (IMAGE_ID in os-release)",
                    remedy="write it there once, such as IMAGE_ID=bedplate-server",
                )
            memory = Memory(image, self.os_release.get("IMAGE_VERSION", "") or "0")
            self.store.write(memory)
        return memory

    def _offered(self, memory: Memory) -> tuple[Pin | None, str]:
        """The state to move to, or why there is none."""
        service = self.ask(memory.version, memory.failed)
        try:
            offer = read_listing(service.listing(), memory.image)
            if offer is None:
                return None, "this release names no state of a repository"
            why = refusal(offer, memory.version, memory.failed)
            return (None, why) if why else (self._snapshot(service, offer, memory), "")
        except Unbelievable as error:
            raise PatchError(
                f"what the service offers cannot be right: {error}", remedy="tell who runs the update service"
            ) from error

    def _snapshot(self, service: Asked, offer: Offer, memory: Memory) -> Pin:
        track = memory.image.partition("-")[2]
        found = read_snapshot(service.fetch(offer.name, MAX_SNAPSHOT), offer, track)
        if self.now() >= found.expires:
            raise NotStarted(f"{offer.version} has expired", remedy="ask who runs the update service for a newer one")
        return Pin(found.version, found.state, found.repomd_sha256)

    def _move(self, memory: Memory, pin: Pin) -> Outcome:
        pending = Pending(pin, self.store.pin(), _newest_report(self.patches.status()))
        memory = replace(memory, pending=pending)
        self.store.write(memory)
        self.store.set_pin(pin)
        code, report = self.patches.apply()
        said = " ".join(str(report.get("message", "")).split())[:300]
        if code == Exit.DONE:
            return self._arrived(memory)
        if code == Exit.REBOOT_NEEDED:
            return _outcome(Exit.REBOOT_NEEDED, memory, pin.version, f"{pin.version} is installed and needs a reboot")
        if code in (Exit.ROLLED_BACK, Exit.NEEDS_A_PERSON):
            return self._taken_back(memory, Exit(code), said)
        return self._never_began(memory, Exit(code) if code in set(Exit) else Exit.NEEDS_A_PERSON, said)

    def _settle(self, memory: Memory) -> Memory:
        """What became of a release that was on its way when the last run ended, or was cut off."""
        pending = memory.pending
        if pending is None:
            return memory
        status = self.patches.status()
        if status.get("under_way"):
            return memory
        last = status.get("last") or {}
        if _newest_report(status) in ("", pending.report_before):
            # It was cut off before bedplate-patch did anything.
            self._never_began(memory, Exit.NOT_STARTED, "")
        elif last.get("outcome") in ("done", "reboot-needed"):
            self._arrived(memory)
        elif last.get("outcome") in ("rolled-back", "needs-a-person"):
            self._taken_back(memory, Exit.ROLLED_BACK, "")
        else:
            self._never_began(memory, Exit.NOT_STARTED, "")
        return self._remembered()

    def _arrived(self, memory: Memory) -> Outcome:
        assert memory.pending is not None
        after = replace(memory, version=memory.pending.pin.version, pending=None)
        self.store.write(after)
        return _outcome(Exit.DONE, after, after.version, f"{after.version} runs")

    def _taken_back(self, memory: Memory, code: Exit, why: str) -> Outcome:
        assert memory.pending is not None
        version = memory.pending.pin.version
        self.store.set_pin(memory.pending.previous)
        after = memory.failing(version)
        self.store.write(after)
        return _outcome(code, after, version, f"{version} was taken back{f': {why}' if why else ''}")

    def _never_began(self, memory: Memory, code: Exit, why: str) -> Outcome:
        assert memory.pending is not None
        version = memory.pending.pin.version
        self.store.set_pin(memory.pending.previous)
        after = replace(memory, pending=None)
        self.store.write(after)
        return _outcome(code, after, version, f"{version} was not begun{f': {why}' if why else ''}")

    def _tell(self, memory: Memory) -> None:
        try:
            self.ask(memory.version, memory.failed).listing()
        except NotStarted:
            # The next poll says the same.
            return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.store.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.store.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise NotStarted("another bedplate-follow is running") from None
            yield


def _newest_report(status: Mapping[str, Any]) -> str:
    last = status.get("last")
    return str(last.get("id", "")) if isinstance(last, dict) else ""


def _outcome(code: Exit, memory: Memory, offered: str, message: str) -> Outcome:
    return Outcome(code, memory.version, offered, message, memory.failed)


def read_json(text: str) -> dict[str, Any]:
    """The object a program printed; empty when it printed something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
