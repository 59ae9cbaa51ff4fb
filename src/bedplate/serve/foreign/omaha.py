"""Omaha 3.0: update checks, events and pings of update_engine and its kin, answered from the same decisions as polls.

A client's server is ``…/v1/update/CREDENTIAL/``. The protocol cannot prove who asks; the credential in the address
does, and the machine id in the request must be that of its node. What is offered are the files of a release as they
were signed, below the node's own poll address, so that a download is seen and authorised like any other.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from bedplate.fleet.observing import FINAL, Attempt, Report, Stage, on_fetch, on_fetched, on_report
from bedplate.model.errors import BadInput
from bedplate.serve.catalog import SIGNATURE, SUMS, Shelved
from bedplate.serve.polls import PREFIX as POLL
from bedplate.serve.polls import TOO_MANY, Reply, is_version
from bedplate.serve.protocols import omaha
from bedplate.serve.protocols.omaha import Answer, App, AppStatus, Event, Package, Progress, Update, answer_for
from bedplate.serve.secrets import secret_digest
from bedplate.serve.service import Service
from bedplate.serve.view import NodeState

_HEX32 = re.compile(r"[0-9a-f]{32}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?")
_DAY = 86400
_NO_BOOT = "0" * 32
# Any constant of our own: from it and a track's name its application id is made.
_APPLICATIONS = uuid.UUID("8d0c9cf6-0b3e-5f0a-9b62-2f6f1b7c4e10")


def routes(public_url: str = "") -> list[BaseRoute]:
    """The endpoint, with and without a slash at its end.

    Args:
        public_url: The service's address as clients know it; empty: as the request named it.
    """
    answer = partial(_answer, public_url.rstrip("/"))
    return [
        Route("/v1/update/{credential}/", answer, methods=["POST"]),
        Route("/v1/update/{credential}", answer, methods=["POST"]),
        Route("/v1/update/", _nobody, methods=["POST"]),
        Route("/v1/update", _nobody, methods=["POST"]),
    ]


def application_id(track: str) -> str:
    """The application id of a track: what a client names it by, in Omaha's braces."""
    return f"{{{uuid.uuid5(_APPLICATIONS, track)}}}"


async def _nobody(request: Request) -> Response:
    return PlainTextResponse("the server's address must hold the node's credential: …/v1/update/CREDENTIAL/\n", 403)


async def _answer(public_url: str, request: Request) -> Response:
    service: Service = request.app.state.service
    base = public_url or _base(request)
    if not base:
        return PlainTextResponse("the Host header is not one\n", 400)
    try:
        asked = omaha.parse_request(await request.body(), request.headers.get("content-type", ""))
    except BadInput as error:
        return PlainTextResponse(f"{error.message}\n", 400)
    now = service.clock()
    credential = request.path_params["credential"]
    node = _node(service, credential, asked.apps, now)
    if isinstance(node, Reply):
        return PlainTextResponse(node.body, node.status)
    if not service.desk.within_limits(node, now):
        return PlainTextResponse(TOO_MANY.body, TOO_MANY.status, {"retry-after": "60"})
    answers = tuple(_one(service, node, app, f"{base}{POLL}", credential, now) for app in asked.apps)
    body = omaha.write_response(answers, elapsed_seconds=int(now) % _DAY)
    return Response(body, 200, {"content-type": omaha.CONTENT_TYPE, "cache-control": "no-store"})


def _base(request: Request) -> str:
    """Scheme and host of the request, where the host can be one: it becomes part of what the asker is told."""
    host = request.headers.get("host", "")
    return f"{request.scope['scheme']}://{host}" if _HOST.fullmatch(host) else ""


def _node(service: Service, credential: str, apps: tuple[App, ...], now: float) -> NodeState | Reply:
    """Who asks: the node of the credential, or the machine that is the first to show one made beforehand."""
    found = service.desk.known(credential, now)
    claim = service.view.claims.get(secret_digest(credential)) if isinstance(found, Reply) else None
    if claim is None:
        return found
    for app in apps:
        if _is_application(app.id, claim.track):
            made = service.desk.claim(credential, claim.track, _plain(app.machine_id), app.track, now)
            return made or found
    return found


def _one(service: Service, node: NodeState, app: App, base: str, credential: str, now: float) -> Answer:
    """The answer to one application of a request; what it says of itself is noted."""
    if not _is_application(app.id, node.track):
        return answer_for(app, status=AppStatus.UNKNOWN_APP)
    if _plain(app.machine_id) != node.id:
        return answer_for(app, status=AppStatus.RESTRICTED)
    if not is_version(app.version):
        return answer_for(app, status=AppStatus.INVALID_VERSION)
    boot = _plain(app.boot_id)
    boot = boot if _HEX32.fullmatch(boot) else node.boot or _NO_BOOT
    for event in app.events:
        _take_event(service, node, event, app.version, boot, now)
    restarted = any(event.progress is Progress.REBOOTED for event in app.events)
    if app.update_check or app.ping or restarted:
        service.desk.check_in(node, app.version, boot, now)
    if not app.update_check:
        return answer_for(app)
    offered = service.desk.offer(node, now)
    if offered is None or not offered.release.version.startswith(app.target_prefix):
        return answer_for(app)
    where = f"{base}{node.track}/auto/{node.id}/{credential}/{app.version}/{boot}/"
    return answer_for(app, update=_update(offered, where))


def _update(offered: Shelved, codebase: str) -> Update:
    """A release as an update: what nodes install, and the signed listing that vouches for it."""
    signed = [(SUMS, offered.sums), (SIGNATURE, offered.signature)]
    packages = [
        *(Package(one.name, one.size, one.sha256) for one in offered.release.artefacts if one.update),
        *(Package(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in signed),
    ]
    return Update(offered.release.version, codebase, tuple(packages))


def _take_event(service: Service, node: NodeState, event: Event, version: str, boot: str, now: float) -> None:
    """Move the node's attempt on by what the client reports. What it says of an update it was not offered is left."""
    attempt = node.attempt
    if attempt is None or attempt.stage in FINAL:
        return
    after: Attempt = attempt
    sentence = ""
    match event.progress:
        case Progress.DOWNLOADING | Progress.DOWNLOADED:
            after = on_fetch(attempt, boot, now) if attempt.stage is not Stage.REBOOTING else attempt
        case Progress.INSTALLED:
            after = on_fetched(attempt, boot, now)
        case Progress.FAILED:
            sentence = f"reports that {attempt.version} failed: error {event.error_code}"
            after = _fell_back(attempt, version, boot, now)
        case Progress.REBOOTED if version != attempt.version and _was_restarted(attempt, boot):
            # It says itself that this boot came after the update: it runs the old version, so it fell back.
            after = _fell_back(attempt, version, boot, now)
        case _:
            return
    service.view.set_attempt(node, after, now, sentence)


def _fell_back(attempt: Attempt, version: str, boot: str, now: float) -> Attempt:
    return on_report(attempt, Report(version, boot, frozenset({attempt.version})), now)


def _was_restarted(attempt: Attempt, boot: str) -> bool:
    return attempt.stage in (Stage.REBOOTING, Stage.RETURNED) and attempt.boot not in ("", boot)


def _is_application(id: str, track: str) -> bool:
    plain = id.lower().strip("{}")
    return plain in (track, application_id(track).strip("{}"))


def _plain(id: str) -> str:
    """A UUID or machine id as 32 digits."""
    return id.lower().strip("{}").replace("-", "")
