"""Nodes over the API: search, one node with its decision and history, ring, pin, hold, revoke."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select, update

from bedplate.fleet.decision import decide
from bedplate.fleet.values import Method
from bedplate.model.errors import BadInput
from bedplate.model.version import require_version
from bedplate.serve import audit
from bedplate.serve.api.endpoint import Call, Endpoint, Model
from bedplate.serve.models import NodeEvent, NodeRow
from bedplate.serve.people import NotThere, Role
from bedplate.serve.searching import search
from bedplate.serve.slots import let_go
from bedplate.serve.view import NodeState


class NodeView(Model):
    """A node for people. ``stage`` is where it stands with ``target``; times are seconds since the epoch, 0: never."""

    id: str
    track: str
    ring: str
    version: str
    seen: float
    enrolled: float
    stage: str
    target: str
    since: float
    failed: list[str]
    pin: str
    held: str
    method: str
    revoked: float
    reason: str


class EventView(Model):
    """One line of a node's history."""

    at: float
    stage: str
    version: str
    sentence: str


class NodeDetail(Model):
    """A node, what it would be told now and why, and its history, newest first."""

    node: NodeView
    decision: str
    offered: str | None
    until: float | None
    history: list[EventView]


class NodePage(Model):
    """Some nodes in the order of their ids; ``next`` goes into ``after`` for the following ones, empty at the end."""

    nodes: list[NodeView]
    next: str
    total: int


class NodeQuery(Model):
    """Which nodes: all given must hold. ``text`` is found anywhere in id, ring or version."""

    text: Annotated[str, Field(max_length=64)] = ""
    track: Annotated[str, Field(max_length=64)] = ""
    ring: Annotated[str, Field(max_length=64)] = ""
    version: Annotated[str, Field(max_length=64)] = ""
    stage: Annotated[str, Field(max_length=16)] = ""
    after: Annotated[str, Field(max_length=32)] = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class NodePatch(Model):
    """What people decide of a node. Left out: stays. Empty ``pin`` or ``held``: no longer."""

    ring: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    pin: Annotated[str, Field(max_length=18)] | None = None
    held: Annotated[str, Field(max_length=200)] | None = None
    method: Method | None = None
    forgive: Annotated[str, Field(max_length=64)] | None = None


def view(node: NodeState) -> NodeView:
    """A node of the fleet's view for people."""
    attempt = node.attempt
    return NodeView(
        id=node.id,
        track=node.track,
        ring=node.ring,
        version=node.version,
        seen=node.seen,
        enrolled=node.enrolled,
        stage=attempt.stage.value if attempt is not None else "",
        target=attempt.version if attempt is not None else "",
        since=attempt.since if attempt is not None else 0.0,
        failed=sorted(node.failed),
        pin=node.pin,
        held=node.held,
        method=node.method.value,
        revoked=node.revoked,
        reason=node.reason,
    )


async def list_nodes(call: Call) -> Any:
    """Nodes, searched and in pages."""
    query: NodeQuery = call.query

    def key(node: NodeState) -> tuple[bool] | None:
        # Those before the page come first: how many they are says where it begins.
        return (node.id > query.after,) if _fits(node, query) else None

    found = await search(call.service.view, key)
    start = found.count((False,))
    page = await found.part(start, start + query.limit)
    more = start + len(page) < found.total
    return NodePage(nodes=[view(one) for one in page], next=page[-1].id if more else "", total=found.total)


def _fits(node: NodeState, query: NodeQuery) -> bool:
    stage = node.attempt.stage.value if node.attempt is not None else ""
    return (
        (not query.track or node.track == query.track)
        and (not query.ring or node.ring == query.ring)
        and (not query.version or node.version == query.version)
        and (not query.stage or stage == query.stage)
        and (not query.text or query.text in node.id or query.text in node.ring or query.text in node.version)
    )


async def show_node(call: Call) -> Any:
    """One node: what it would be told now, why, and its history."""
    node = _find(call)
    fleet_view = call.service.view
    rollout = fleet_view.rollout_of(node)
    fleet = fleet_view.fleet(node.track, rollout.release.version if rollout else "")
    decision = decide(node.as_node(), rollout, fleet, call.service.clock())

    def read() -> list[EventView]:
        newest = select(NodeEvent).where(NodeEvent.node == node.id).order_by(NodeEvent.id.desc()).limit(200)
        with call.service.database.reading() as connection:
            rows = connection.execute(newest).all()
        return [EventView(at=r.at, stage=r.stage, version=r.version, sentence=r.sentence) for r in rows]

    history = [
        EventView(at=one.at, stage=one.stage, version=one.version, sentence=one.sentence)
        for one in reversed(fleet_view.events)
        if one.node == node.id
    ]
    return NodeDetail(
        node=view(node),
        decision=fleet_view.in_doubt or decision.sentence,
        offered=None if fleet_view.in_doubt else decision.version,
        until=decision.until,
        history=history + await call.reading(read),
    )


async def change_node(call: Call) -> Any:
    """Put a node into another ring, pin it to a version, hold it, or forgive it a version it fell back from."""
    node, patch = _find(call), call.body
    values: dict[str, Any] = patch.model_dump(exclude_none=True, mode="json")
    forgive = values.pop("forgive", None)
    if not values and forgive is None:
        raise BadInput("nothing to change is given")
    if patch.ring is not None and call.service.view.policy.ring(patch.ring) is None:
        raise BadInput(f"the policy has no ring {patch.ring!r}", where="ring")
    if patch.pin:
        require_version(patch.pin, "pin")
    if forgive is not None:
        values |= {"failed": sorted(node.failed - {forgive}), "attempt": None}

    def store() -> None:
        with call.service.database.changing() as (connection, change):
            changed = update(NodeRow).where(NodeRow.id == node.id).values(**values, change=change)
            if not connection.execute(changed).rowcount:
                raise NotThere("no such node", where=node.id)
            detail = patch.model_dump(exclude_none=True, mode="json")
            audit.append(connection, call.service.clock(), call.person.name, "node.change", node.id, detail)

    await call.service.write_all()
    await call.in_thread(store)
    return view(call.service.view.nodes[node.id])


async def revoke_node(call: Call) -> Any:
    """Shut a node out: its credential ends, it counts no more. It may be enrolled anew."""
    node = _find(call)
    now = call.service.clock()

    def store() -> None:
        with call.service.database.changing() as (connection, change):
            ended = (
                update(NodeRow).where(NodeRow.id == node.id, NodeRow.revoked == 0).values(revoked=now, change=change)
            )
            if not connection.execute(ended).rowcount:
                raise NotThere("no such node, or it was revoked before", where=node.id)
            # Its slot must not keep others from rebooting: it can not give it back any more.
            let_go(connection, node.id, now, change)
            audit.append(connection, now, call.person.name, "node.revoke", node.id)

    await call.service.write_all()
    await call.in_thread(store)


def _find(call: Call) -> NodeState:
    node = call.service.view.nodes.get(call.path["id"])
    if node is None:
        raise NotThere("no such node", where=call.path["id"][:64])
    return node


_ID = "/api/v1/nodes/{id}"
ENDPOINTS = (
    Endpoint("GET", "/api/v1/nodes", "Search nodes", list_nodes, NodePage, query=NodeQuery),
    Endpoint("GET", _ID, "One node, its decision and history", show_node, NodeDetail),
    Endpoint("PATCH", _ID, "Ring, pin, hold", change_node, NodeView, role=Role.OPERATOR, body=NodePatch),
    Endpoint("DELETE", _ID, "Revoke a node", revoke_node, None, role=Role.OPERATOR, status=204),
)
