"""Enrolment, tokens, policy, releases and the audit log over the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select, update

from bedplate.fleet.policy import Policy, parse_policy
from bedplate.fleet.values import Method
from bedplate.model.errors import BadInput
from bedplate.model.release import require_track
from bedplate.model.version import version_key
from bedplate.serve import audit, enrolment
from bedplate.serve.api.endpoint import Call, Endpoint, Model
from bedplate.serve.models import AuditRow, PolicyRow
from bedplate.serve.people import Conflict, Role

_MACHINE = r"^[0-9a-f]{32}$"
_DAY = 86400
Track = Annotated[str, Field(min_length=1, max_length=31)]
RingName = Annotated[str, Field(max_length=64)]


class Me(Model):
    """Who asks, as the service knows him."""

    name: str
    role: Role


class EnrolmentView(Model):
    """A way in. ``secret`` only in the answer to its making: a node's credential or a token to trade."""

    id: str
    kind: str
    track: str
    ring: str
    method: str
    uses: int
    tpm: bool
    expires: float
    created: float
    created_by: str
    secret: str = ""


class NewEnrolment(Model):
    """``node``: ``count`` credentials, bound by first polls. ``token``: one token for ``count`` nodes."""

    kind: Literal["node", "token"] = "node"
    track: Track
    ring: RingName = ""
    count: int = Field(default=1, ge=1, le=enrolment.MAX_COUNT)
    days: int = Field(default=7, ge=1, le=366)
    method: Method = Method.IMAGE
    tpm: bool = False


class Enroll(Model):
    """A node's wish to get in, with a token."""

    token: Annotated[str, Field(max_length=128)]
    machine: Annotated[str, Field(pattern=_MACHINE)]
    track: Track


class Enrolled(Model):
    """A node's credential, and the Path= of its transfer files below the service's address. ``expires`` 0: never."""

    credential: str
    path: str
    expires: float = 0.0


class TokenView(Model):
    """A person's token. ``secret`` only in the answer to its making."""

    id: str
    name: str
    role: Role
    created: float
    expires: float
    revoked: float
    secret: str = ""


class NewToken(Model):
    """A token for a person or a program."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: Role = Role.VIEWER
    days: int = Field(default=90, ge=1, le=3660)


class AuditView(Model):
    """One line of the audit log."""

    number: int
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    digest: str


class AuditQuery(Model):
    """Lines before ``before`` (a number), newest first."""

    before: Annotated[int, Field(ge=1, le=2**62)] = 2**62
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class PolicyView(Model):
    """The policy in force, and its revision, which a change must name."""

    revision: int
    policy: dict[str, Any]


class NewPolicy(Model):
    """A policy as TOML, in place of the one at ``revision``."""

    revision: int = Field(ge=0, le=2**31 - 1)
    toml: Annotated[str, Field(max_length=200_000)]


class ReleaseView(Model):
    """A release of the store and the channels it is published in; ``withdrawn`` maps channels to reasons."""

    track: str
    version: str
    digest: str
    created: int
    expires: int
    floor: str
    notes: str
    channels: list[str]
    withdrawn: dict[str, str]
    files: dict[str, int]


async def who_am_i(call: Call) -> Any:
    """Name and role of the token."""
    return Me(name=call.person.name, role=call.person.role)


async def list_enrolments(call: Call) -> Any:
    """The ways in that still work."""
    found = await call.reading(lambda: enrolment.list_open(call.service.database, call.service.clock()))
    return [asdict(one) | {"secret": ""} for one in found]


async def create_enrolment(call: Call) -> Any:
    """Make ways in for nodes. Their secrets are in this answer and nowhere else."""
    wanted: NewEnrolment = call.body
    require_track(wanted.track, "track")
    if wanted.ring and call.service.view.policy.ring(wanted.ring) is None:
        raise BadInput(f"the policy has no ring {wanted.ring!r}", where="ring")
    if wanted.tpm and wanted.kind != "token":
        raise BadInput("only a token can ask for a TPM-bound key", where="tpm")
    order = enrolment.Wanted(
        wanted.kind, wanted.track, wanted.ring, wanted.count, wanted.days * _DAY, wanted.method, wanted.tpm
    )
    actor, now = call.person.name, call.service.clock()
    made = await call.in_thread(lambda: enrolment.create(call.service.database, order, actor=actor, now=now))
    return [asdict(info) | {"secret": secret} for info, secret in made]


async def close_enrolment(call: Call) -> Any:
    """End a way in that was not used up."""
    actor, now = call.person.name, call.service.clock()
    await call.in_thread(lambda: enrolment.close(call.service.database, call.path["id"], actor=actor, now=now))


async def enroll(call: Call) -> Any:
    """Trade a token for a node's own credential."""
    wanted: Enroll = call.body
    database, now = call.service.database, call.service.clock()
    credential = await call.in_thread(
        lambda: enrolment.redeem(database, wanted.token, wanted.machine, wanted.track, now=now)
    )
    return Enrolled(credential=credential, path=poll_path(wanted.track, credential))


def poll_path(track: str, credential: str) -> str:
    """What stands behind the service's address in Path= of a node's transfer files."""
    return f"/v1/poll/{track}/auto/%m/{credential}/%A/%b/"


async def list_tokens(call: Call) -> Any:
    """Every person's token, without its secret."""
    return [asdict(one) | {"secret": ""} for one in await call.reading(call.people.list)]


