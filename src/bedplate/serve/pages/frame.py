"""The frame of every page: templates, headers, login, live news, our own files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from bedplate.model.errors import BadInput, BedplateError
from bedplate.serve.database import DatabaseGone
from bedplate.serve.pages import session, words
from bedplate.serve.people import Conflict, NotThere, Person, Role
from bedplate.serve.service import Service

MAX_WATCHERS = 500
# How often a page hears from us when nothing happens, so that a broken connection shows (seconds).
_HEARTBEAT = 15.0
# Pages are not told of news more often than this (seconds).
_CALM = 2.0

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

Page = Callable[[Request, Person], Awaitable[Response]]


class Frame:
    """Templates, our own files, who looks, and news: what does not depend on which page is shown."""

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
            url=path_part,
        )
        self.watchers = 0

    # what every page goes through

    async def page(self, page: Page, request: Request) -> Response:
        """One page for a person; for nobody, the way to log in."""
        try:
            person = await session.who(request)
            if person is None:
                where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                query = f"?{urlencode({'to': where})}" if where != "/" else ""
                return RedirectResponse(f"/login{query}", 303, HEADERS)
            return await page(request, person)
        except BedplateError as error:
            return self.problem(request, error)

    def render(self, request: Request, person: Person | None, name: str, status: int = 200, **values: Any) -> Response:
        """A page from a template."""
        service = service_of(request)
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
        return Response(text, status, HEADERS, media_type="text/html")

    def problem(self, request: Request, error: BedplateError, person: Person | None = None) -> Response:
        """A page that says what went wrong."""
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
            return self.problem(request, error)
        to = _local(fields.get("to", "/"))
        if person is None:
            wrong = "This token is not one, has expired or was revoked."
            return self.render(request, None, "login.html", 403, wrong=wrong, to=to)
        response = RedirectResponse(to, 303, HEADERS)
        session.begin(response, request, secret)
        return response

    async def logout(self, request: Request) -> Response:
        """Forget who looked."""
        response = RedirectResponse("/login", 303, HEADERS)
        try:
            if session.from_our_page(request, await session.form(request)):
                session.end(response)
        except BedplateError as error:
            return self.problem(request, error)
        return response

    # news

    async def live(self, request: Request) -> Response:
        """Server-sent events: one line whenever something of the fleet changed."""
        try:
            person = await session.who(request)
        except BedplateError:
            person = None
        if person is None:
            return Response(status_code=403, headers=HEADERS)
        if self.watchers >= MAX_WATCHERS:
            return Response(status_code=503, headers={**HEADERS, "retry-after": "30"})
        return StreamingResponse(self._news(service_of(request)), 200, HEADERS, media_type="text/event-stream")

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
            return Response("nothing of that name\n", 404, HEADERS, media_type="text/plain")
        body, _, kind = found
        headers = {**HEADERS, "cache-control": "public, max-age=31536000, immutable"}
        return Response(body, 200, headers, media_type=kind)


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service


async def in_thread(work: Callable[[], Any]) -> Any:
    """The result of work that blocks."""
    return await asyncio.to_thread(work)


def path_part(text: object) -> str:
    """Any text as one part of a path."""
    return quote(str(text), safe="")


def _local(to: str) -> str:
    """``to`` when it is a path of this service, else the front page: a link cannot lead elsewhere through us."""
    clean = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() and len(to) < 500
    return to if clean else "/"


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
