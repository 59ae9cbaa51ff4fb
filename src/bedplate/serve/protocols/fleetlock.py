"""FleetLock, version 1: reboot slots asked for by POST with a JSON body, as Zincati and locksmith do.

Source: the FleetLock protocol of the Zincati project (``/v1/pre-reboot``, ``/v1/steady-state``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_BYTES = 8 * 1024
MAX_ID = 128
HEADER = "fleet-lock-protocol"
PRE_REBOOT = "/v1/pre-reboot"
STEADY_STATE = "/v1/steady-state"
_GROUP = re.compile(r"[A-Za-z0-9.-]{1,64}")


class Kind(StrEnum):
    """Kinds of refusals. Clients count them, so there are few and they never change."""

    METHOD = "method_not_allowed"
    HEADER = "missing_protocol_header"
    BODY = "invalid_body"
    CLIENT = "invalid_client_params"
    UNKNOWN_CLIENT = "unknown_client"
    UNKNOWN_GROUP = "unknown_group"
    OFTEN = "too_many_requests"
    FULL = "failed_lock_semaphore_full"
    NOT_NOW = "failed_lock_not_now"
    UNAVAILABLE = "service_unavailable"
    INTERNAL = "internal_error"


_STATUS = {
    Kind.METHOD: 405,
    Kind.HEADER: 400,
    Kind.BODY: 400,
    Kind.CLIENT: 400,
    Kind.UNKNOWN_CLIENT: 403,
    Kind.UNKNOWN_GROUP: 403,
    Kind.OFTEN: 429,
    Kind.FULL: 409,
    Kind.NOT_NOW: 409,
    Kind.UNAVAILABLE: 503,
    Kind.INTERNAL: 500,
}


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: its id, compared case by case, and the group of reboots it belongs to."""

    id: str
    group: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than 200: ``value`` is a sentence that the client logs."""

    kind: Kind
    value: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _STATUS[self.kind]

    def body(self) -> bytes:
        """The JSON body."""
        return json.dumps({"kind": self.kind.value, "value": self.value or self.kind.value}).encode()


def parse_request(method: str, headers: Mapping[str, str], body: bytes) -> Client | Refusal:
    """Read a request to either endpoint; what is wrong with it comes back as the refusal to send.

    ``headers`` are looked up in lower case.
    """
    if method != "POST":
        return Refusal(Kind.METHOD, "reboot slots are asked for by POST")
    if headers.get(HEADER) != "true":
        return Refusal(Kind.HEADER, f"the header {HEADER} must be true")
    if len(body) > MAX_BYTES:
        return Refusal(Kind.BODY, f"the body is larger than {MAX_BYTES} bytes")
    try:
        data: Any = json.loads(body.decode("utf-8", "strict"))
    except (ValueError, RecursionError):
        return Refusal(Kind.BODY, "the body is not JSON in UTF-8")
    params = data.get("client_params") if isinstance(data, dict) else None
    if not isinstance(params, dict):
        return Refusal(Kind.CLIENT, "client_params is missing")
    id, group = params.get("id"), params.get("group")
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID or not id.isprintable():
        return Refusal(Kind.CLIENT, f"client_params.id must be text of 1 to {MAX_ID} printable characters")
    if not isinstance(group, str) or not _GROUP.fullmatch(group):
        return Refusal(Kind.CLIENT, "client_params.group must be 1 to 64 letters, digits, dots or hyphens")
    return Client(id, group)
