"""The buttons: the API's own commands, sent by a form of a page."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bedplate.model.errors import BadInput, BedplateError
from bedplate.serve.api import rollouts as api
from bedplate.serve.api.endpoint import Call, Handler, Nothing
from bedplate.serve.pages import session
from bedplate.serve.pages.fleet_pages import FleetPages
from bedplate.serve.pages.frame import HEADERS, Frame, path_part, service_of
from bedplate.serve.people import Conflict, NotThere, Role


class Buttons:
    """Commands of people who may steer."""

    def __init__(self, frame: Frame, pages: FleetPages) -> None:
        self._frame = frame
        self._pages = pages

    async def command(self, request: Request) -> Response:
        """Pause, go on, abort, roll back: the API's own commands, sent by a form."""
        try:
            person = await session.who(request)
            if person is None:
                return RedirectResponse("/login", 303, HEADERS)
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
            service = service_of(request)
            try:
                answer = await handler(Call(service, request.app.state.people, person, {"id": id}, Nothing(), body))
            except (Conflict, BadInput) as error:
                words_ = f"{error.message[:1].upper()}{error.message[1:]}. {error.remedy}".strip()
                return await self._pages.rollout_page(request, person, id, service, refused=words_, status=409)
            return RedirectResponse(f"/rollouts/{path_part(answer.id)}", 303, HEADERS)
        except BedplateError as error:
            return self._frame.problem(request, error)


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
