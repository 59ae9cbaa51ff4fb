"""The Starlette application: the API, health, metrics, the OpenAPI document, and whatever pages are mounted into it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from bedplate.serve import metrics
from bedplate.serve.api import admin, nodes, rollouts, slots, tpm
from bedplate.serve.api.endpoint import Endpoint, Problem, respond
from bedplate.serve.api.openapi import document
from bedplate.serve.foreign import fleetlock, omaha
from bedplate.serve.people import People
from bedplate.serve.service import Service

ENDPOINTS: tuple[Endpoint, ...] = (
    *admin.ENDPOINTS,
    *tpm.ENDPOINTS,
    *rollouts.ENDPOINTS,
    *nodes.ENDPOINTS,
    *slots.ENDPOINTS,
)


def build(service: Service, people: People, extra: Sequence[BaseRoute] = (), *, public_url: str = "") -> Starlette:
    """The application for one service.

    Args:
        public_url: The service's address as nodes know it, for protocols that hand out whole addresses.
        extra: Routes of the pages and of further protocols; they may use ``request.app.state.service`` and ``.people``.
    """
    routes: list[BaseRoute] = [
        Route("/healthz", _healthz),
        Route("/readyz", _readyz),
        Route("/metrics", _metrics),
        Route("/openapi.json", _openapi),
        *_api_routes(service, people),
        *fleetlock.routes(),
        *omaha.routes(public_url),
        *extra,
    ]
    application = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _broken})
    application.router.redirect_slashes = False
    application.state.service = service
    application.state.people = people
    application.state.document = document(ENDPOINTS)
    application.state.registry = metrics.registry(service)
    return application


def _api_routes(service: Service, people: People) -> list[BaseRoute]:
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in ENDPOINTS:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint

    async def answer(methods: dict[str, Endpoint], request: Request) -> Response:
        return await respond(methods[request.method if request.method != "HEAD" else "GET"], service, people, request)

    return [Route(path, partial(answer, methods), methods=list(methods)) for path, methods in by_path.items()]


async def _healthz(request: Request) -> Response:
    """Whether the process answers. What else is wrong it says, with 200: polls are answered all the same."""
    service: Service = request.app.state.service
    problems = [one for one in (service.database_error, service.shelf_error) if one]
    state = "in doubt" if service.view.in_doubt else "degraded" if problems else "well"
    body: dict[str, Any] = {"state": state, "problems": problems, "nodes": len(service.view.nodes)}
    return JSONResponse(body | {"leading": service.leading, "waiting": len(service.view.dirty)})


async def _readyz(request: Request) -> Response:
    """Whether this instance should get requests: it has loaded what is stored."""
    ready = request.app.state.service.started
    return PlainTextResponse("ready\n" if ready else "not yet\n", 200 if ready else 503)


async def _metrics(request: Request) -> Response:
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


async def _openapi(request: Request) -> Response:
    return JSONResponse(request.app.state.document)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "nothing of that name", 405: "not with this method"}
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return JSONResponse(Problem(error=words.get(status, "refused")).model_dump(), status, headers)


async def _broken(request: Request, error: Exception) -> Response:
    # Nothing of the error goes out: it may name paths or queries. The log has it.
    return JSONResponse(Problem(error="something went wrong in the service; its log says what").model_dump(), 500)
