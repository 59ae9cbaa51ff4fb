"""What the pages read from the database: roll-outs, history, the audit log in sentences. Everything here blocks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from bedplate.fleet.values import Rollout
from bedplate.serve.models import AuditRow, NodeEvent, RolloutRow
from bedplate.serve.pages.timeline import Change
from bedplate.serve.people import NotThere
from bedplate.serve.service import Service
from bedplate.serve.state import load_rollout

READ_AT_ONCE = 20_000


def rollouts(service: Service, limit: int) -> list[tuple[Rollout, float]]:
    """The newest roll-outs, each with when it began."""
    newest = select(RolloutRow.state, RolloutRow.created).order_by(RolloutRow.number.desc()).limit(limit)
    with service.database.reading() as connection:
        return [(load_rollout(row.state), row.created) for row in connection.execute(newest)]


def rollout(service: Service, id: str) -> tuple[Rollout, float]:
    """One roll-out, and when it began.

    Raises:
        NotThere: there is none of that id.
    """
    with service.database.reading() as connection:
        row = connection.execute(select(RolloutRow.state, RolloutRow.created).where(RolloutRow.id == id)).first()
    if row is None:
        raise NotThere("no such roll-out", where=id[:64])
    return load_rollout(row.state), row.created


def changes(service: Service, version: str, since: float, after: int) -> list[Change]:
    """What became of nodes with a version since a time, after a line of history; :data:`READ_AT_ONCE` at most."""
    wanted = (
        select(NodeEvent.id, NodeEvent.node, NodeEvent.at, NodeEvent.stage)
        .where(NodeEvent.id > after, NodeEvent.version == version, NodeEvent.at >= since - 1)
        .order_by(NodeEvent.id)
        .limit(READ_AT_ONCE)
    )
    with service.database.reading() as connection:
        return [Change(row.id, row.node, row.at, row.stage) for row in connection.execute(wanted)]


def history(service: Service, node: str) -> list[Any]:
    """A node's history, newest first."""
    newest = (
        select(NodeEvent.at, NodeEvent.stage, NodeEvent.version, NodeEvent.sentence)
        .where(NodeEvent.node == node)
        .order_by(NodeEvent.id.desc())
        .limit(200)
    )
    with service.database.reading() as connection:
        return list(connection.execute(newest).all())


_MARKED = {
    "rollout.proven": "proven",
    "rollout.ring-begins": "ring",
    "rollout.stopped": "stopped",
    "rollout.complete": "complete",
    "rollout.pause": "paused",
    "rollout.resume": "resumed",
    "rollout.abort": "stopped",
}
_SHORT = {
    "rollout.proven": "first healthy",
    "rollout.stopped": "stopped",
    "rollout.complete": "complete",
    "rollout.pause": "paused",
    "rollout.resume": "on",
    "rollout.abort": "aborted",
}
_DID = {
    "rollout.start": "began the roll-out",
    "rollout.rollback": "rolled back",
    "rollout.pause": "paused it",
    "rollout.resume": "went on",
    "rollout.abort": "aborted it",
    "node.enrol": "enrolled a node",
    "token.create": "made a token",
    "token.revoke": "revoked a token",
    "policy.set": "set the policy",
}


def notes(service: Service, subject: str, limit: int) -> list[dict[str, Any]]:
    """Lines of the audit log, newest first, each with a sentence."""
    lines = select(AuditRow.at, AuditRow.actor, AuditRow.action, AuditRow.subject, AuditRow.detail)
    if subject:
        lines = lines.where(AuditRow.subject == subject)
    with service.database.reading() as connection:
        rows = connection.execute(lines.order_by(AuditRow.number.desc()).limit(limit)).all()
    return [_note(row) for row in rows]


def _note(row: Any) -> dict[str, Any]:
    detail = row.detail if isinstance(row.detail, dict) else {}
    said = str(detail.get("sentence", ""))
    did = said or _DID.get(row.action, row.action.replace(".", ": ").replace("-", " "))
    why = str(detail.get("why", ""))
    version = str(detail.get("version", "") or detail.get("to", ""))
    return {
        "at": row.at,
        "actor": "" if row.actor == "service" else row.actor,
        "action": row.action,
        "subject": row.subject,
        "sentence": did,
        "why": why,
        "version": version,
        "kind": _MARKED.get(row.action, ""),
        "marked": row.action in _MARKED,
        "short": str(detail.get("ring", "")) or _SHORT.get(row.action, ""),
        "rollout": row.subject if row.action.startswith("rollout.") else "",
    }
