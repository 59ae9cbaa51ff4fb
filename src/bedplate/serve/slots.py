"""Reboot slots, stored: who holds one is decided in one transaction of the database, which all instances share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Row, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bedplate.fleet.policy import Ring
from bedplate.fleet.reboots import Granted, Refused, Slot, acquire, budget
from bedplate.serve import audit
from bedplate.serve.database import Database
from bedplate.serve.models import RebootSlotRow
from bedplate.serve.people import NotThere
from bedplate.serve.view import FleetView, NodeState

_SLOTS = cast(Table, RebootSlotRow.__table__)


class OtherClient(Exception):
    """The slot was taken under another client id with the same credential."""

    def __init__(self, client: str) -> None:
        super().__init__(client)
        self.client = client


@dataclass(frozen=True, slots=True)
class Wish:
    """A node that wants a slot of its ring, and how the ring stood when it asked: how many nodes it has, which of them
    are on their way to a release or lost on it. ``client`` is what the node calls itself; only under that name it can
    give the slot back. ``hold`` is how long it may be down (seconds)."""

    node: str
    client: str
    ring: Ring
    members: int
    updating: bool
    in_progress: frozenset[str]
    lost: frozenset[str]
    hold: float


def wish(view: FleetView, node: NodeState, client: str, ring: Ring) -> Wish:
    """What ``node`` asks for, from the view as it is now."""
    return Wish(
        node.id,
        client,
        ring,
        view.members(ring.name),
        bool(node.updating),
        view.in_progress(ring.name) - {node.id},
        view.in_progress(ring.name, lost=True) - {node.id},
        view.policy.costs.reboot,
    )


def take(database: Database, wish: Wish, now: float) -> Granted | Refused:
    """The slot, or why there is none now. Taking it again changes nothing.

    Raises:
        OtherClient: the node holds a slot under another name.
        DatabaseGone: nobody gets a slot then.
    """
    node, ring = wish.node, wish.ring
    with database.changing() as (connection, change):
        rows = held(connection)
        own = rows.get(node)
        if own is not None and own.client != wish.client:
            raise OtherClient(own.client)
        without = [len(nodes - rows.keys()) for nodes in (wish.in_progress, wish.lost)]
        limit, others = budget(ring, wish.updating, *without)
        slots = {id: Slot(id, row.ring, row.since, row.until) for id, row in rows.items()}
        answer = acquire(slots, node, ring.name, limit, wish.members, now, hold=wish.hold, others=others)
        if isinstance(answer, Granted) and answer.slots is not slots:
            slot = answer.slots[node]
            values = {"ring": slot.group, "client": wish.client, "since": slot.since, "until": slot.until, "freed": 0.0}
            _put(connection, {"node": node, **values, "change": change})
            audit.append(connection, now, f"node {node}", "reboot.lock", node, {"ring": ring.name})
        return answer


def give_back(database: Database, node: str, client: str, now: float) -> bool:
    """Give a node's slot back. False when it held none.

    Raises:
        OtherClient: it was taken under another name.
    """
    with database.changing() as (connection, change):
        own = held(connection).get(node)
        if own is None:
            return False
        if own.client != client:
            raise OtherClient(own.client)
        let_go(connection, node, now, change)
        audit.append(connection, now, f"node {node}", "reboot.unlock", node, {"ring": own.ring})
        return True


def free(database: Database, node: str, *, actor: str, why: str, now: float) -> None:
    """Take a slot from a node that will not give it back.

    Raises:
        NotThere: it holds none.
    """
    with database.changing() as (connection, change):
        if not let_go(connection, node, now, change):
            raise NotThere("this node holds no reboot slot", where=node[:64])
        audit.append(connection, now, actor, "reboot.free", node, {"why": why} if why else {})


def held(connection: Connection) -> dict[str, Row[Any]]:
    """Every slot that is held, by node."""
    return {row.node: row for row in connection.execute(select(_SLOTS).where(RebootSlotRow.freed == 0))}


def let_go(connection: Connection, node: str, now: float, change: int) -> bool:
    """Free the node's slot within the caller's transaction. False when it held none."""
    freed = update(RebootSlotRow).where(RebootSlotRow.node == node, RebootSlotRow.freed == 0)
    return connection.execute(freed.values(freed=now, change=change)).rowcount == 1


def _put(connection: Connection, row: dict[str, Any]) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(_SLOTS).values(row)
    new = {name: statement.excluded[name] for name in row if name != "node"}
    connection.execute(statement.on_conflict_do_update(index_elements=["node"], set_=new))
