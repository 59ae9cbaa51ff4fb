"""The simulation: the curve is followed, a bad release is stopped early, windows and budgets hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bedplate.fleet.policy import DEFAULT_POLICY, Limit, Policy, Ring, RingKind, WindowModel
from bedplate.fleet.simulation import Scenario, simulate
from bedplate.fleet.values import RolloutStatus
from bedplate.model.errors import BadInput

ONE_RING = Policy(rings=[Ring(name="all", start=0.0, duration=6 * 3600.0, soak=0.0)])


def test_share_follows_the_throttle_and_everybody_is_reached() -> None:
    outcome = simulate(ONE_RING, Scenario(nodes=20_000))
    assert outcome.rollout.status is RolloutStatus.COMPLETE
    assert outcome.deviation["all"] < 0.01
    assert outcome.wrong == 0
    assert outcome.total.healthy == 20_000
    for sample in outcome.samples:
        counts = sample.counts["all"]
        assert counts.reached / counts.nodes <= sample.throttle["all"] + 0.01
        assert min(counts.offered, counts.downloading, counts.rebooting, counts.healthy) >= 0


def test_same_seed_same_outcome() -> None:
    scenario = Scenario(nodes=500, fails=0.002)
    assert simulate(DEFAULT_POLICY, scenario).to_json() == simulate(DEFAULT_POLICY, scenario).to_json()


@pytest.mark.parametrize("seed", range(3))
def test_two_percent_of_failures_stop_it_before_one_percent_has_it(seed: int) -> None:
    outcome = simulate(DEFAULT_POLICY, Scenario(nodes=100_000, fails=0.02, seed=seed))
    assert outcome.rollout.status is RolloutStatus.STOPPED
    assert "failed with 2" in outcome.rollout.why
    assert outcome.reached < 0.01


def test_nodes_that_never_come_back_stop_it_too() -> None:
    outcome = simulate(DEFAULT_POLICY, Scenario(nodes=20_000, lost=0.1))
    assert outcome.rollout.status is RolloutStatus.STOPPED
    assert "did not come back in time" in outcome.rollout.why


def test_nothing_starts_outside_the_windows() -> None:
    window = WindowModel(days=["mon", "tue", "wed", "thu", "fri"], start="02:00", length=4 * 3600.0)
    policy = Policy(rings=[Ring(name="all", kind=RingKind.CANARY, soak=0.0, windows=[window])])
    outcome = simulate(policy, Scenario(nodes=5_000))
    assert outcome.total.healthy == 5_000
    before = 0
    for sample in outcome.samples:
        reached = sample.counts["all"].reached
        moment = datetime.fromtimestamp(1_800_000_000.0 + sample.at, UTC)
        if reached > before:
            assert moment.weekday() < 5 and 2 <= moment.hour < 6, moment
        before = reached


def test_never_more_at_once_than_the_budget() -> None:
    policy = Policy(rings=[Ring(name="all", kind=RingKind.CANARY, soak=0.0, at_once=Limit(share=0.05))])
    outcome = simulate(policy, Scenario(nodes=2_000))
    assert outcome.total.healthy == 2_000
    assert max(sample.counts["all"].in_progress for sample in outcome.samples) == 100


def test_scenarios_that_make_no_sense() -> None:
    for scenario in (
        Scenario(nodes=0),
        Scenario(nodes=10, fails=1.5),
        Scenario(nodes=10, fails=0.6, lost=0.6),
        Scenario(nodes=10, shares={"nobody": 0.1}),
        Scenario(nodes=10, days=0),
    ):
        with pytest.raises(BadInput):
            simulate(DEFAULT_POLICY, scenario)
    with pytest.raises(BadInput, match="no ring"):
        simulate(DEFAULT_POLICY, replace(Scenario(nodes=10)), channel="edge")
