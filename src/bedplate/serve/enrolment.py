"""Enrolment: credentials made beforehand, tokens to trade for one, and what a node gets."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update

from bedplate.fleet.values import Method
from bedplate.model.errors import BadInput, TrustError
from bedplate.serve import audit
from bedplate.serve.database import Database
from bedplate.serve.models import EnrolmentRow
from bedplate.serve.people import NotThere
from bedplate.serve.secrets import SecretKind, has_form, new_secret, secret_digest
from bedplate.serve.state import put_node

MAX_COUNT = 1000


@dataclass(frozen=True, slots=True)
class EnrolmentInfo:
    """A way in, without its secret. ``kind`` is "token" or "node", ``uses`` how often it still works."""

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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make: ``count`` credentials for one node each, or one token for ``count`` nodes. ``tpm``: the token is
    good only together with a TPM-bound key. ``lifetime`` in seconds."""

    kind: str
    track: str
    ring: str
    count: int
    lifetime: float
    method: Method = Method.IMAGE
    tpm: bool = False


def create(database: Database, wanted: Wanted, *, actor: str, now: float) -> list[tuple[EnrolmentInfo, str]]:
    """New ways in, each with its secret, which is shown this once.

    Raises:
        BadInput: a count that is not between 1 and :data:`MAX_COUNT`.
    """
    if not 1 <= wanted.count <= MAX_COUNT:
        raise BadInput(f"between 1 and {MAX_COUNT} at once", where="count")
    single = wanted.kind == "node"
    kind = SecretKind.NODE if single else SecretKind.ENROLMENT
    made = []
    for _ in range(wanted.count if single else 1):
        info = EnrolmentInfo(
            secrets.token_hex(8),
            wanted.kind,
            wanted.track,
            wanted.ring,
            wanted.method.value,
            1 if single else wanted.count,
            wanted.tpm,
            now + wanted.lifetime,
            now,
            actor[:64],
        )
        made.append((info, new_secret(kind)))
    with database.changing() as (connection, change):
        rows = [_row(info) | {"digest": secret_digest(secret), "change": change} for info, secret in made]
        connection.execute(insert(EnrolmentRow), rows)
        detail = {"kind": wanted.kind, "track": wanted.track, "ring": wanted.ring, "count": wanted.count}
        audit.append(connection, now, actor, "enrolment.create", made[0][0].id, detail)
    return made


def _row(info: EnrolmentInfo) -> dict[str, Any]:
    names = ("id", "kind", "track", "ring", "method", "uses", "expires", "created", "created_by")
    return {name: getattr(info, name) for name in names} | {"tpm": int(info.tpm)}


def list_open(database: Database, now: float) -> list[EnrolmentInfo]:
    """The ways in that still work, newest first (the last 1000)."""
    open_ones = (
        select(EnrolmentRow.__table__)
        .where(EnrolmentRow.uses > 0, EnrolmentRow.expires > now)
        .order_by(EnrolmentRow.created.desc())
        .limit(1000)
    )
    with database.reading() as connection:
        rows = connection.execute(open_ones).all()
    return [
        EnrolmentInfo(r.id, r.kind, r.track, r.ring, r.method, r.uses, bool(r.tpm), r.expires, r.created, r.created_by)
        for r in rows
    ]


def close(database: Database, id: str, *, actor: str, now: float) -> None:
    """End a way in that was not used up.

    Raises:
        NotThere: there is none of that id.
    """
    with database.changing() as (connection, change):
        ended = update(EnrolmentRow).where(EnrolmentRow.id == id, EnrolmentRow.uses > 0).values(uses=0, change=change)
        if not connection.execute(ended).rowcount:
            raise NotThere("no such way in, or it is used up", where=id)
        audit.append(connection, now, actor, "enrolment.close", id)


def redeem(
    database: Database,
    token: str,
    machine: str,
    track: str,
    *,
    now: float,
    tpm: str = "",
    lifetime: float = 0.0,
) -> str:
    """Trade a token for a node's own credential. A machine that is enrolled already gets a new one in place of the old.

    Args:
        machine: Machine id, 32 hex digits.
        tpm: The public key that proved to be in the machine's TPM, empty without one.
        lifetime: Seconds the credential is good for, 0 for ever.

    Raises:
        TrustError: the token is not one, is used up, has expired, or asks for a TPM.
    """
    refused = TrustError("this token does not enrol: it is not one, is used up, or has expired")
    if not has_form(token, SecretKind.ENROLMENT):
        raise refused
    credential = new_secret(SecretKind.NODE)
    with database.changing() as (connection, change):
        row = connection.execute(
            select(EnrolmentRow.__table__).where(EnrolmentRow.digest == secret_digest(token))
        ).first()
        if row is None or row.kind != "token" or row.track != track or now >= row.expires:
            raise refused
        if row.tpm and not tpm:
            raise TrustError("this token needs a TPM-bound key", remedy="enrol with /v1/enroll/tpm")
        # The condition on the stored value decides between two who redeem at once.
        used = update(EnrolmentRow).where(EnrolmentRow.id == row.id, EnrolmentRow.uses > 0)
        if not connection.execute(used.values(uses=EnrolmentRow.uses - 1, change=change)).rowcount:
            raise refused
        put_node(connection, _fresh(machine, credential, row, now, tpm, lifetime), change)
        audit.append(connection, now, f"enrolment {row.id}", "node.enrol", machine, {"track": track, "tpm": bool(tpm)})
    return credential


def _fresh(machine: str, credential: str, row: Any, now: float, tpm: str, lifetime: float) -> dict[str, Any]:
    return {
        "id": machine,
        "digest": secret_digest(credential),
        "track": row.track,
        "ring": row.ring,
        "version": "",
        "boot": "",
        "seen": 0.0,
        "enrolled": now,
        "expires": now + lifetime if lifetime else 0.0,
        "revoked": 0.0,
        "attempt": None,
        "failed": [],
        "pin": "",
        "held": "",
        "method": row.method,
        "tpm": tpm,
    }
