"""Between the view and the database: loading it, writing what polls changed in batches, taking over what others wrote.

Times of the database are the service's. Functions here block; the service calls them in threads of their own and hands
the rows to the view on the event loop (:func:`apply_nodes` and the like do no I/O).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bedplate.fleet.observing import Attempt
from bedplate.fleet.policy import DEFAULT_POLICY, Policy, parse_policy
from bedplate.fleet.reboots import Slot
from bedplate.fleet.values import Method, Rollout
from bedplate.serve.database import Database
from bedplate.serve.models import Clock, EnrolmentRow, NodeEvent, NodeRow, PolicyRow, RebootSlotRow, RolloutRow
from bedplate.serve.view import Claim, FleetView, NodeChange, NodeState

_ROLLOUT = TypeAdapter(Rollout)
_ATTEMPT = TypeAdapter(Attempt)
# Rows per transaction of the writer: short transactions let commands in between.
BATCH = 1000
_NODES = cast(Table, NodeRow.__table__)


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows that changed after a point of the counter, and that point now."""

    clock: int
    nodes: Sequence[Row[Any]]
    rollouts: Sequence[Row[Any]]
    enrolments: Sequence[Row[Any]]
    policy: str | None
    slots: Sequence[Row[Any]] = ()


def read_changes(database: Database, since: int) -> Changes | None:
    """What changed after ``since``; None when nothing did.

    Raises:
        DatabaseGone: it cannot be read.
    """
    with database.reading() as connection:
        clock = int(connection.execute(select(Clock.value).where(Clock.id == 1)).scalar_one())
        if clock == since:
            return None
        policy = connection.execute(select(PolicyRow.text).where(PolicyRow.change > since)).scalar_one_or_none()
        return Changes(
            clock,
            connection.execute(select(_NODES).where(NodeRow.change > since)).all(),
            connection.execute(
                select(RolloutRow.__table__).where(RolloutRow.change > since).order_by(RolloutRow.number)
            ).all(),
            connection.execute(select(EnrolmentRow.__table__).where(EnrolmentRow.change > since)).all(),
            policy,
            connection.execute(select(RebootSlotRow.__table__).where(RebootSlotRow.change > since)).all(),
        )


def load(database: Database, view: FleetView) -> int:
    """Fill an empty view from the database, nodes in portions. Returns the counter's value.

    Raises:
        DatabaseGone: it cannot be read.
    """
    with database.reading() as connection:
        clock = int(connection.execute(select(Clock.value).where(Clock.id == 1)).scalar_one())
        for row in connection.execute(select(EnrolmentRow.__table__).where(EnrolmentRow.uses > 0)):
            _apply_enrolment(view, row)
        for row in connection.execute(select(_NODES).execution_options(yield_per=BATCH)):
            _apply_node(view, row)
        newest = select(RolloutRow.__table__).order_by(RolloutRow.number)
        for row in connection.execute(newest):
            view.set_rollout(load_rollout(row.state))
        for row in connection.execute(select(RebootSlotRow.__table__).where(RebootSlotRow.freed == 0)):
            _apply_slot(view, row)
        return clock


def apply_changes(view: FleetView, changes: Changes) -> None:
    """Take rows into the view. A node that polled here after its row was written keeps what it said here."""
    if changes.policy is not None:
        view.set_policy(parse_policy(changes.policy, where="policy.json"))
    for row in changes.enrolments:
        _apply_enrolment(view, row)
    for row in changes.nodes:
        _apply_node(view, row)
    for row in changes.rollouts:
        rollout = load_rollout(row.state)
        known = view.rollouts.get((rollout.channel, rollout.release.track))
        if known is None or known.id != rollout.id or known.revision <= rollout.revision:
            view.set_rollout(rollout)
    for row in changes.slots:
        _apply_slot(view, row)


def _apply_slot(view: FleetView, row: Row[Any]) -> None:
    view.set_slot(row.node, None if row.freed else Slot(row.node, row.ring, row.since, row.until))


