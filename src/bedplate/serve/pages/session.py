"""Who looks: a person's token in a cookie that scripts cannot read, and forms that only our own pages can send."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from bedplate.model.errors import BadInput
from bedplate.serve.people import People, Person, Role
from bedplate.serve.service import Service

COOKIE = "bedplate"
LIFETIME = 12 * 3600
MAX_FIELDS = 20


async def who(request: Request) -> Person | None:
    """The person whose token the request carries, None when there is none that works.

    Raises:
        DatabaseGone: it cannot be looked up.
    """
    secret = request.cookies.get(COOKIE, "")
    if not secret:
        return None
    return await look_up(request, secret)


async def look_up(request: Request, secret: str) -> Person | None:
    """Whose token ``secret`` is."""
    people: People = request.app.state.people
    service: Service = request.app.state.service
    return await asyncio.to_thread(people.find, secret, service.clock())


def begin(response: Response, request: Request, secret: str) -> None:
    """Keep the token with the browser. It is sent to this origin alone, and never from another site's page."""
    response.set_cookie(
        COOKIE,
        secret,
        max_age=LIFETIME,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def end(response: Response) -> None:
    """Forget the token."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def form_key(request: Request) -> str:
    """What a form must carry back: only a page that was rendered for this token knows it."""
    secret = request.cookies.get(COOKIE, "")
    return hmac.new(secret.encode("utf-8", "surrogatepass"), b"bedplate form", hashlib.sha256).hexdigest()[:40]


async def form(request: Request) -> dict[str, str]:
    """The fields of a form.

    Raises:
        BadInput: it is not one, or too large. (The service bounds bodies before they come here.)
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise BadInput("this is not a form of these pages")
    body = await request.body()
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise BadInput("this is not a form of these pages") from error
    if any("\0" in value for _, value in pairs):
        raise BadInput("a field holds a zero byte")
    return dict(pairs)


def from_our_page(request: Request, fields: dict[str, str]) -> bool:
    """Whether a form was sent by a page of this service that was made for this very token."""
    origin = request.headers.get("origin")
    if origin not in (None, "null") and urlsplit(origin or "").netloc != request.headers.get("host"):
        return False
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return hmac.compare_digest(fields.get("key", "").encode(), form_key(request).encode())


def may(person: Person | None, role: Role) -> bool:
    """Whether somebody may do what needs ``role``."""
    return person is not None and person.role.covers(role)
