"""Policies as data: what a file may say, and that all its mistakes come at once."""

from __future__ import annotations

import json
import tomllib

import pytest

from bedplate.fleet.policy import DEFAULT_POLICY, Limit, Policy, RingKind, parse_policy
from bedplate.model.errors import BadInput

GOOD = """
poll = "5m"
timeout = "2h"

[stop]
limit = "2%"
at_least = 5

[[rings]]
name = "canary"
kind = "canary"

[[rings]]
name = "shops"
start = "1%"
duration = "1d12h"
at_once = 20
zone = "Europe/Berlin"
windows = [{ days = ["mon", "tue"], start = "22:30", length = "6h" }]
freezes = [{ start = 2026-12-20T00:00:00+01:00, end = 2027-01-02T00:00:00+01:00, reason = "holidays" }]
"""

BAD = """
pol = "5m"
timeout = "soon"
[stop]
limit = "200%"
[[rings]]
name = "Canary!"
kind = "canary"
[[rings]]
name = "shops"
zone = "Middle/Earth"
windows = [{ days = ["someday"], start = "25:00", length = "6h" }]
freezes = [{ start = 2026-12-20T00:00:00, end = 2026-12-19T00:00:00, reason = "x" }]
"""


def test_everything_a_policy_can_say() -> None:
    policy = parse_policy(GOOD)
    assert policy.stop.limit == Limit(share=0.02)
    canary, shops = policy.rings
    assert canary.kind is RingKind.CANARY
    assert shops.duration == 36 * 3600 and shops.start == 0.01
    assert shops.at_once == Limit(count=20)
    assert len(shops.openings) == 2
    again = parse_policy(json.dumps(tomllib.loads(GOOD), default=str), where="fleet.json")
    assert again == policy


def test_all_mistakes_at_once_with_their_paths() -> None:
    with pytest.raises(BadInput, match="7 mistakes") as caught:
        parse_policy(BAD)
    text = "\n".join(caught.value.details)
    for path in (
        "pol: no such key",
        "timeout:",
        "stop.limit",
        "rings[0].name",
        "rings[1].zone: no time zone 'Middle/Earth'",
        "rings[1].windows[0]",
        "rings[1].freezes[0]",
    ):
        assert path in text, text


def test_two_rings_of_one_name() -> None:
    with pytest.raises(BadInput) as caught:
        parse_policy('[[rings]]\nname = "a"\n[[rings]]\nname = "a"\n')
    assert "ring a is defined twice" in caught.value.details[0]


def test_default_policy_is_one_that_can_be_written_down() -> None:
    assert Policy.model_validate_json(DEFAULT_POLICY.model_dump_json()) == DEFAULT_POLICY
