"""The routes of the pages: look up, render, answer. Every page is whole without scripts; a script keeps it fresh."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from bedplate.fleet.decision import decide
from bedplate.fleet.observing import Stage
from bedplate.fleet.values import Rollout, RolloutStatus
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.release import ArtefactKind
from bedplate.model.version import compare_versions
from bedplate.release.diff import diff_releases
from bedplate.serve.api import rollouts as api
from bedplate.serve.api.endpoint import Call, Handler, Nothing
from bedplate.serve.catalog import Shelved, read_bounded
from bedplate.serve.database import DatabaseGone
from bedplate.serve.models import AuditRow, NodeEvent, RolloutRow
from bedplate.serve.pages import overview, session, words
from bedplate.serve.pages.census import CensusTaker
from bedplate.serve.pages.overview import Wanted
from bedplate.serve.pages.picture import Picture, stacked
from bedplate.serve.pages.timeline import Change, Timeline
from bedplate.serve.people import Conflict, NotThere, Person, Role
from bedplate.serve.service import Service
from bedplate.serve.state import load_rollout
from bedplate.serve.view import FleetView

PER_PAGE = 50
MAX_WATCHERS = 500
# How often a page hears from us when nothing happens, so that a broken connection shows (seconds).
_HEARTBEAT = 15.0
# Pages are not told of news more often than this (seconds).
_CALM = 2.0
_TIMELINES = 6
_READ_AT_ONCE = 20_000
_MAX_FACTS = 8 << 20

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

Page = Callable[["_Site", Request, Person], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """The pages' routes, for :func:`bedplate.serve.app.build`."""
    site = _Site()
    pages: list[tuple[str, Page]] = [
        ("/", _Site.front),
        ("/rollouts", _Site.rollouts),
        ("/rollouts/{id}", _Site.rollout),
        ("/nodes", _Site.nodes),
        ("/nodes/{id}", _Site.node),
        ("/releases", _Site.releases),
        ("/releases/{track}/{version}", _Site.release),
        ("/diff/{track}", _Site.diff),
        ("/log", _Site.log),
    ]
    return [
        Route("/login", site.login_page, methods=["GET"]),
        Route("/login", site.login, methods=["POST"]),
        Route("/logout", site.logout, methods=["POST"]),
        Route("/live", site.live, methods=["GET"]),
        Route("/static/{name}", site.static, methods=["GET"]),
        Route("/rollouts/{id}/{command}", site.command, methods=["POST"]),
        *(Route(path, partial(site.page, page), methods=["GET"]) for path, page in pages),
    ]


