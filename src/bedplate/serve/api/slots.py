"""Reboot slots over the API: who holds one, and taking one away from a node that will not give it back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from bedplate.serve import slots
from bedplate.serve.api.endpoint import Call, Endpoint, Model
from bedplate.serve.people import Role


class SlotView(Model):
    """A slot that is held. ``client`` is what the node calls itself; ``overdue``: it should have been back by now."""

    node: str
    ring: str
    client: str
    since: float
    until: float
    overdue: bool


class FreeOrder(Model):
    """Why a slot is taken away."""

    why: Annotated[str, Field(max_length=300)] = ""


async def list_slots(call: Call) -> Any:
    """Every slot that is held, the oldest first."""

    def read() -> list[SlotView]:
        with call.service.database.reading() as connection:
            rows = slots.held(connection).values()
        now = call.service.clock()
        found = [
            SlotView(node=r.node, ring=r.ring, client=r.client, since=r.since, until=r.until, overdue=now >= r.until)
            for r in rows
        ]
        return sorted(found, key=lambda one: (one.since, one.node))

    return [one.model_dump() for one in await call.reading(read)]


async def free_slot(call: Call) -> Any:
    """Take a slot away: the node was lost, or made anew."""
    node, now = call.path["node"], call.service.clock()
    database, actor, why = call.service.database, call.person.name, call.body.why
    await call.in_thread(lambda: slots.free(database, node, actor=actor, why=why, now=now))


ENDPOINTS = (
    Endpoint("GET", "/api/v1/slots", "Reboot slots that are held", list_slots, list[SlotView]),
    Endpoint(
        "POST",
        "/api/v1/slots/{node}/free",
        "Free a reboot slot",
        free_slot,
        None,
        role=Role.OPERATOR,
        body=FreeOrder,
        status=204,
    ),
)
