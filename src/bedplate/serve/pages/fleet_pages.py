"""The pages about the fleet: the front page, roll-outs, nodes, the log."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from bedplate.fleet.decision import decide
from bedplate.fleet.observing import Stage
from bedplate.fleet.values import Rollout, RolloutStatus
from bedplate.model.version import compare_versions
from bedplate.serve.pages import overview, stored, words
from bedplate.serve.pages.census import CensusTaker
from bedplate.serve.pages.frame import Frame, in_thread, service_of
from bedplate.serve.pages.overview import Wanted
from bedplate.serve.pages.picture import Picture, stacked
from bedplate.serve.pages.timeline import Timeline
from bedplate.serve.people import NotThere, Person
from bedplate.serve.service import Service

PER_PAGE = 50
_TIMELINES = 6


class FleetPages:
    """Pages for a person who may look."""

    def __init__(self, frame: Frame, census: CensusTaker) -> None:
        self.frame = frame
        self.census = census
        self.timelines: dict[str, Timeline] = {}
        self.reading = asyncio.Lock()

    async def front(self, request: Request, person: Person) -> Response:
        """What there is to know at a glance."""
        service = service_of(request)
        view, now = service.view, service.clock()
        known = await in_thread(partial(stored.rollouts, service, 20))
        cards = [overview.card(view, _current(service, one), created, now) for one, created in known]
        census = await self.census.take(view, now)
        return self.frame.render(
            request,
            person,
            "overview.html",
            totals=census,
            on_their_way=len(view.moving),
            moving=[one for one in cards if one.moving],
            ended=[one for one in cards if not one.moving][:5],
            carried=overview.carried(view, census),
            rings=overview.rings_with_nodes(view, census),
            notes=await in_thread(partial(stored.notes, service, "", 8)),
        )

    async def rollouts(self, request: Request, person: Person) -> Response:
        """Every roll-out."""
        service = service_of(request)
        known = await in_thread(partial(stored.rollouts, service, 100))
        now = service.clock()
        cards = [overview.card(service.view, _current(service, one), created, now) for one, created in known]
        return self.frame.render(request, person, "rollouts.html", cards=cards)

    async def rollout(self, request: Request, person: Person) -> Response:
        """One roll-out: its picture in time, rings, stop rule, what happened, and the buttons."""
        service = service_of(request)
        return await self.rollout_page(request, person, request.path_params["id"], service)

    async def rollout_page(
        self, request: Request, person: Person, id: str, service: Service, refused: str = "", status: int = 200
    ) -> Response:
        """The page of one roll-out, with why a command was refused where one was."""
        view, now = service.view, service.clock()
        rollout, created = await in_thread(partial(stored.rollout, service, id))
        rollout = _current(service, rollout)
        notes = await in_thread(partial(stored.notes, service, id, 200))
        picture = await self._picture(service, rollout, created, notes, now)
        card = overview.card(view, rollout, created, now)
        shelved = view.shelf.get(rollout.release.track, rollout.release.version)
        return self.frame.render(
            request,
            person,
            "rollout.html",
            status,
            card=card,
            rollout=rollout,
            picture=picture,
            notes=notes,
            lost=overview.lost(await self.census.take(view, now), rollout),
            release=shelved.release if shelved is not None else None,
            ways_back=_ways_back(service, rollout),
            latest=_is_latest(service, rollout),
            refused=refused,
        )

    async def _picture(
        self, service: Service, rollout: Rollout, created: float, notes: list[dict[str, Any]], now: float
    ) -> Picture:
        async with self.reading:
            timeline = self.timelines.pop(rollout.id, None) or Timeline(created)
            self.timelines[rollout.id] = timeline
            while len(self.timelines) > _TIMELINES:
                del self.timelines[next(iter(self.timelines))]
            track, version = rollout.release.track, rollout.release.version
            while True:
                rows = await in_thread(partial(stored.changes, service, version, created, timeline.last))
                nodes = service.view.nodes
                timeline.take(c for c in rows if (known := nodes.get(c.node)) is None or known.track == track)
                if len(rows) < stored.READ_AT_ONCE:
                    break
        happened = [
            (note["at"], note["kind"], note["sentence"], note["short"]) for note in reversed(notes) if note["marked"]
        ]
        ended = rollout.status in (RolloutStatus.COMPLETE, RolloutStatus.ABORTED)
        until = max((one[0] for one in happened), default=now) if ended else now
        # What still happens after the end (nodes that were offline) is shown for a while.
        return stacked(timeline.moments(min(now, until + 600) if ended else now), happened)

    async def nodes(self, request: Request, person: Person) -> Response:
        """Nodes, searched."""
        view = service_of(request).view
        asked = request.query_params
        wanted = Wanted(*(asked.get(name, "")[:64] for name in ("q", "ring", "track", "stage", "version")))
        found = await overview.search(view, wanted)
        census = await self.census.take(view, service_of(request).clock())
        page = max(1, int(asked.get("page", "1")[:6]) if asked.get("page", "1").isdecimal() else 1)
        pages = max(1, -(-found.total // PER_PAGE))
        page = min(page, pages)
        return self.frame.render(
            request,
            person,
            "nodes.html",
            wanted=wanted,
            found=await found.part((page - 1) * PER_PAGE, page * PER_PAGE),
            total=found.total,
            known=len(view.nodes),
            page=page,
            pages=pages,
            rings=[ring.name for ring in view.policy.rings],
            tracks=census.tracks,
            stages=[(stage.value, words.STAGE_WORDS[stage.value]) for stage in Stage],
            link=partial(_search_link, wanted),
        )

    async def node(self, request: Request, person: Person) -> Response:
        """One node: what it would be told now, and its history."""
        service = service_of(request)
        view = service.view
        node = view.nodes.get(request.path_params["id"])
        if node is None:
            raise NotThere("no such node", where=request.path_params["id"][:64], remedy="search for it")
        rollout = view.rollout_of(node)
        fleet = view.fleet(node.track, rollout.release.version if rollout else "")
        decision = decide(node.as_node(), rollout, fleet, service.clock())
        history = await in_thread(partial(stored.history, service, node.id))
        written = [one for one in reversed(view.events) if one.node == node.id]
        return self.frame.render(
            request,
            person,
            "node.html",
            node=node,
            rollout=rollout,
            decision=decision,
            history=[*written, *history],
        )

    async def log(self, request: Request, person: Person) -> Response:
        """What people and the service did."""
        notes = await in_thread(partial(stored.notes, service_of(request), "", 200))
        return self.frame.render(request, person, "log.html", notes=notes)


def _current(service: Service, rollout: Rollout) -> Rollout:
    known = service.view.rollouts.get((rollout.channel, rollout.release.track))
    return known if known is not None and known.id == rollout.id else rollout


def _is_latest(service: Service, rollout: Rollout) -> bool:
    known = service.view.rollouts.get((rollout.channel, rollout.release.track))
    return known is not None and known.id == rollout.id


def _ways_back(service: Service, rollout: Rollout) -> list[str]:
    """Releases of the channel a roll-back can lead to: what it carried before first, none that was withdrawn."""
    track, version = rollout.release.track, rollout.release.version
    channel = service.view.shelf.channels.get(rollout.channel)
    carried = list(channel.versions(track)) if channel is not None else []
    held = [one for one in reversed(carried) if one != version and service.view.shelf.get(track, one) is not None]
    base = rollout.base.version if rollout.base is not None else ""
    # A version above the bad one (made anew from an older build) is what nodes take that refuse to go down.
    held.sort(key=lambda one: (one != base, compare_versions(one, version) < 0))
    return held[:10]


def _search_link(wanted: Wanted, page: int) -> str:
    values = {
        "q": wanted.text,
        "ring": wanted.ring,
        "track": wanted.track,
        "stage": wanted.stage,
        "version": wanted.version,
        "page": page if page > 1 else "",
    }
    query = urlencode({name: value for name, value in values.items() if value})
    return f"/nodes?{query}" if query else "/nodes"
