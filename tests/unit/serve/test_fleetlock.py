"""FleetLock: what Zincati sends, what it gets, and who gets a reboot slot."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.fleet.policy import Limit
from bedplate.fleet.reboots import Granted, Refused, Slot, acquire, release
from bedplate.serve.protocols.fleetlock import Client, Kind, Refusal, parse_request

HEADERS = {"fleet-lock-protocol": "true"}


def body(id: object = "3f2b8f5e", group: object = "workers") -> bytes:
    return json.dumps({"client_params": {"id": id, "group": group}}).encode()


def test_request_of_a_client() -> None:
    assert parse_request("POST", HEADERS, body()) == Client("3f2b8f5e", "workers")


@pytest.mark.parametrize(
    ("method", "headers", "sent", "kind", "status"),
    [
        ("GET", HEADERS, body(), Kind.METHOD, 405),
        ("POST", {}, body(), Kind.HEADER, 400),
        ("POST", {"fleet-lock-protocol": "false"}, body(), Kind.HEADER, 400),
        ("POST", HEADERS, b"{", Kind.BODY, 400),
        ("POST", HEADERS, b"[" * 8000, Kind.BODY, 400),
        ("POST", HEADERS, b" " * 9000, Kind.BODY, 400),
        ("POST", HEADERS, b"\xff\xfe", Kind.BODY, 400),
        ("POST", HEADERS, b"[]", Kind.CLIENT, 400),
        ("POST", HEADERS, b"{}", Kind.CLIENT, 400),
        ("POST", HEADERS, body(id=""), Kind.CLIENT, 400),
        ("POST", HEADERS, body(id=7), Kind.CLIENT, 400),
        ("POST", HEADERS, body(id="a\nb"), Kind.CLIENT, 400),
        ("POST", HEADERS, body(group="a/b"), Kind.CLIENT, 400),
        ("POST", HEADERS, body(group=None), Kind.CLIENT, 400),
    ],
)
def test_refusals_carry_kind_and_sentence(
    method: str, headers: dict[str, str], sent: bytes, kind: Kind, status: int
) -> None:
    refusal = parse_request(method, headers, sent)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.status) == (kind, status)
    answer = json.loads(refusal.body())
    assert answer["kind"] == kind.value and answer["value"]


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(sent: bytes) -> None:
    assert isinstance(parse_request("POST", HEADERS, sent), Client | Refusal)


def test_slots_are_recursive_owned_and_not_freed_by_time() -> None:
    first = acquire({}, "a", "workers", Limit(count=1), 10, 0.0, hold=60)
    assert isinstance(first, Granted)
    again = acquire(first.slots, "a", "workers", Limit(count=1), 10, 5.0)
    assert isinstance(again, Granted) and again.slots == first.slots
    late = acquire(first.slots, "b", "workers", Limit(count=1), 10, 61.0)
    assert isinstance(late, Refused)
    assert "held by a" in late.sentence and "overdue: a" in late.sentence
    assert isinstance(acquire(first.slots, "b", "storage", Limit(count=1), 10, 61.0), Granted)
    assert release(first.slots, "b", "workers") == first.slots
    assert release(first.slots, "a", "storage") == first.slots
    assert release(first.slots, "a", "workers") == {}


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=40),
    st.integers(0, 3),
    st.integers(0, 6),
)
def test_never_more_slots_than_the_limit(steps: list[tuple[str, bool]], count: int, nodes: int) -> None:
    slots: dict[str, Slot] = {}
    for limit in (Limit(count=count), Limit(share=0.5)):
        slots = {}
        for holder, takes in steps:
            if takes:
                answer = acquire(slots, holder, "g", limit, nodes, 0.0)
                slots = dict(answer.slots) if isinstance(answer, Granted) else slots
            else:
                slots = dict(release(slots, holder, "g"))
            most = count if limit.count is not None else max(1, nodes // 2) if nodes else 0
            assert len(slots) <= most
