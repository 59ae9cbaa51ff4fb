"""The audit log: append-only lines, each with a digest over itself and the line before.

Cutting or editing the log in the middle shows; cutting its end shows to whoever kept a later digest (the service logs
each). Secrets never come in: details are given by the callers, and every text passes :func:`redacted`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from bedplate.model.errors import TrustError
from bedplate.serve.models import AuditRow
from bedplate.serve.secrets import redacted

START = "0" * 64
_TABLE = AuditRow.__table__


def append(
    connection: Connection, at: float, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> str:
    """Add a line within the caller's writing transaction (which orders writers). Returns its digest.

    Args:
        at: Seconds since the epoch.
        actor: Who: a person's token name, or ``service``.
        action: What: ``rollout.pause``, ``node.revoke``, …
        subject: On what: a roll-out's, node's or token's id.
        detail: Further facts, JSON values without secrets.
    """
    newest = select(AuditRow.number, AuditRow.digest).order_by(AuditRow.number.desc()).limit(1)
    last = connection.execute(newest).first()
    number, previous = (last.number + 1, last.digest) if last is not None else (1, START)
    facts = json.loads(redacted(json.dumps(dict(detail or {}))))
    row = {
        "number": number,
        "at": round(at, 3),
        "actor": actor[:64],
        "action": action[:64],
        "subject": redacted(subject)[:128],
        "detail": facts,
        "previous": previous,
    }
    row["digest"] = _digest(row)
    connection.execute(insert(AuditRow).values(row))
    return str(row["digest"])


def verify(connection: Connection) -> tuple[int, str]:
    """Check the whole chain. Returns the number of lines and the last digest.

    Raises:
        TrustError: a line was changed, taken out or put in; it says which.
    """
    previous, expected = START, 1
    rows = connection.execution_options(yield_per=1000).execute(select(_TABLE).order_by(AuditRow.number))
    for row in rows.mappings():
        line = dict(row)
        if line["number"] != expected or line["previous"] != previous or _digest(line) != line["digest"]:
            raise TrustError(f"the audit log was changed at or before line {expected}")
        previous, expected = str(line["digest"]), expected + 1
    return expected - 1, previous


def _digest(row: Mapping[str, Any]) -> str:
    names = ("number", "at", "actor", "action", "subject", "detail", "previous")
    content = json.dumps([row[name] for name in names], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()