async def create_token(call: Call) -> Any:
    """Make a token for a person. Its secret is in this answer and nowhere else."""
    wanted: NewToken = call.body
    info, secret = await call.in_thread(
        lambda: call.people.create(
            wanted.name, wanted.role, wanted.days * _DAY, actor=call.person.name, now=call.service.clock()
        )
    )
    return TokenView(**asdict(info), secret=secret)


async def revoke_token(call: Call) -> Any:
    """End a person's token now."""
    actor, now = call.person.name, call.service.clock()
    await call.in_thread(lambda: call.people.revoke(call.path["id"], actor=actor, now=now))


async def list_audit(call: Call) -> Any:
    """The audit log, newest first."""
    query: AuditQuery = call.query
    wanted = (
        select(AuditRow.__table__)
        .where(AuditRow.number < query.before)
        .order_by(AuditRow.number.desc())
        .limit(query.limit)
    )

    def read() -> list[AuditView]:
        with call.service.database.reading() as connection:
            rows = connection.execute(wanted).mappings().all()
        return [AuditView(**{name: row[name] for name in AuditView.model_fields}) for row in rows]

    return [one.model_dump(mode="json") for one in await call.reading(read)]


async def show_policy(call: Call) -> Any:
    """The policy in force."""

    def read() -> tuple[int, str]:
        with call.service.database.reading() as connection:
            row = connection.execute(select(PolicyRow.revision, PolicyRow.text)).one()
        return row.revision, row.text

    revision, text = await call.reading(read)
    return PolicyView(revision=revision, policy=parse_policy(text, where="policy.json").model_dump(mode="json"))


async def replace_policy(call: Call) -> Any:
    """Put another policy in force."""
    wanted: NewPolicy = call.body
    policy: Policy = parse_policy(wanted.toml)

    def store() -> None:
        with call.service.database.changing() as (connection, change):
            changed = (
                update(PolicyRow)
                .where(PolicyRow.revision == wanted.revision)
                .values(text=policy.model_dump_json(), revision=wanted.revision + 1, change=change)
            )
            if not connection.execute(changed).rowcount:
                raise Conflict("the policy has changed since you looked", remedy="look at it again, then decide")
            rings = [ring.name for ring in policy.rings]
            audit.append(
                connection, call.service.clock(), call.person.name, "policy.replace", "policy", {"rings": rings}
            )

    await call.in_thread(store)
    return PolicyView(revision=wanted.revision + 1, policy=policy.model_dump(mode="json"))


async def list_releases(call: Call) -> Any:
    """The releases of the store, newest first."""
    shelf = call.service.view.shelf
    shown = []
    for (track, version), one in sorted(
        shelf.releases.items(), key=lambda item: (item[0][0], version_key(item[0][1])), reverse=True
    ):
        published = {
            c.name for c in shelf.channels.values() for p in c.publications if (p.track, p.version) == one.release.key
        }
        shown.append(
            ReleaseView(
                track=track,
                version=version,
                digest=one.facts.digest,
                created=one.release.created,
                expires=one.release.expires,
                floor=one.release.floor,
                notes=one.release.notes,
                channels=sorted(published),
                withdrawn=_withdrawn(shelf.channels, track, version),
                files={name: file.size for name, file in one.files.items()},
            ).model_dump(mode="json")
        )
    return shown


def _withdrawn(channels: Mapping[str, Any], track: str, version: str) -> dict[str, str]:
    found = {name: channel.withdrawn(track, version) for name, channel in channels.items()}
    return {name: one.reason for name, one in found.items() if one is not None}


def machine_id(text: str) -> str:
    """``text`` when it is a machine id.

    Raises:
        BadInput: it is not.
    """
    if not re.fullmatch(_MACHINE, text):
        raise BadInput("a machine id is 32 hex digits", where="machine")
    return text


_E, _T = "/api/v1/enrolments", "/api/v1/tokens"
ENDPOINTS = (
    Endpoint("GET", "/api/v1/me", "Who am I", who_am_i, Me),
    Endpoint("GET", "/api/v1/releases", "Releases of the store", list_releases, list[ReleaseView]),
    Endpoint("GET", _E, "Ways in for nodes", list_enrolments, list[EnrolmentView], role=Role.OPERATOR),
    Endpoint(
        "POST",
        _E,
        "Make ways in",
        create_enrolment,
        list[EnrolmentView],
        role=Role.OPERATOR,
        body=NewEnrolment,
        status=201,
    ),
    Endpoint("DELETE", f"{_E}/{{id}}", "End a way in", close_enrolment, None, role=Role.OPERATOR, status=204),
    Endpoint(
        "POST",
        "/v1/enroll",
        "Enrol with a token",
        enroll,
        Enrolled,
        role=None,
        body=Enroll,
        status=201,
        problems=(403,),
    ),
    Endpoint("GET", _T, "Tokens of people", list_tokens, list[TokenView], role=Role.MANAGER),
    Endpoint("POST", _T, "Make a token", create_token, TokenView, role=Role.MANAGER, body=NewToken, status=201),
    Endpoint("DELETE", f"{_T}/{{id}}", "End a token", revoke_token, None, role=Role.MANAGER, status=204),
    Endpoint("GET", "/api/v1/audit", "The audit log", list_audit, list[AuditView], query=AuditQuery),
    Endpoint("GET", "/api/v1/policy", "The policy", show_policy, PolicyView),
    Endpoint(
        "PUT",
        "/api/v1/policy",
        "Another policy",
        replace_policy,
        PolicyView,
        role=Role.MANAGER,
        body=NewPolicy,
        problems=(409,),
    ),
)