def _apply_enrolment(view: FleetView, row: Row[Any]) -> None:
    if row.kind != "node" or row.uses < 1:
        view.claims.pop(row.digest, None)
        return
    if row.id not in view.claimed.values():
        view.claims[row.digest] = Claim(row.id, row.digest, row.track, row.ring, Method(row.method), row.expires)


def _apply_node(view: FleetView, row: Row[Any]) -> None:
    known = view.nodes.get(row.id)
    twin = view.by_digest.get(row.digest)
    if twin is not None and twin.id != row.id:
        # Another machine took the same credential elsewhere, and was first.
        view.remove(twin)
        view.dirty.pop(twin.id, None)
    if known is not None and known.digest == row.digest:
        node = known
        if row.id not in view.dirty or row.seen > node.seen:
            view.remove(node)
            _take_report(node, row)
            view.dirty.pop(row.id, None)
        else:
            view.remove(node)
    else:
        if known is not None:
            view.dirty.pop(row.id, None)
        node = NodeState(row.id, row.digest, row.track, row.ring)
        _take_report(node, row)
    node.ring, node.pin, node.held = row.ring, row.pin, row.held
    node.method, node.enrolled, node.expires, node.revoked = Method(row.method), row.enrolled, row.expires, row.revoked
    node.cached = -1
    view.add(node)


def _take_report(node: NodeState, row: Row[Any]) -> None:
    node.version, node.boot, node.seen, node.stored = row.version, row.boot, row.seen, row.seen
    node.attempt = _ATTEMPT.validate_python(row.attempt) if row.attempt else None
    node.failed = frozenset(row.failed)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction of the writer stores: nodes that said something, nodes that took a credential made
    beforehand (with its id), and history."""

    reports: Sequence[NodeState]
    claims: Sequence[tuple[NodeState, str]]
    events: Sequence[NodeChange]

    def __bool__(self) -> bool:
        return bool(self.reports or self.claims or self.events)


def take_batch(view: FleetView) -> Batch:
    """Take up to :data:`BATCH` changed nodes out of the view's queue. Does no I/O and little work.

    Their values are read when they are written, in another thread: whatever changes a node meanwhile also puts it into
    the queue again.
    """
    reports, claims = [], []
    for _ in range(min(BATCH, len(view.dirty))):
        id, node = view.dirty.popitem()
        claim = view.claimed.pop(id, None) if view.claimed else None
        if claim is not None:
            claims.append((node, claim))
        else:
            reports.append(node)
    events = [view.events.popleft() for _ in range(min(BATCH, len(view.events)))]
    return Batch(reports, claims, events)


def give_back(view: FleetView, batch: Batch) -> None:
    """Put what could not be written back into the queue. What changed meanwhile is newer and stays."""
    for node, claim in batch.claims:
        view.claimed[node.id] = claim
    for node in [*batch.reports, *(node for node, _ in batch.claims)]:
        if view.nodes.get(node.id) is node:
            view.dirty.setdefault(node.id, node)
    view.events.extendleft(reversed(batch.events))


def write_batch(database: Database, batch: Batch) -> int:
    """Store a batch. Returns the counter it was written at.

    Raises:
        DatabaseGone: nothing of it was written.
    """
    reports = [_report(node) for node in batch.reports]
    with database.changing() as (connection, change):
        for node, claim in batch.claims:
            _store_claim(connection, {**node_row(node), "claim": claim}, change)
        if reports:
            # Straight to the driver: thousands of rows a second must not keep the interpreter from polls.
            mark = "?" if connection.dialect.name == "sqlite" else "%s"
            as_json = "" if connection.dialect.name == "sqlite" else "::json"
            statement = (
                f"UPDATE node SET version = {mark}, boot = {mark}, seen = {mark}, attempt = {mark}{as_json},"
                f" failed = {mark}{as_json}, change = {change:d} WHERE id = {mark} AND digest = {mark}"
            )
            connection.exec_driver_sql(statement, reports)
        if batch.events:
            mark = "?" if connection.dialect.name == "sqlite" else "%s"
            connection.exec_driver_sql(
                f"INSERT INTO node_event (node, at, stage, version, sentence) VALUES ({', '.join([mark] * 5)})",
                [(one.node, one.at, one.stage, one.version, one.sentence) for one in batch.events],
            )
    return change


def _report(node: NodeState) -> tuple[Any, ...]:
    attempt = node.attempt
    return (
        node.version,
        node.boot,
        node.seen,
        "null" if attempt is None else json.dumps(attempt_json(attempt)),
        json.dumps(sorted(node.failed)) if node.failed else "[]",
        node.id,
        node.digest,
    )


def _store_claim(connection: Connection, row: Mapping[str, Any], change: int) -> None:
    """Store that a machine took a credential made beforehand; of two machines that took it the first one keeps it."""
    used = update(EnrolmentRow).where(EnrolmentRow.id == row["claim"], EnrolmentRow.uses > 0)
    if connection.execute(used.values(uses=0, change=change)).rowcount:
        put_node(connection, {name: value for name, value in row.items() if name != "claim"}, change)


def put_node(connection: Connection, row: Mapping[str, Any], change: int) -> None:
    """Insert a node, or put it in the place of the one with the same id (a machine that was enrolled anew)."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(_NODES).values({**row, "change": change})
    new = {name: statement.excluded[name] for name in (*row, "change") if name != "id"}
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=new))


