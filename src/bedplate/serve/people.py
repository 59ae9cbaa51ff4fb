"""People: who a token belongs to and what its role may do."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import insert, select, update

from bedplate.model.errors import BadInput, BedplateError
from bedplate.serve import audit
from bedplate.serve.database import Database, DatabaseGone
from bedplate.serve.models import PersonToken
from bedplate.serve.secrets import SecretKind, has_form, new_secret, secret_digest

# How long a token that was good is believed while the database is out of reach (seconds).
_REMEMBERED = 600.0
_MAX_REMEMBERED = 1000


class Role(StrEnum):
    """Viewers look. Operators hold back: pause, go on, abort, enrol, pin, revoke. Release managers begin roll-outs and
    roll back, set the policy and give out tokens. Each may do all that those before may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    MANAGER = "release-manager"

    def covers(self, other: Role) -> bool:
        """Whether this role may do what ``other`` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: the token's name and role."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without its secret. Times are seconds since the epoch; ``revoked`` 0: it is not."""

    id: str
    name: str
    role: Role
    created: float
    expires: float
    revoked: float


class People:
    """Tokens of people, in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[bytes, tuple[Person, float, float]] = {}

    def find(self, secret: str, now: float) -> Person | None:
        """Whose token ``secret`` is; None when it is nobody's, has expired or was revoked.

        Raises:
            DatabaseGone: it cannot be looked up, and was not good a moment ago either.
        """
        if not has_form(secret, SecretKind.PERSON):
            return None
        digest = secret_digest(secret)
        try:
            with self._database.reading() as connection:
                row = connection.execute(
                    select(PersonToken.name, PersonToken.role, PersonToken.expires, PersonToken.revoked).where(
                        PersonToken.digest == digest
                    )
                ).first()
        except DatabaseGone:
            person, expires, at = self._remembered.get(digest, (None, 0.0, 0.0))
            if person is not None and now < expires and time.monotonic() - at < _REMEMBERED:
                return person
            raise
        if row is None or row.revoked or now >= row.expires:
            self._remembered.pop(digest, None)
            return None
        person = Person(row.name, Role(row.role))
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[digest] = (person, row.expires, time.monotonic())
        return person

    def create(self, name: str, role: Role, lifetime: float, *, actor: str, now: float) -> tuple[TokenInfo, str]:
        """A new token, and its secret, which is shown this once.

        Args:
            lifetime: Seconds it is good for.

        Raises:
            BadInput: the name is empty or not printable.
        """
        if not name.strip() or len(name) > 64 or not name.isprintable():
            raise BadInput("a token needs a name of 1 to 64 printable characters")
        secret = new_secret(SecretKind.PERSON)
        info = TokenInfo(secrets.token_hex(8), name, role, now, now + lifetime, 0.0)
        with self._database.changing() as (connection, _):
            connection.execute(
                insert(PersonToken).values(
                    id=info.id,
                    name=name,
                    role=role.value,
                    digest=secret_digest(secret),
                    created=now,
                    expires=info.expires,
                    revoked=0.0,
                )
            )
            audit.append(connection, now, actor, "token.create", info.id, {"name": name, "role": role.value})
        return info, secret

    def list(self) -> list[TokenInfo]:
        """Every token ever given out, newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(PersonToken.__table__).order_by(PersonToken.created.desc())).all()
        return [TokenInfo(r.id, r.name, Role(r.role), r.created, r.expires, r.revoked) for r in rows]

    def revoke(self, id: str, *, actor: str, now: float) -> None:
        """End a token now.

        Raises:
            BedplateError: there is none of that id that still works.
        """
        with self._database.changing() as (connection, _):
            ended = update(PersonToken).where(PersonToken.id == id, PersonToken.revoked == 0).values(revoked=now)
            if not connection.execute(ended).rowcount:
                raise NotThere("no such token, or it was revoked before", where=id)
            audit.append(connection, now, actor, "token.revoke", id)
        self._remembered.clear()


class NotThere(BedplateError):
    """What was asked for does not exist."""


class Conflict(BedplateError):
    """It is not any more as the asker thought: somebody else was faster."""
