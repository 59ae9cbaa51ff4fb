"""The service as one object: view, database, catalogue, and the tasks that keep them together.

Everything that touches the view runs on the event loop; everything that waits for the database or a disk runs in a
thread. A service that was killed goes on from the database: what nodes said since the last batch, they say again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cryptography.x509 import Certificate

from bedplate.fleet.observing import on_time
from bedplate.fleet.policy import Policy
from bedplate.fleet.running import Note, Step, advance, choose_first
from bedplate.fleet.values import Fleet, Node, Rollout, RolloutStatus
from bedplate.model.errors import BedplateError
from bedplate.serve import audit
from bedplate.serve.catalog import Catalog, Shelf
from bedplate.serve.database import Database, DatabaseGone, Leadership
from bedplate.serve.polls import DEFAULT_LIMITS, Limits, PollDesk
from bedplate.serve.state import (
    BATCH,
    apply_changes,
    give_back,
    load,
    load_policy,
    prune_events,
    read_changes,
    store_rollout,
    take_batch,
    write_batch,
)
from bedplate.serve.view import FleetView

log = logging.getLogger("bedplate.serve")
_T = TypeVar("_T")
# So many nodes are looked at in one go before polls get their turn.
_PORTION = 512


@dataclass(frozen=True, slots=True)
class Pacing:
    """How often the service does what it does by itself (seconds).

    ``doubt``: how long the database may be out of reach before nothing new is offered. ``history``: how long node
    history is kept. ``recent``: a node that polled within so many poll intervals can go first.
    """

    write: float = 1.0
    sync: float = 1.0
    tick: float = 5.0
    shelf: float = 30.0
    doubt: float = 15.0
    history: float = 90 * 86400.0
    recent: int = 3


DEFAULT_PACING = Pacing()


class Service:
    """One instance of the update service.

    Args:
        tpm_roots: Roots that must vouch for the endorsement key of a TPM that enrols; none: any key is taken.
        clock: Seconds since the epoch.

    Raises:
        BedplateError: the database or the store cannot be used at start.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        *,
        policy: Policy | None = None,
        limits: Limits = DEFAULT_LIMITS,
        pacing: Pacing = DEFAULT_PACING,
        tpm_roots: Sequence[Certificate] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.catalog = catalog
        self.pacing = pacing
        self.tpm_roots = tuple(tpm_roots)
        self.clock = clock
        self.view = FleetView()
        self.desk = PollDesk(self.view, clock, limits)
        self.leadership = Leadership(database)
        self.leading = False
        self.database_error = ""
        self.shelf_error = ""
        self.started = False
        self.changed = asyncio.Event()
        self.counters = {"rows_written": 0, "write_failures": 0, "shelf_failures": 0, "ticks": 0}
        self._policy = policy
        self._seen = -1
        self._good_sync = self._good_write = clock()
        self._tasks: list[asyncio.Task[None]] = []
        self._syncing = asyncio.Lock()
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """Migrate, load what is stored, and begin to keep it up to date."""
        await asyncio.to_thread(self.database.migrate)
        self.view.set_policy(await asyncio.to_thread(load_policy, self.database, self._policy))
        self.view.set_shelf(await asyncio.to_thread(self.catalog.load))
        self._seen = await asyncio.to_thread(load, self.database, self.view)
        self._good_sync = self._good_write = self.clock()
        self.started = True
        pacing = self.pacing
        for name, every, work in (
            ("sync", pacing.sync, self.sync),
            ("write", pacing.write, self.write),
            ("tick", pacing.tick, self.tick),
            ("shelf", pacing.shelf, self.reload_shelf),
            ("prune", 3600.0, self.prune),
        ):
            self._tasks.append(asyncio.create_task(self._every(every, work), name=f"serve-{name}"))
        log.info("started: %d nodes, %d roll-outs", len(self.view.nodes), len(self.view.rollouts))

    async def stop(self) -> None:
        """End the tasks and write what is left to write."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        with contextlib.suppress(BedplateError):
            await self.write_all()
        await asyncio.to_thread(self.leadership.release)
        self.database.dispose()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except BedplateError as error:
                log.warning("%s", error.message, extra={"details": list(error.details)})
            except Exception:
                # One bad round must not end the rounds.
                log.exception("a background task failed")

    async def sync(self) -> None:
        """Take over what changed in the database."""
        async with self._syncing:
            try:
                changes = await asyncio.to_thread(read_changes, self.database, self._seen)
            except DatabaseGone as error:
                self._doubt(error)
                raise
            if changes is not None:
                apply_changes(self.view, changes)
                self._seen = changes.clock
                self.announce()
            self._good_sync = self.clock()
        self._believe()

    async def write(self) -> None:
        """Write what polls changed, in batches, as much as waits now."""
        for _ in range(len(self.view.dirty) // BATCH + len(self.view.events) // BATCH + 1):
            if not await self._write_batch():
                break
        self.announce()

    async def _write_batch(self) -> bool:
        async with self._writing:
            batch = take_batch(self.view)
            if not batch:
                self._good_write = self.clock()
                return False
            try:
                change = await asyncio.to_thread(write_batch, self.database, batch)
            except BaseException as error:
                give_back(self.view, batch)
                self.counters["write_failures"] += 1
                if isinstance(error, DatabaseGone):
                    self._doubt(error)
                raise
            self.counters["rows_written"] += len(batch.reports) + len(batch.claims)
            self._good_write = self.clock()
            async with self._syncing:
                if change == self._seen + 1 and not batch.claims:
                    # Nobody else wrote in between: there is nothing to read back.
                    self._seen = change
        return True

    async def write_all(self) -> None:
        """Write everything that waits to be written."""
        while self.view.dirty or self.view.events:
            await self.write()

    async def tick(self) -> None:
        """Let time pass: attempts time out, roll-outs move on. Only the leading instance does anything."""
        try:
            self.leading = await asyncio.to_thread(self.leadership.hold)
        except DatabaseGone:
            self.leading = False
            raise
        if not self.leading:
            return
        self.counters["ticks"] += 1
        now = self.clock()
        view = self.view
        for number, node in enumerate(list(view.moving.values())):
            if node.attempt is not None:
                view.set_attempt(node, on_time(node.attempt, view.policy.timeout, now), now)
            if number % _PORTION == _PORTION - 1:
                await asyncio.sleep(0)
        for key in list(view.rollouts):
            rollout = view.rollouts[key]
            if rollout.status is RolloutStatus.RUNNING and not view.in_doubt:
                await self._move(rollout)

    async def _move(self, rollout: Rollout) -> None:
        view = self.view
        fleet = view.fleet(rollout.release.track, rollout.release.version)
        now = self.clock()
        step = advance(rollout, fleet, now)
        if not step.rollout.proven and step.rollout.status is RolloutStatus.RUNNING:
            first = await self._choose(step.rollout, fleet, now)
            step = Step(first.rollout, (*step.notes, *first.notes))
        # Stored before anybody acts on it. A person's command in between is the newer one: then nothing is stored.
        stored = await asyncio.to_thread(self._store, step.rollout, rollout.revision, step.notes)
        if stored:
            current = view.rollouts.get((rollout.channel, rollout.release.track))
            if current is not None and current.id == rollout.id and current.revision <= step.rollout.revision:
                view.set_rollout(step.rollout)
            for note in step.notes:
                log.info("roll-out %s: %s", rollout.id, note.sentence)
            if step.notes:
                self.announce()
        else:
            await self.sync()

    def _store(self, rollout: Rollout, expected: int, notes: tuple[Note, ...]) -> bool:
        with self.database.changing() as (connection, change):
            if not store_rollout(connection, rollout, change, expected=expected):
                return False
            for note in notes:
                audit.append(
                    connection,
                    self.clock(),
                    "service",
                    f"rollout.{note.kind.value}",
                    rollout.id,
                    {"sentence": note.sentence, "ring": note.ring, "version": rollout.release.version},
                )
        return True

    async def _choose(self, rollout: Rollout, fleet: Fleet, now: float) -> Step:
        """The first node, sought ring by ring and off the event loop: a ring may have 100,000 nodes."""
        known = self.view.nodes.get(rollout.first_node)
        if known is not None and not known.revoked:
            step = choose_first(rollout, fleet, [known.as_node()], now)
            if step.rollout.first_node:
                return step
        rollout = replace(rollout, first_node="")
        since = now - self.pacing.recent * self.view.policy.poll
        for ring in self.view.policy.rings_of(rollout.channel):
            candidates: list[Node] = []
            for number, node in enumerate(list(self.view.nodes.values())):
                of_ring = node.ring == ring.name and node.track == rollout.release.track
                if of_ring and node.seen >= since and not node.revoked:
                    candidates.append(node.as_node())
                if number % _PORTION == _PORTION - 1:
                    await asyncio.sleep(0)
            step = await asyncio.to_thread(choose_first, rollout, fleet, candidates, now)
            if step.rollout.first_node:
                return step
        return Step(rollout)

    async def reload_shelf(self) -> None:
        """Look at the release store again; the look before stays in use when it cannot be read."""
        try:
            shelf = await asyncio.to_thread(self.catalog.load)
        except BedplateError as error:
            self.shelf_error = error.message
            self.counters["shelf_failures"] += 1
            raise
        self.shelf_error = ""
        self.set_shelf(shelf)

    def set_shelf(self, shelf: Shelf) -> None:
        """Put a look at the store in use when it differs from the one in use."""
        before = self.view.shelf
        same = before.channels == shelf.channels and before.releases.keys() == shelf.releases.keys()
        if same and all(
            before.releases[k].facts == v.facts and before.releases[k].files == v.files
            for k, v in shelf.releases.items()
        ):
            return
        self.view.set_shelf(shelf)
        for node in self.view.nodes.values():
            node.answer = None
        self.announce()

    async def prune(self) -> None:
        """Remove node history that is older than it is kept."""
        if self.leading:
            await asyncio.to_thread(prune_events, self.database, self.clock() - self.pacing.history)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Run blocking work, then take over what it changed in the database."""
        result = await asyncio.to_thread(work)
        await self.sync()
        return result

    def announce(self) -> None:
        """Wake everybody who waits for news of the fleet."""
        self.changed.set()
        self.changed = asyncio.Event()

    def _doubt(self, error: DatabaseGone) -> None:
        self.database_error = "; ".join((error.message, *error.details))
        now = self.clock()
        if not self.view.in_doubt and now - min(self._good_sync, self._good_write) >= self.pacing.doubt:
            self.view.in_doubt = self.database_error
            self.view.generation += 1
            log.error("nothing new is offered until the database is back: %s", self.database_error)

    def _believe(self) -> None:
        now = self.clock()
        if now - min(self._good_sync, self._good_write) >= self.pacing.doubt:
            return
        self.database_error = ""
        if self.view.in_doubt:
            self.view.in_doubt = ""
            self.view.generation += 1
            log.info("the database is back")