def node_row(node: NodeState) -> dict[str, Any]:
    """A node as a row."""
    return {
        "id": node.id,
        "digest": node.digest,
        "track": node.track,
        "ring": node.ring,
        "version": node.version,
        "boot": node.boot,
        "seen": node.seen,
        "enrolled": node.enrolled,
        "expires": node.expires,
        "revoked": node.revoked,
        "attempt": None if node.attempt is None else attempt_json(node.attempt),
        "failed": sorted(node.failed),
        "pin": node.pin,
        "held": node.held,
        "method": node.method.value,
        "tpm": "",
    }


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON values."""
    return {
        "version": attempt.version,
        "stage": attempt.stage.value,
        "since": attempt.since,
        "offered": attempt.offered,
        "boot": attempt.boot,
    }


def dump_rollout(rollout: Rollout) -> dict[str, Any]:
    """A roll-out's state as JSON values."""
    data = _ROLLOUT.dump_python(rollout, mode="json")
    return json.loads(json.dumps(data, sort_keys=True))  # type: ignore[no-any-return]


def load_rollout(state: Mapping[str, Any]) -> Rollout:
    """The inverse of :func:`dump_rollout`."""
    return _ROLLOUT.validate_python(state)


def store_rollout(connection: Connection, rollout: Rollout, change: int, *, expected: int) -> bool:
    """Store a new state of a roll-out that is at revision ``expected``. False when it is not there any more."""
    statement = (
        update(RolloutRow)
        .where(RolloutRow.id == rollout.id, RolloutRow.revision == expected)
        .values(status=rollout.status.value, revision=rollout.revision, state=dump_rollout(rollout), change=change)
    )
    return connection.execute(statement).rowcount == 1


def load_policy(database: Database, wanted: Policy | None) -> Policy:
    """The policy in force: the stored one; the first time ``wanted`` or the default, which is then stored."""
    with database.changing() as (connection, change):
        found = connection.execute(select(PolicyRow.text)).scalar_one_or_none()
        if found is not None:
            return parse_policy(found, where="policy.json")
        policy = wanted or DEFAULT_POLICY
        connection.execute(insert(PolicyRow).values(id=1, text=policy.model_dump_json(), revision=1, change=change))
        return policy


def prune_events(database: Database, before: float) -> int:
    """Remove history older than ``before``. Returns how many lines."""
    with database.changing() as (connection, _):
        return connection.execute(delete(NodeEvent).where(NodeEvent.at < before)).rowcount


def forget(nodes: Iterable[NodeState]) -> None:
    """Drop what nodes were told, so that the next request is decided anew."""
    for node in nodes:
        node.answer, node.cached = None, -1
