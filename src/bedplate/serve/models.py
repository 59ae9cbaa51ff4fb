"""The service's state as tables. Every row that other instances must learn of carries ``change``, a value of the one
counter in ``clock``: whoever writes raises the counter first, in the same transaction, so values become visible in
their order and "what changed since" is one indexed question."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_Serial = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The tables of the update service."""


class Clock(Base):
    """One row: the counter of changes."""

    __tablename__ = "clock"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class NodeRow(Base):
    """An enrolled node as it last reported itself. ``id`` is its machine id, ``digest`` of its credential. Times are
    seconds since the epoch; ``expires`` 0 means never, ``revoked`` is when."""

    __tablename__ = "node"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    track: Mapped[str] = mapped_column(String(64))
    ring: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(64), default="")
    boot: Mapped[str] = mapped_column(String(32), default="")
    seen: Mapped[float] = mapped_column(Float(53), default=0.0)
    enrolled: Mapped[float] = mapped_column(Float(53), default=0.0)
    expires: Mapped[float] = mapped_column(Float(53), default=0.0)
    revoked: Mapped[float] = mapped_column(Float(53), default=0.0)
    attempt: Mapped[dict[str, Any] | None] = mapped_column(JSON, nullable=True)
    failed: Mapped[list[str]] = mapped_column(JSON, default=list)
    pin: Mapped[str] = mapped_column(String(64), default="")
    held: Mapped[str] = mapped_column(String(200), default="")
    method: Mapped[str] = mapped_column(String(16), default="image")
    tpm: Mapped[str] = mapped_column(Text, default="")
    change: Mapped[int] = mapped_column(BigInteger, index=True)


class NodeEvent(Base):
    """What became of a node's updates, in time."""

    __tablename__ = "node_event"
    id: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    node: Mapped[str] = mapped_column(String(32))
    at: Mapped[float] = mapped_column(Float(53))
    stage: Mapped[str] = mapped_column(String(16))
    version: Mapped[str] = mapped_column(String(64))
    sentence: Mapped[str] = mapped_column(String(300))
    __table_args__ = (Index("node_event_node", "node", "id"),)


class EnrolmentRow(Base):
    """A way for nodes to get in: a token to trade (``kind`` "token") or a credential the first poll binds ("node")."""

    __tablename__ = "enrolment"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    track: Mapped[str] = mapped_column(String(64))
    ring: Mapped[str] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(16), default="image")
    uses: Mapped[int] = mapped_column(Integer)
    tpm: Mapped[int] = mapped_column(Integer, default=0)
    expires: Mapped[float] = mapped_column(Float(53))
    created: Mapped[float] = mapped_column(Float(53))
    created_by: Mapped[str] = mapped_column(String(64))
    change: Mapped[int] = mapped_column(BigInteger, index=True)


class RolloutRow(Base):
    """A roll-out: its whole state as JSON, and the columns it is found by."""

    __tablename__ = "rollout"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    channel: Mapped[str] = mapped_column(String(64))
    track: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    revision: Mapped[int] = mapped_column(Integer)
    created: Mapped[float] = mapped_column(Float(53))
    state: Mapped[dict[str, Any]] = mapped_column(JSON)
    change: Mapped[int] = mapped_column(BigInteger, index=True)


class RebootSlotRow(Base):
    """The reboot slot a node holds, or held last: ``freed`` 0 while it holds it, else when it was given back.
    ``client`` is what the node calls itself there. Rows stay, so that other instances learn that a slot is free."""

    __tablename__ = "reboot_slot"
    node: Mapped[str] = mapped_column(String(32), primary_key=True)
    ring: Mapped[str] = mapped_column(String(64))
    client: Mapped[str] = mapped_column(String(128))
    since: Mapped[float] = mapped_column(Float(53))
    until: Mapped[float] = mapped_column(Float(53))
    freed: Mapped[float] = mapped_column(Float(53), default=0.0)
    change: Mapped[int] = mapped_column(BigInteger, index=True)


class PolicyRow(Base):
    """One row: the policy in force, as text."""

    __tablename__ = "policy"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(Integer)
    change: Mapped[int] = mapped_column(BigInteger)


class ServiceKey(Base):
    """One row: the key that challenges for TPMs are made from. With it, and a token, one could enrol without a TPM."""

    __tablename__ = "service_key"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary(32))


class PersonToken(Base):
    """A person's token: who, which role, and the digest of the secret."""

    __tablename__ = "person_token"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created: Mapped[float] = mapped_column(Float(53))
    expires: Mapped[float] = mapped_column(Float(53))
    revoked: Mapped[float] = mapped_column(Float(53), default=0.0)


class AuditRow(Base):
    """One line of the audit log. ``digest`` covers the line and the digest before it."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=False)
    at: Mapped[float] = mapped_column(Float(53))
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(128))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
