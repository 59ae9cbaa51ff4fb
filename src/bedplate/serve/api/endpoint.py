"""One endpoint as a value, and how a request becomes its answer: who asks, what is asked, and errors in plain words."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.serve.database import DatabaseGone
from bedplate.serve.people import Conflict, NotThere, People, Person, Role
from bedplate.serve.service import Service

log = logging.getLogger("bedplate.serve")


class Model(BaseModel):
    """A body or an answer: unknown keys are mistakes, values keep their JSON types."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Model):
    """No query parameters."""


class Problem(Model):
    """What is wrong, where, and what to do about it."""

    error: str
    where: str = ""
    remedy: str = ""
    details: list[str] = []


class Refused(BedplateError):
    """Nobody, or somebody whose role does not allow it, asked."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked. ``person`` is nobody where the endpoint needs no role."""

    service: Service
    people: People
    person: Person
    path: Mapping[str, str]
    query: Any
    body: Any

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """Run blocking work that changes the database, then take the change over."""
        return await self.service.in_thread(work)

    async def reading(self, work: Callable[[], Any]) -> Any:
        """Run blocking work that only reads."""
        return await asyncio.to_thread(work)


Handler = Callable[[Call], Awaitable[Any]]
NOBODY = Person("nobody", Role.VIEWER)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    ``role``: the least role that may ask; None when anybody may. ``answer``: the model of the answer, or None for an
    empty one (204). ``problems``: statuses it can fail with beside those every endpoint can.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Any
    role: Role | None = Role.VIEWER
    query: type[Model] = Nothing
    body: type[Model] | None = None
    status: int = 200
    problems: tuple[int, ...] = ()


async def respond(endpoint: Endpoint, service: Service, people: People, request: Request) -> Response:
    """Answer one request. Every error becomes a :class:`Problem`; only its status tells how bad it is."""
    try:
        person = await _who(endpoint, people, service, request)
        query = _query(endpoint, request)
        body = _body(endpoint, await request.body())
        path = dict(request.path_params)
        if any("\x00" in value for value in path.values()):
            raise NotThere("nothing of that name")
        answer = await endpoint.handler(Call(service, people, person, path, query, body))
    except Refused as error:
        headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
        return problem(error, error.status, headers)
    except NotThere as error:
        return problem(error, 404)
    except Conflict as error:
        return problem(error, 409)
    except TrustError as error:
        return problem(error, 403)
    except BadInput as error:
        return problem(error, 400)
    except DatabaseGone as error:
        return problem(error, 503, {"retry-after": "10"})
    except BedplateError as error:
        log.warning("%s %s: %s", request.method, endpoint.path, error)
        return problem(error, 500)
    if endpoint.status == 204:
        return Response(status_code=204)
    if isinstance(answer, Response):
        return answer
    data = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    return JSONResponse(data, endpoint.status, {"cache-control": "no-store"})


def problem(error: BedplateError, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as an answer."""
    body = Problem(error=error.message, where=error.where, remedy=error.remedy, details=list(error.details))
    return JSONResponse(body.model_dump(), status, {"cache-control": "no-store", **(headers or {})})


async def _who(endpoint: Endpoint, people: People, service: Service, request: Request) -> Person:
    if endpoint.role is None:
        return NOBODY
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Refused("say who you are: Authorization: Bearer TOKEN", 401)
    person = await asyncio.to_thread(people.find, secret.strip(), service.clock())
    if person is None:
        raise Refused("this token is not one, has expired or was revoked", 401)
    if not person.role.covers(endpoint.role):
        raise Refused(f"this needs the role {endpoint.role.value}; yours is {person.role.value}", 403)
    return person


def _query(endpoint: Endpoint, request: Request) -> Model:
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise BadInput(f"the parameter {name[:40]!r} is given twice")
        if "\x00" in value:
            raise BadInput(f"the parameter {name[:40]!r} holds a zero byte")
        found[name] = value
    return _validated(endpoint.query, found, "the query", strict=False)


def _body(endpoint: Endpoint, content: bytes) -> Model | None:
    if endpoint.body is None:
        return None
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput("the body is not JSON", details=[str(error)[:200]]) from error
    return _validated(endpoint.body, data, "the body", strict=True)


def _validated(model: type[Model], data: Any, where: str, *, strict: bool) -> Model:
    try:
        # From JSON text: that is where pydantic's strict mode knows enumerations and the like.
        return model.model_validate_json(json.dumps(data), strict=True) if strict else model.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or '(all)'}: {one['msg']}"[:200] for one in error.errors()[:20]]
        raise BadInput(f"{where} is not as it must be", details=lines) from error
    except ValueError as error:
        raise BadInput(f"{where} is not as it must be", details=[str(error)[:200]]) from error
