"""A roll-out from its beginning to its end, its stop by itself, and people's commands."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.fleet.commands import Command, apply, begin, roll_back
from bedplate.fleet.observing import Report, Stage, on_fetch, on_fetched, on_offer, on_report, on_time
from bedplate.fleet.policy import Limit, Policy, Ring, RingKind, StopRule
from bedplate.fleet.running import NoteKind, advance, choose_first
from bedplate.fleet.stopping import must_stop
from bedplate.fleet.throttle import share
from bedplate.fleet.values import Fleet, Node, Pace, ReleaseFacts, RingCounts, Rollout, RolloutStatus
from bedplate.model.errors import BadInput

NOW = 1_800_000_000.0
POLICY = Policy(
    rings=[
        Ring(name="canary", kind=RingKind.CANARY, soak=600.0),
        Ring(name="broad", start=0.1, duration=1000.0, soak=0.0),
    ]
)
V1 = ReleaseFacts("1", "11" * 32, "container")
V2 = ReleaseFacts("2", "22" * 32, "container")
NODES = tuple(Node(f"n{number}", "container", "canary", "1") for number in range(20))


def fleet(canary: RingCounts | None = None, broad: RingCounts | None = None, policy: Policy = POLICY) -> Fleet:
    return Fleet(policy, {"canary": canary or RingCounts(20), "broad": broad or RingCounts(1000)})


def kinds(notes: object) -> list[NoteKind]:
    return [note.kind for note in notes]  # type: ignore[attr-defined]


def test_from_first_node_to_complete() -> None:
    step = choose_first(begin("r", "stable", V2, NOW), fleet(), NODES, NOW)
    first = step.rollout.first_node
    assert first
    assert choose_first(step.rollout, fleet(), reversed(NODES), NOW + 60).rollout is step.rollout
    waiting = advance(step.rollout, fleet(), NOW + 100)
    assert not waiting.notes and not waiting.rollout.proven
    proven = advance(waiting.rollout, fleet(RingCounts(20, healthy=1)), NOW + 200)
    assert kinds(proven.notes) == [NoteKind.PROVEN, NoteKind.RING_BEGINS]
    canary_done = fleet(RingCounts(20, healthy=20))
    rollout = proven.rollout
    for second in range(260, 1000, 60):
        rollout = advance(rollout, canary_done, NOW + second).rollout
    assert rollout.rings["broad"].active is not None
    assert rollout.status is RolloutStatus.RUNNING
    done = fleet(RingCounts(20, healthy=20), RingCounts(1000, healthy=950))
    for second in range(1000, 3000, 100):
        rollout = advance(rollout, done, NOW + second).rollout
    assert rollout.status is RolloutStatus.COMPLETE


def test_next_ring_waits_for_the_soak_and_soaking_starts_anew_when_nodes_fall_out() -> None:
    good, bad = fleet(RingCounts(20, healthy=20)), fleet(RingCounts(20, healthy=10))
    rollout = advance(begin("r", "stable", V2, NOW), good, NOW + 1).rollout
    rollout = advance(rollout, good, NOW + 301).rollout
    rollout = advance(rollout, bad, NOW + 500).rollout
    rollout = advance(rollout, good, NOW + 800).rollout
    assert "broad" not in rollout.rings
    rollout = advance(advance(rollout, good, NOW + 1100).rollout, good, NOW + 1101).rollout
    assert "broad" in rollout.rings


def test_first_node_that_failed_is_replaced_and_one_on_its_way_is_not() -> None:
    rollout = choose_first(begin("r", "stable", V2, NOW), fleet(), NODES, NOW).rollout
    first = rollout.first_node
    on_its_way = [replace(n, updating="2") if n.id == first else n for n in NODES]
    assert choose_first(rollout, fleet(), on_its_way, NOW).rollout.first_node == first
    failed = [replace(n, failed=frozenset({"2"})) if n.id == first else n for n in NODES]
    assert choose_first(rollout, fleet(), failed, NOW).rollout.first_node not in ("", first)
    assert choose_first(rollout, fleet(), [], NOW).rollout.first_node == ""


def test_killed_service_goes_on_from_what_is_stored_and_the_outage_does_not_count() -> None:
    rollout = advance(begin("r", "stable", V2, NOW, pace=Pace.GRADUAL), fleet(RingCounts(0, healthy=1)), NOW).rollout
    before = share(rollout, POLICY, POLICY.rings[1], NOW)
    assert share(rollout, POLICY, POLICY.rings[1], NOW + 10 * 86400) <= before + 0.9 * POLICY.watch_step / 1000 + 1e-9


@pytest.mark.parametrize(
    ("limit", "counts", "stops"),
    [
        (Limit(count=5), RingCounts(1000, healthy=10, fell_back=4), False),
        (Limit(count=5), RingCounts(1000, healthy=10, fell_back=3, timed_out=2), True),
        (Limit(share=0.01), RingCounts(1000, healthy=0, fell_back=2), False),
        (Limit(share=0.01), RingCounts(1000, healthy=297, fell_back=3), True),
        (Limit(share=0.01), RingCounts(1000, healthy=298, fell_back=3), False),
        (Limit(share=0.01), RingCounts(1000, healthy=1, timed_out=3), True),
        (Limit(count=0), RingCounts(1000), False),
    ],
)
def test_stop_rule(limit: Limit, counts: RingCounts, stops: bool) -> None:
    state = fleet(broad=counts, policy=POLICY.model_copy(update={"stop": StopRule(limit=limit)}))
    step = advance(begin("r", "stable", V2, NOW), state, NOW + 1)
    assert (step.rollout.status is RolloutStatus.STOPPED) == stops
    assert (NoteKind.STOPPED in kinds(step.notes)) == stops
    assert not stops or ("failed with 2" in step.rollout.why and "limit" in step.rollout.why)


def test_going_on_excuses_what_was_seen_and_stops_again_on_more() -> None:
    bad = fleet(broad=RingCounts(1000, healthy=100, fell_back=5))
    stopped = advance(begin("r", "stable", V2, NOW), bad, NOW + 1).rollout
    on = apply(stopped, Command.RESUME, bad, NOW + 2, revision=stopped.revision)
    again = advance(on, bad, NOW + 3).rollout
    assert again.status is RolloutStatus.RUNNING
    worse = fleet(broad=RingCounts(1000, healthy=110, fell_back=8))
    assert "3 of 13 nodes" in must_stop(again, worse)


def test_two_operators_press_opposite_buttons() -> None:
    rollout = begin("r", "stable", V2, NOW)
    paused = apply(rollout, Command.PAUSE, fleet(), NOW, revision=rollout.revision, why="lunch")
    assert (paused.status, paused.why) == (RolloutStatus.PAUSED, "lunch")
    with pytest.raises(BadInput, match="changed since you looked"):
        apply(paused, Command.ABORT, fleet(), NOW, revision=rollout.revision)
    with pytest.raises(BadInput, match="cannot pause"):
        apply(paused, Command.PAUSE, fleet(), NOW, revision=paused.revision)


@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.sampled_from(["tick", "pause", "resume"])), max_size=30))
def test_share_never_falls_whatever_clock_and_operators_do(steps: list[tuple[float, str]]) -> None:
    state = fleet(RingCounts(0, healthy=1))
    rollout = advance(begin("r", "stable", V2, NOW), state, NOW).rollout
    now, last = NOW, 0.0
    for change, what in steps:
        now += change
        if what == "tick":
            rollout = advance(rollout, state, now).rollout
        elif what == "pause" and rollout.status is RolloutStatus.RUNNING:
            rollout = apply(rollout, Command.PAUSE, state, now, revision=rollout.revision)
        elif what == "resume" and rollout.status is RolloutStatus.PAUSED:
            rollout = apply(rollout, Command.RESUME, state, now, revision=rollout.revision)
        level = share(rollout, POLICY, POLICY.rings[1], rollout.checked)
        assert last <= level <= share(rollout, POLICY, POLICY.rings[1], now + 1) <= 1
        last = level


def test_what_follows_a_roll_out_that_did_not_end_well_starts_from_what_the_channel_carried() -> None:
    complete = replace(begin("r1", "stable", V1, NOW), status=RolloutStatus.COMPLETE)
    stopped = replace(begin("r2", "stable", V2, NOW, previous=complete), status=RolloutStatus.STOPPED)
    assert stopped.base == V1
    assert begin("r3", "stable", replace(V2, version="3"), NOW, previous=stopped).base == V1
    back = roll_back("r4", stopped, V1, NOW)
    assert back.release.rolls_back == {"2"} and back.pace is Pace.URGENT and back.proven
    with pytest.raises(BadInput, match="withdrawn"):
        begin("r5", "stable", replace(V2, withdrawn="eats data"), NOW)
    with pytest.raises(BadInput, match="already carries"):
        begin("r6", "stable", V1, NOW, previous=complete)


def test_polls_tell_healthy_fallen_back_and_lost_apart() -> None:
    offered = on_offer(None, "2", NOW)
    assert on_offer(offered, "2", NOW + 5) == offered
    fetched = on_fetched(on_fetch(offered, "boot-a", NOW + 1), "boot-a", NOW + 30)
    assert fetched.stage is Stage.REBOOTING
    same_boot = on_report(fetched, Report("1", "boot-a"), NOW + 60)
    assert same_boot.stage is Stage.REBOOTING
    assert on_report(same_boot, Report("2", "boot-b"), NOW + 90).stage is Stage.HEALTHY
    returned = on_report(same_boot, Report("1", "boot-b"), NOW + 90)
    assert returned.stage is Stage.RETURNED
    # The power failed before it was installed: it fetches again, and that is no failure.
    assert on_fetch(returned, "boot-b", NOW + 91).stage is Stage.DOWNLOADING
    # It is offered again and fetches nothing: it has it, and came back from it.
    assert on_report(returned, Report("1", "boot-b"), NOW + 390).stage is Stage.FELL_BACK
    said = on_report(offered, Report("1", "boot-b", frozenset({"2"})), NOW + 90)
    assert said.stage is Stage.FELL_BACK
    assert on_time(offered, 100, NOW + 99).stage is Stage.OFFERED
    lost = on_time(offered, 100, NOW + 100)
    assert lost.stage is Stage.TIMED_OUT
    assert on_report(lost, Report("2"), NOW + 500).stage is Stage.HEALTHY


def test_urgent_release_is_complete_when_enough_nodes_run_it_however_slow_the_curves_are() -> None:
    rollout = begin("r", "stable", V2, NOW, pace=Pace.URGENT)
    half, most = RingCounts(1000, healthy=500), RingCounts(1000, healthy=900)
    rollout = advance(rollout, fleet(RingCounts(20, healthy=20), half), NOW + 60).rollout
    assert rollout.status is RolloutStatus.RUNNING
    assert set(rollout.rings) == {"canary", "broad"}
    rollout = advance(rollout, fleet(RingCounts(20, healthy=20), most), NOW + 120).rollout
    assert rollout.status is RolloutStatus.COMPLETE


def test_rollout_of_a_channel_without_nodes_completes_only_when_something_proved_it() -> None:
    empty = Fleet(POLICY, {})
    rollout: Rollout = begin("r", "stable", V2, NOW)
    for second in range(0, 5000, 300):
        rollout = advance(rollout, empty, NOW + second).rollout
    assert rollout.status is RolloutStatus.RUNNING and not rollout.proven