class _Site:
    def __init__(self) -> None:
        self.templates = Environment(
            loader=PackageLoader("bedplate.serve"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.assets = _assets()
        self.templates.globals.update(
            words=words, stage_words=words.STAGE_WORDS, status_words=words.STATUS_WORDS, asset=self._asset, quote=quote
        )
        self.templates.filters.update(
            count=words.count,
            percent=words.percent,
            size=words.size,
            duration=words.duration,
            coarse=words.coarse,
            url=_path_part,
        )
        self.watchers = 0
        self.timelines: dict[str, Timeline] = {}
        self.reading = asyncio.Lock()
        self.census = CensusTaker()

    # what every page goes through

    async def page(self, page: Page, request: Request) -> Response:
        """One page for a person; for nobody, the way to log in."""
        try:
            person = await session.who(request)
            if person is None:
                where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                query = f"?{urlencode({'to': where})}" if where != "/" else ""
                return RedirectResponse(f"/login{query}", 303, _HEADERS)
            return await page(self, request, person)
        except BedplateError as error:
            return self._problem(request, error)

    def render(self, request: Request, person: Person | None, name: str, status: int = 200, **values: Any) -> Response:
        """A page from a template."""
        service = _service(request)
        text = self.templates.get_template(name).render(
            person=person,
            form_key=session.form_key(request),
            now=service.clock(),
            path=request.url.path,
            doubt=service.view.in_doubt or service.database_error,
            shelf_error=service.shelf_error,
            may_steer=session.may(person, Role.OPERATOR),
            may_manage=session.may(person, Role.MANAGER),
            **values,
        )
        return Response(text, status, _HEADERS, media_type="text/html")

    def _problem(self, request: Request, error: BedplateError, person: Person | None = None) -> Response:
        statuses = ((NotThere, 404), (Conflict, 409), (BadInput, 400), (DatabaseGone, 503))
        status = next((number for kind, number in statuses if isinstance(error, kind)), 500)
        return self.render(request, person, "problem.html", status, error=error, number=status)

    def _asset(self, name: str) -> str:
        return f"/static/{name}?{self.assets[name][1]}"

    # who looks

    async def login_page(self, request: Request) -> Response:
        """The form to log in with."""
        return self.render(request, None, "login.html", wrong="", to=_local(request.query_params.get("to", "/")))

    async def login(self, request: Request) -> Response:
        """Take a token and keep it with the browser."""
        try:
            fields = await session.form(request)
            secret = fields.get("token", "").strip()
            person = await session.look_up(request, secret)
        except BedplateError as error:
            return self._problem(request, error)
        to = _local(fields.get("to", "/"))
        if person is None:
            wrong = "This token is not one, has expired or was revoked."
            return self.render(request, None, "login.html", 403, wrong=wrong, to=to)
        response = RedirectResponse(to, 303, _HEADERS)
        session.begin(response, request, secret)
        return response

    async def logout(self, request: Request) -> Response:
        """Forget who looked."""
        response = RedirectResponse("/login", 303, _HEADERS)
        try:
            if session.from_our_page(request, await session.form(request)):
                session.end(response)
        except BedplateError as error:
            return self._problem(request, error)
        return response

    # news

    async def live(self, request: Request) -> Response:
        """Server-sent events: one line whenever something of the fleet changed."""
        try:
            person = await session.who(request)
        except BedplateError:
            person = None
        if person is None:
            return Response(status_code=403, headers=_HEADERS)
        if self.watchers >= MAX_WATCHERS:
            return Response(status_code=503, headers={**_HEADERS, "retry-after": "30"})
        return StreamingResponse(self._news(_service(request)), 200, _HEADERS, media_type="text/event-stream")

    async def _news(self, service: Service) -> AsyncIterator[str]:
        self.watchers += 1
        try:
            yield "retry: 3000\n\n"
            while True:
                waiting = service.changed
                try:
                    await asyncio.wait_for(waiting.wait(), _HEARTBEAT)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                yield "data: changed\n\n"
                await asyncio.sleep(_CALM)
        finally:
            self.watchers -= 1

    async def static(self, request: Request) -> Response:
        """One of our own files."""
        found = self.assets.get(request.path_params["name"])
        if found is None:
            return Response("nothing of that name\n", 404, _HEADERS, media_type="text/plain")
        body, _, kind = found
        headers = {**_HEADERS, "cache-control": "public, max-age=31536000, immutable"}
        return Response(body, 200, headers, media_type=kind)

    # pages

    async def front(self, request: Request, person: Person) -> Response:
        """What there is to know at a glance."""
        service = _service(request)
        view, now = service.view, service.clock()
        known = await _in_thread(partial(_stored_rollouts, service, 20))
        cards = [overview.card(view, _current(service, one), created, now) for one, created in known]
        census = await self.census.take(view, now)
        return self.render(
            request,
            person,
            "overview.html",
            totals=census,
            on_their_way=len(view.moving),
            moving=[one for one in cards if one.moving],
            ended=[one for one in cards if not one.moving][:5],
            carried=overview.carried(view, census),
            rings=overview.rings_with_nodes(view, census),
            notes=await _in_thread(partial(_audit, service, "", 8)),
        )

    async def rollouts(self, request: Request, person: Person) -> Response:
        """Every roll-out."""
        service = _service(request)
        known = await _in_thread(partial(_stored_rollouts, service, 100))
        now = service.clock()
        cards = [overview.card(service.view, _current(service, one), created, now) for one, created in known]
        return self.render(request, person, "rollouts.html", cards=cards)

    async def rollout(self, request: Request, person: Person) -> Response:
        """One roll-out: its picture in time, rings, stop rule, what happened, and the buttons."""
        service = _service(request)
        return await self._rollout_page(request, person, request.path_params["id"], service)

    async def _rollout_page(
        self, request: Request, person: Person, id: str, service: Service, refused: str = "", status: int = 200
    ) -> Response:
        view, now = service.view, service.clock()
        rollout, created = await _in_thread(partial(_stored_rollout, service, id))
        rollout = _current(service, rollout)
        notes = await _in_thread(partial(_audit, service, id, 200))
        picture = await self._picture(service, rollout, created, notes, now)
        card = overview.card(view, rollout, created, now)
        shelved = view.shelf.get(rollout.release.track, rollout.release.version)
        return self.render(
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
                rows = await _in_thread(partial(_changes, service, version, created, timeline.last))
                nodes = service.view.nodes
                timeline.take(c for c in rows if (known := nodes.get(c.node)) is None or known.track == track)
                if len(rows) < _READ_AT_ONCE:
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
        view = _service(request).view
        asked = request.query_params
        wanted = Wanted(*(asked.get(name, "")[:64] for name in ("q", "ring", "track", "stage", "version")))
        found = await overview.search(view, wanted)
        census = await self.census.take(view, _service(request).clock())
        page = max(1, int(asked.get("page", "1")[:6]) if asked.get("page", "1").isdecimal() else 1)
        pages = max(1, -(-len(found) // PER_PAGE))
        page = min(page, pages)
        return self.render(
            request,
            person,
            "nodes.html",
            wanted=wanted,
            found=found[(page - 1) * PER_PAGE : page * PER_PAGE],
            total=len(found),
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
        service = _service(request)
        view = service.view
        node = view.nodes.get(request.path_params["id"])
        if node is None:
            raise NotThere("no such node", where=request.path_params["id"][:64], remedy="search for it")
        rollout = view.rollout_of(node)
        fleet = view.fleet(node.track, rollout.release.version if rollout else "")
        decision = decide(node.as_node(), rollout, fleet, service.clock())
        history = await _in_thread(partial(_history, service, node.id))
        written = [one for one in reversed(view.events) if one.node == node.id]
        return self.render(
            request,
            person,
            "node.html",
            node=node,
            rollout=rollout,
            decision=decision,
            history=[*written, *history],
        )

    async def releases(self, request: Request, person: Person) -> Response:
        """Every release of the store."""
        view = _service(request).view
        return self.render(request, person, "releases.html", releases=await self._releases(request, view))

    async def _releases(self, request: Request, view: FleetView) -> dict[str, list[overview.ReleaseRow]]:
        return overview.releases(view, await self.census.take(view, _service(request).clock()))

    async def release(self, request: Request, person: Person) -> Response:
        """One release."""
        view = _service(request).view
        track, version = request.path_params["track"], request.path_params["version"]
        rows = (await self._releases(request, view)).get(track, [])
        row = next((one for one in rows if one.release.version == version), None)
        if row is None:
            raise NotThere(f"the store holds no release {version[:40]} of track {track[:40]}")
        return self.render(request, person, "release.html", row=row, release=row.release)

    async def diff(self, request: Request, person: Person) -> Response:
        """Two releases side by side."""
        view = _service(request).view
        track = request.path_params["track"]
        versions = [row.release.version for row in (await self._releases(request, view)).get(track, [])]
        if not versions:
            raise NotThere(f"the store holds no release of track {track[:40]}")
        new = request.query_params.get("new") or versions[0]
        older = versions.index(new) + 1 if new in versions else 0
        old = request.query_params.get("old") or versions[min(older, len(versions) - 1)]
        before, after = view.shelf.get(track, old), view.shelf.get(track, new)
        if before is None or after is None:
            raise NotThere(f"the store does not hold both {old[:40]} and {new[:40]}", where=track)
        old_facts, new_facts = await _in_thread(lambda: (_facts(before), _facts(after)))
        return self.render(
            request,
            person,
            "diff.html",
            track=track,
            versions=versions,
            old=before.release,
            new=after.release,
            diff=diff_releases(before.release, old_facts or {}, after.release, new_facts or {}),
            facts_known=old_facts is not None and new_facts is not None,
        )

    async def log(self, request: Request, person: Person) -> Response:
        """What people and the service did."""
        notes = await _in_thread(partial(_audit, _service(request), "", 200))
        return self.render(request, person, "log.html", notes=notes)

    # the buttons

    async def command(self, request: Request) -> Response:
        """Pause, go on, abort, roll back: the API's own commands, sent by a form."""
        try:
            person = await session.who(request)
            if person is None:
                return RedirectResponse("/login", 303, _HEADERS)
            fields = await session.form(request)
            if not session.from_our_page(request, fields):
                raise BadInput("this form was not sent from these pages", remedy="open the page again and press there")
            id, name = request.path_params["id"], request.path_params["command"]
            known = _COMMANDS.get(name)
            if known is None:
                raise NotThere("no such command")
            handler, least = known
            if not person.role.covers(least):
                raise BadInput(f"this needs the role {least.value}; yours is {person.role.value}")
            revision = fields.get("revision", "")
            order: dict[str, Any] = {
                "revision": int(revision) if revision.isdecimal() and len(revision) < 10 else -1,
                "why": " ".join(fields.get("why", "").split())[:300],
            }
            body = _body(name, order, fields)
            service = _service(request)
            try:
                answer = await handler(Call(service, request.app.state.people, person, {"id": id}, Nothing(), body))
            except (Conflict, BadInput) as error:
                words_ = f"{error.message[:1].upper()}{error.message[1:]}. {error.remedy}".strip()
                return await self._rollout_page(request, person, id, service, refused=words_, status=409)
            return RedirectResponse(f"/rollouts/{_path_part(answer.id)}", 303, _HEADERS)
        except BedplateError as error:
            return self._problem(request, error)


_COMMANDS: dict[str, tuple[Handler, Role]] = {
    "pause": (api.pause_rollout, Role.OPERATOR),
    "resume": (api.resume_rollout, Role.OPERATOR),
    "abort": (api.abort_rollout, Role.OPERATOR),
    "rollback": (api.roll_back, Role.MANAGER),
}


def _body(name: str, order: dict[str, Any], fields: dict[str, str]) -> api.Order:
    try:
        if name == "rollback":
            return api.BackOrder(**order, version=fields.get("version", ""))
        return api.Order(**order)
    except ValueError as error:
        raise BadInput("the form is not as it must be", remedy="open the page again and press there") from error


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def _current(service: Service, rollout: Rollout) -> Rollout:
    known = service.view.rollouts.get((rollout.channel, rollout.release.track))
    return known if known is not None and known.id == rollout.id else rollout


def _is_latest(service: Service, rollout: Rollout) -> bool:
    known = service.view.rollouts.get((rollout.channel, rollout.release.track))
    return known is not None and known.id == rollout.id


def _stored_rollouts(service: Service, limit: int) -> list[tuple[Rollout, float]]:
    newest = select(RolloutRow.state, RolloutRow.created).order_by(RolloutRow.number.desc()).limit(limit)
    with service.database.reading() as connection:
        return [(load_rollout(row.state), row.created) for row in connection.execute(newest)]


def _stored_rollout(service: Service, id: str) -> tuple[Rollout, float]:
    with service.database.reading() as connection:
        row = connection.execute(select(RolloutRow.state, RolloutRow.created).where(RolloutRow.id == id)).first()
    if row is None:
        raise NotThere("no such roll-out", where=id[:64])
    return load_rollout(row.state), row.created


def _changes(service: Service, version: str, since: float, after: int) -> list[Change]:
    wanted = (
        select(NodeEvent.id, NodeEvent.node, NodeEvent.at, NodeEvent.stage)
        .where(NodeEvent.id > after, NodeEvent.version == version, NodeEvent.at >= since - 1)
        .order_by(NodeEvent.id)
        .limit(_READ_AT_ONCE)
    )
    with service.database.reading() as connection:
        return [Change(row.id, row.node, row.at, row.stage) for row in connection.execute(wanted)]


def _history(service: Service, node: str) -> list[Any]:
    newest = (
        select(NodeEvent.at, NodeEvent.stage, NodeEvent.version, NodeEvent.sentence)
        .where(NodeEvent.node == node)
        .order_by(NodeEvent.id.desc())
        .limit(200)
    )
    with service.database.reading() as connection:
        return list(connection.execute(newest).all())


_MARKED = {
    "rollout.proven": "proven",
    "rollout.ring-begins": "ring",
    "rollout.stopped": "stopped",
    "rollout.complete": "complete",
    "rollout.pause": "paused",
    "rollout.resume": "resumed",
    "rollout.abort": "stopped",
}
_SHORT = {
    "rollout.proven": "first healthy",
    "rollout.stopped": "stopped",
    "rollout.complete": "complete",
    "rollout.pause": "paused",
    "rollout.resume": "on",
    "rollout.abort": "aborted",
}
_DID = {
    "rollout.start": "began the roll-out",
    "rollout.rollback": "rolled back",
    "rollout.pause": "paused it",
    "rollout.resume": "went on",
    "rollout.abort": "aborted it",
    "node.enrol": "enrolled a node",
    "token.create": "made a token",
    "token.revoke": "revoked a token",
    "policy.set": "set the policy",
}


def _audit(service: Service, subject: str, limit: int) -> list[dict[str, Any]]:
    """Lines of the audit log, newest first, each with a sentence."""
    lines = select(AuditRow.at, AuditRow.actor, AuditRow.action, AuditRow.subject, AuditRow.detail)
    if subject:
        lines = lines.where(AuditRow.subject == subject)
    with service.database.reading() as connection:
        rows = connection.execute(lines.order_by(AuditRow.number.desc()).limit(limit)).all()
    return [_note(row) for row in rows]


def _note(row: Any) -> dict[str, Any]:
    detail = row.detail if isinstance(row.detail, dict) else {}
    said = str(detail.get("sentence", ""))
    did = said or _DID.get(row.action, row.action.replace(".", ": ").replace("-", " "))
    why = str(detail.get("why", ""))
    version = str(detail.get("version", "") or detail.get("to", ""))
    return {
        "at": row.at,
        "actor": "" if row.actor == "service" else row.actor,
        "action": row.action,
        "subject": row.subject,
        "sentence": did,
        "why": why,
        "version": version,
        "kind": _MARKED.get(row.action, ""),
        "marked": row.action in _MARKED,
        "short": str(detail.get("ring", "")) or _SHORT.get(row.action, ""),
        "rollout": row.subject if row.action.startswith("rollout.") else "",
    }


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


def _facts(shelved: Shelved) -> dict[str, Any] | None:
    """The facts of a release (its packages among them), None when they are not at hand here or are not its own."""
    found = next((one for one in shelved.release.artefacts if one.kind == ArtefactKind.FACTS), None)
    file = shelved.files.get(found.name) if found is not None else None
    if found is None or file is None or not file.path or found.compression != "none":
        return None
    try:
        content = read_bounded(Path(file.path), _MAX_FACTS)
        facts = json.loads(content)
    except (BedplateError, ValueError, RecursionError):
        return None
    own = hashlib.sha256(content).hexdigest() == file.sha256 and isinstance(facts, dict)
    return facts if own else None


def _local(to: str) -> str:
    """``to`` when it is a path of this service, else the front page: a link cannot lead elsewhere through us."""
    clean = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() and len(to) < 500
    return to if clean else "/"


def _path_part(text: object) -> str:
    return quote(str(text), safe="")


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


def _assets() -> dict[str, tuple[bytes, str, str]]:
    """Our own files: name -> content, digest for the address, content type."""
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    found = {}
    for entry in (files("bedplate.serve") / "static").iterdir():
        kind = kinds.get(Path(entry.name).suffix)
        if kind is not None:
            content = entry.read_bytes()
            found[entry.name] = (content, hashlib.sha256(content).hexdigest()[:12], kind)
    return found
