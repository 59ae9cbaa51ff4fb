"""Roll-outs over the API: begin, look, pause, go on, abort, roll back. A command names the revision it was made for."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import func, insert, select, update

from bedplate.fleet import commands
from bedplate.fleet.commands import Command
from bedplate.fleet.throttle import share
from bedplate.fleet.values import Pace, ReleaseFacts, Rollout, RolloutStatus
from bedplate.model.errors import BadInput
from bedplate.model.version import compare_versions
from bedplate.serve import audit
from bedplate.serve.api.endpoint import Call, Endpoint, Model
from bedplate.serve.models import RolloutRow
from bedplate.serve.people import Conflict, NotThere, Role
from bedplate.serve.service import Service
from bedplate.serve.state import dump_rollout, load_rollout, store_rollout

Text = Annotated[str, Field(min_length=1, max_length=64)]
Why = Annotated[str, Field(max_length=300)]


class RingView(Model):
    """One ring of a roll-out: its share in [0, 1] (None: its turn has not come), and its nodes by where they stand;
    ``slots`` hold a reboot slot without being on their way to the release."""

    name: str
    share: float | None
    nodes: int
    offered: int
    downloading: int
    rebooting: int
    healthy: int
    fell_back: int
    timed_out: int
    slots: int


class RolloutView(Model):
    """A roll-out for people."""

    id: str
    channel: str
    track: str
    version: str
    base: str | None
    pace: str
    status: str
    why: str
    revision: int
    first_node: str
    proven: bool
    created: float
    rings: list[RingView]


class Begin(Model):
    """A release to roll out in a channel. ``urgent``: every ring at once; the stop rule and windows still hold."""

    channel: Text
    track: Text
    version: Text
    pace: Pace = Pace.GRADUAL


class Order(Model):
    """A command: the revision its sender saw, and why."""

    revision: int = Field(ge=0, le=2**31 - 1)
    why: Why = ""


class BackOrder(Order):
    """A roll-back: to which signed release."""

    version: Text


def view(service: Service, rollout: Rollout, created: float = 0.0) -> RolloutView:
    """A roll-out with the counters of now."""
    now = service.clock()
    fleet = service.view.fleet(rollout.release.track, rollout.release.version)
    rings = []
    for ring in fleet.policy.rings_of(rollout.channel):
        begun = ring.name in rollout.rings and rollout.rings[ring.name].active is not None
        counts = asdict(fleet.ring_counts(ring.name))
        rings.append(
            RingView(name=ring.name, share=share(rollout, fleet.policy, ring, now) if begun else None, **counts)
        )
    return RolloutView(
        id=rollout.id,
        channel=rollout.channel,
        track=rollout.release.track,
        version=rollout.release.version,
        base=rollout.base.version if rollout.base else None,
        pace=rollout.pace.value,
        status=rollout.status.value,
        why=rollout.why,
        revision=rollout.revision,
        first_node=rollout.first_node,
        proven=rollout.proven,
        created=created,
        rings=rings,
    )


async def list_rollouts(call: Call) -> Any:
    """Every roll-out, newest first (the last 200)."""

    def read() -> list[tuple[Rollout, float]]:
        with call.service.database.reading() as connection:
            newest = select(RolloutRow.state, RolloutRow.created).order_by(RolloutRow.number.desc()).limit(200)
            return [(load_rollout(row.state), row.created) for row in connection.execute(newest)]

    rows = await call.reading(read)
    return [view(call.service, _current(call.service, one), created).model_dump(mode="json") for one, created in rows]


async def show_rollout(call: Call) -> Any:
    """One roll-out with its counters."""
    rollout, created = await call.reading(lambda: _find(call.service, call.path["id"]))
    return view(call.service, _current(call.service, rollout), created)


async def begin_rollout(call: Call) -> Any:
    """Begin to roll a release out. The roll-out before it in the channel ends."""
    wanted: Begin = call.body
    service = call.service
    if not service.view.policy.rings_of(wanted.channel):
        raise BadInput(f"no ring of the policy follows channel {wanted.channel!r}", where="channel")
    facts = _release(service, wanted.track, wanted.version, wanted.channel)

    def make(id: str, previous: Rollout | None, now: float) -> Rollout:
        stones = _stones(service, wanted.channel, facts)
        return commands.begin(id, wanted.channel, facts, now, previous=previous, stones=stones, pace=wanted.pace)

    detail = {"channel": wanted.channel, "track": wanted.track, "version": wanted.version, "pace": wanted.pace.value}
    return await _insert(call, wanted.channel, wanted.track, make, "rollout.start", detail)


async def pause_rollout(call: Call) -> Any:
    """Offer the release to nobody new until somebody goes on."""
    return await _command(call, Command.PAUSE)


async def resume_rollout(call: Call) -> Any:
    """Go on with a roll-out that is paused or stopped. Failures seen so far are excused."""
    return await _command(call, Command.RESUME)


async def abort_rollout(call: Call) -> Any:
    """End a roll-out: the release is offered to nobody any more."""
    return await _command(call, Command.ABORT)


async def roll_back(call: Call) -> Any:
    """Take the nodes that run the release to another signed one, all rings at once."""
    order: BackOrder = call.body
    service = call.service
    rollout, _ = await call.reading(lambda: _find(service, call.path["id"]))
    facts = _release(service, rollout.release.track, order.version, rollout.channel)
    if order.revision != rollout.revision:
        raise Conflict("the roll-out has changed since you looked", where=rollout.id, remedy="look again, then decide")

    def make(id: str, previous: Rollout | None, now: float) -> Rollout:
        if previous is None or previous.id != rollout.id:
            raise Conflict("another roll-out has begun in this channel meanwhile", where=rollout.id)
        return commands.roll_back(id, previous, facts, now)

    detail = {"from": rollout.release.version, "to": order.version, "why": order.why}
    return await _insert(call, rollout.channel, rollout.release.track, make, "rollout.rollback", detail)


def _current(service: Service, rollout: Rollout) -> Rollout:
    known = service.view.rollouts.get((rollout.channel, rollout.release.track))
    return known if known is not None and known.id == rollout.id else rollout


def _find(service: Service, id: str) -> tuple[Rollout, float]:
    with service.database.reading() as connection:
        row = connection.execute(select(RolloutRow.state, RolloutRow.created).where(RolloutRow.id == id)).first()
    if row is None:
        raise NotThere("no such roll-out", where=id[:64])
    return load_rollout(row.state), row.created


def _release(service: Service, track: str, version: str, channel: str) -> ReleaseFacts:
    shelf = service.view.shelf
    facts = shelf.facts(track, version, channel)
    if facts is None:
        raise NotThere(f"the store holds no release {version} of track {track}", remedy="publish it first")
    carried = shelf.channels.get(channel)
    if shelf.channels and (
        carried is None or all((p.track, p.version) != (track, version) for p in carried.publications)
    ):
        raise BadInput(
            f"{version} is not published in channel {channel}", remedy=f"bedplate release publish … --channel {channel}"
        )
    return facts


def _stones(service: Service, channel: str, release: ReleaseFacts) -> tuple[ReleaseFacts, ...]:
    """Older releases of the channel, which may lead to ``release`` past its floor."""
    carried = service.view.shelf.channels.get(channel)
    if carried is None or not release.floor:
        return ()
    found = (service.view.shelf.facts(release.track, v, channel) for v in carried.versions(release.track))
    return tuple(one for one in found if one is not None and compare_versions(one.version, release.version) < 0)


async def _command(call: Call, command: Command) -> Any:
    order: Order = call.body
    service = call.service
    rollout, created = await call.reading(lambda: _find(service, call.path["id"]))
    if rollout.revision != order.revision:
        raise Conflict(
            f"the roll-out has changed since you looked: it is {rollout.status.value} now",
            where=rollout.id,
            remedy="look at it again, then decide",
        )
    fleet = service.view.fleet(rollout.release.track, rollout.release.version)
    now = service.clock()
    after = commands.apply(rollout, command, fleet, now, revision=order.revision, why=order.why)

    def store() -> None:
        with service.database.changing() as (connection, change):
            if not store_rollout(connection, after, change, expected=order.revision):
                raise Conflict("somebody else changed the roll-out at the same moment", where=rollout.id)
            detail = {"why": order.why, "version": rollout.release.version, "was": rollout.status.value}
            audit.append(connection, now, call.person.name, f"rollout.{command.value}", rollout.id, detail)

    await call.in_thread(store)
    return view(service, _current(service, after), created)


async def _insert(
    call: Call,
    channel: str,
    track: str,
    make: Callable[[str, Rollout | None, float], Rollout],
    action: str,
    detail: dict[str, Any],
) -> Any:
    service = call.service
    now = service.clock()

    def store() -> Rollout:
        with service.database.changing() as (connection, change):
            newest = (
                select(RolloutRow.state)
                .where(RolloutRow.channel == channel, RolloutRow.track == track)
                .order_by(RolloutRow.number.desc())
                .limit(1)
            )
            row = connection.execute(newest).first()
            previous = load_rollout(row.state) if row is not None else None
            rollout = make(secrets.token_hex(6), previous, now)
            if previous is not None and previous.status in (
                RolloutStatus.RUNNING,
                RolloutStatus.PAUSED,
                RolloutStatus.STOPPED,
            ):
                state = dump_rollout(previous) | {
                    "status": RolloutStatus.ABORTED.value,
                    "why": f"followed by {rollout.release.version}",
                    "revision": previous.revision + 1,
                }
                connection.execute(
                    update(RolloutRow)
                    .where(RolloutRow.id == previous.id)
                    .values(status=state["status"], revision=state["revision"], state=state, change=change)
                )
            number = connection.execute(select(func.coalesce(func.max(RolloutRow.number), 0))).scalar_one() + 1
            connection.execute(
                insert(RolloutRow).values(
                    id=rollout.id,
                    number=number,
                    channel=channel,
                    track=track,
                    status=rollout.status.value,
                    revision=rollout.revision,
                    created=now,
                    state=dump_rollout(rollout),
                    change=change,
                )
            )
            audit.append(connection, now, call.person.name, action, rollout.id, detail)
        return rollout

    rollout = await call.in_thread(store)
    return view(service, _current(service, rollout), now)


_ID = "/api/v1/rollouts/{id}"
ENDPOINTS = (
    Endpoint("GET", "/api/v1/rollouts", "Roll-outs, newest first", list_rollouts, list[RolloutView]),
    Endpoint(
        "POST",
        "/api/v1/rollouts",
        "Begin a roll-out",
        begin_rollout,
        RolloutView,
        role=Role.MANAGER,
        body=Begin,
        status=201,
        problems=(404, 409),
    ),
    Endpoint("GET", _ID, "One roll-out", show_rollout, RolloutView),
    Endpoint(
        "POST", f"{_ID}/pause", "Pause", pause_rollout, RolloutView, role=Role.OPERATOR, body=Order, problems=(409,)
    ),
    Endpoint(
        "POST", f"{_ID}/resume", "Go on", resume_rollout, RolloutView, role=Role.OPERATOR, body=Order, problems=(409,)
    ),
    Endpoint(
        "POST", f"{_ID}/abort", "Abort", abort_rollout, RolloutView, role=Role.OPERATOR, body=Order, problems=(409,)
    ),
    Endpoint(
        "POST",
        f"{_ID}/rollback",
        "Roll back",
        roll_back,
        RolloutView,
        role=Role.MANAGER,
        body=BackOrder,
        status=201,
        problems=(409,),
    ),
)
