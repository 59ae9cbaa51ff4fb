"""FleetLock: reboot slots for Zincati and others who speak its protocol.

A client's base URL is ``…/v1/fleetlock/CREDENTIAL/``: the protocol has no proof of its own of who asks, so the node's
credential stands in the address, as in that of a poll. The group is the node's ring; a ring has as many slots as its
roll-outs may have nodes on their way (``at_once``), and both use one budget.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bedplate.fleet.decision import reboot_barrier
from bedplate.fleet.reboots import Refused
from bedplate.serve import slots
from bedplate.serve.database import DatabaseGone
from bedplate.serve.polls import Reply
from bedplate.serve.protocols.fleetlock import PRE_REBOOT, STEADY_STATE, Client, Kind, Refusal, parse_request
from bedplate.serve.service import Service
from bedplate.serve.view import NodeState

log = logging.getLogger("bedplate.serve")
PREFIX = "/v1/fleetlock/{credential}"


def routes() -> list[BaseRoute]:
    """The two endpoints. Every method comes here: the protocol has its own answer to a wrong one."""
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return [
        Route(PREFIX + PRE_REBOOT, partial(_answer, PRE_REBOOT), methods=methods),
        Route(PREFIX + STEADY_STATE, partial(_answer, STEADY_STATE), methods=methods),
    ]


async def _answer(endpoint: str, request: Request) -> Response:
    service: Service = request.app.state.service
    refusal = await _respond(endpoint, request, service)
    if refusal is None:
        return Response(status_code=200, headers={"cache-control": "no-store"})
    headers = {"cache-control": "no-store"}
    if refusal.status in (429, 503):
        headers["retry-after"] = "30"
    return Response(refusal.body(), refusal.status, headers, media_type="application/json")


async def _respond(endpoint: str, request: Request, service: Service) -> Refusal | None:
    """The refusal, or None when the client has what it asked for."""
    asked = parse_request(request.method, request.headers, await request.body())
    if isinstance(asked, Refusal):
        return asked
    now = service.clock()
    node = service.desk.known(request.path_params["credential"], now)
    if isinstance(node, Reply):
        return Refusal(Kind.UNKNOWN_CLIENT, node.body.decode().strip())
    if not service.desk.within_limits(node, now):
        return Refusal(Kind.OFTEN, "this node asks too often")
    try:
        if endpoint == PRE_REBOOT:
            return await _lock(service, node, asked, now)
        await asyncio.to_thread(slots.give_back, service.database, node.id, asked.id, now)
        await service.sync()
    except slots.OtherClient as error:
        sentence = f"the slot of this node was taken by {error.client!r}; who runs the fleet can free it"
        return Refusal(Kind.UNKNOWN_CLIENT, sentence)
    except DatabaseGone as error:
        log.warning("no reboot slot for %s: %s", node.id, error.message)
        return Refusal(Kind.UNAVAILABLE, "slots cannot be looked up now")
    return None


async def _lock(service: Service, node: NodeState, asked: Client, now: float) -> Refusal | None:
    view = service.view
    ring = view.policy.ring(asked.group)
    if ring is None:
        return Refusal(Kind.UNKNOWN_GROUP, f"there is no group {asked.group!r}: groups are the rings of the policy")
    if node.ring != ring.name:
        return Refusal(Kind.UNKNOWN_GROUP, f"this node belongs to {node.ring or 'no ring'!r}, not to {asked.group!r}")
    if node.id not in view.slots:
        # Who holds a slot already is down in the middle of its reboot: it is not asked to wait for a window.
        barrier = reboot_barrier(node.as_node(), ring, view.policy, now)
        if barrier:
            return Refusal(Kind.NOT_NOW, barrier)
    wish = slots.wish(view, node, asked.id, ring)
    answer = await asyncio.to_thread(slots.take, service.database, wish, now)
    await service.sync()
    return Refusal(Kind.FULL, answer.sentence) if isinstance(answer, Refused) else None
