"""The roll-out decision: what must hold for any fleet, and what an operator expects in the ordinary cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.fleet.commands import begin
from bedplate.fleet.decision import Reason, decide
from bedplate.fleet.policy import Freeze, Limit, Policy, Ring, RingKind, WindowModel
from bedplate.fleet.throttle import curve, position, share
from bedplate.fleet.values import (
    Fleet,
    Method,
    Node,
    Pace,
    ReleaseFacts,
    RingCounts,
    RingProgress,
    Rollout,
    RolloutStatus,
)
from bedplate.fleet.versions import newer

NOW = 1_800_000_000.0
POLICY = Policy(
    rings=[
        Ring(name="canary", kind=RingKind.CANARY),
        Ring(name="broad", start=0.1, duration=3600.0),
        Ring(name="lab", channel="edge"),
    ]
)
FLEET = Fleet(POLICY, {"canary": RingCounts(nodes=10), "broad": RingCounts(nodes=1000)})
V1 = ReleaseFacts("1.1", "11" * 32, "container")
V2 = ReleaseFacts("1.2", "22" * 32, "container")
NODE = Node("n1", "container", "broad", "1.1")


def running(release: ReleaseFacts = V2, **changes: object) -> Rollout:
    """A proven roll-out whose rings have begun."""
    rings = {"canary": RingProgress(100.0), "broad": RingProgress(1800.0)}
    return Rollout("r", "stable", release, base=V1, proven=True, rings=rings, checked=NOW, **changes)  # type: ignore[arg-type]


versions = st.sampled_from(["", "1.0", "1.1", "1.2", "1.3", "2.0", "nonsense", "²", "9" * 300])
times = st.one_of(
    st.floats(min_value=NOW - 1e6, max_value=NOW + 1e6), st.sampled_from([float("nan"), float("inf"), -1e300, 0.0])
)
releases = st.builds(
    ReleaseFacts,
    version=st.sampled_from(["1.1", "1.2", "1.3", "2.0"]),
    digest=st.sampled_from(["aa" * 32, "bb" * 32]),
    track=st.sampled_from(["container", "server"]),
    floor=st.sampled_from(["", "1.1", "1.2"]),
    withdrawn=st.sampled_from(["", "eats data"]),
    expires=st.one_of(st.none(), times),
    rolls_back=st.frozensets(st.sampled_from(["1.2", "2.0"]), max_size=2),
    changed_packages=st.integers(-5, 500),
)
nodes = st.builds(
    Node,
    id=st.text(max_size=20),
    track=st.sampled_from(["container", "server"]),
    ring=st.sampled_from(["canary", "broad", "lab", "unknown"]),
    version=versions,
    failed=st.frozensets(versions, max_size=3),
    updating=versions,
    pin=versions,
    held=st.sampled_from(["", "on fire"]),
    method=st.sampled_from(Method),
)
progress = st.builds(
    RingProgress, active=st.one_of(st.none(), st.floats(0, 1e7)), soaked=st.floats(0, 1e7, allow_nan=False)
)
rollouts = st.builds(
    Rollout,
    id=st.just("r"),
    channel=st.sampled_from(["stable", "edge"]),
    release=releases,
    base=st.one_of(st.none(), releases),
    stones=st.lists(releases, max_size=2).map(tuple),
    pace=st.sampled_from(Pace),
    status=st.sampled_from(RolloutStatus),
    first_node=st.sampled_from(["", "n1"]),
    proven=st.booleans(),
    rings=st.dictionaries(st.sampled_from(["canary", "broad", "lab"]), progress),
    checked=times,
)


@given(nodes, st.one_of(st.none(), rollouts), times)
def test_invariants_of_every_decision(node: Node, rollout: Rollout | None, now: float) -> None:
    decision = decide(node, rollout, FLEET, now)
    assert decision == decide(node, rollout, FLEET, now)
    assert decision.reason.value.startswith("offer." if decision.version else "hold.")
    assert decision.sentence
    offered = decision.release
    if offered is None:
        return
    assert rollout is not None
    assert offered in (rollout.release, rollout.base, *rollout.stones)
    assert not offered.withdrawn
    assert offered.expires is None or now < offered.expires
    assert offered.version not in node.failed
    assert offered.version != node.version
    assert not (offered.floor and newer(offered.floor, node.version))
    assert newer(offered.version, node.version) or node.version in offered.rolls_back
    assert not node.held
    assert not node.pin or offered.version == node.pin
    ring = POLICY.ring(node.ring)
    assert ring is not None and ring.channel == rollout.channel
    if offered is rollout.release and not node.pin:
        assert rollout.status in (RolloutStatus.RUNNING, RolloutStatus.COMPLETE)
    gradual = rollout.pace is Pace.GRADUAL and rollout.status is not RolloutStatus.COMPLETE
    if offered is rollout.release and gradual and not node.pin:
        if rollout.proven:
            assert position(rollout.release, node.id) < share(rollout, POLICY, ring, now)
        else:
            assert node.id == rollout.first_node


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e6)))
def test_throttle_never_falls_and_stays_a_share(one: float, two: float, start: float, duration: float | None) -> None:
    ring = Ring(name="r", start=start, duration=duration)
    low, high = sorted((one, two))
    assert 0 <= curve(ring, low) <= curve(ring, high) <= 1
    if duration is None:
        assert curve(ring, high) == start


@given(st.floats(NOW - 1e9, NOW + 1e9), st.floats(NOW - 1e9, NOW + 1e9))
def test_clock_years_off_releases_no_more_than_one_step(one: float, two: float) -> None:
    ring = POLICY.rings[1]
    rollout = running()
    most = curve(ring, 1800 + POLICY.watch_step)
    for now in (one, two):
        assert curve(ring, 1800) <= share(rollout, POLICY, ring, now) <= most


def test_node_that_sees_a_release_keeps_seeing_it() -> None:
    seen: set[str] = set()
    for active in range(0, 3700, 100):
        rollout = replace(running(), rings={"broad": RingProgress(float(active))})
        for number in range(300):
            node = replace(NODE, id=f"n{number}")
            offered = decide(node, rollout, FLEET, NOW).version == "1.2"
            assert offered or node.id not in seen
            if offered:
                seen.add(node.id)
    assert len(seen) == 300


def test_different_releases_start_with_different_nodes() -> None:
    def first(release: ReleaseFacts) -> set[str]:
        return {f"n{i}" for i in range(2000) if position(release, f"n{i}") < 0.05}

    assert len(first(V1) & first(V2)) < 20  # 5 expected of 100
    assert 70 < len(first(V1)) < 130


@pytest.mark.parametrize(
    ("rollout", "node", "reason"),
    [
        (None, NODE, Reason.NO_RELEASE),
        (running(), replace(NODE, ring="nowhere"), Reason.UNKNOWN_RING),
        (running(), replace(NODE, ring="lab"), Reason.OTHER_CHANNEL),
        (running(), replace(NODE, track="server"), Reason.OTHER_TRACK),
        (running(), replace(NODE, version="1.2"), Reason.CURRENT),
        (running(), replace(NODE, version="3"), Reason.NEWER),
        (running(), replace(NODE, held="disk is failing"), Reason.NODE_HELD),
        (running(), replace(NODE, failed=frozenset({"1.2"})), Reason.FELL_BACK),
        (running(), replace(NODE, ring="canary"), Reason.OFFER_CANARY),
        (running(status=RolloutStatus.PAUSED), replace(NODE, ring="canary"), Reason.PAUSED),
        (running(status=RolloutStatus.STOPPED, why="3 nodes failed"), NODE, Reason.STOPPED),
        (running(status=RolloutStatus.ABORTED), NODE, Reason.ABORTED),
        (running(status=RolloutStatus.COMPLETE), NODE, Reason.OFFER_COMPLETE),
        (running(pace=Pace.URGENT), NODE, Reason.OFFER_URGENT),
        (running(replace(V2, withdrawn="eats data")), NODE, Reason.WITHDRAWN),
        (running(replace(V2, expires=NOW)), NODE, Reason.EXPIRED),
        (running(replace(V2, floor="1.1.5")), NODE, Reason.FLOOR),
        (running(), replace(NODE, pin="1.1"), Reason.PINNED),
        (running(), replace(NODE, pin="1.2"), Reason.OFFER_PIN),
        (running(), replace(NODE, pin="7"), Reason.PIN_UNKNOWN),
    ],
)
def test_reasons(rollout: Rollout | None, node: Node, reason: Reason) -> None:
    assert decide(node, rollout, FLEET, NOW).reason is reason


def test_first_node_only_until_it_is_healthy() -> None:
    rollout = replace(running(), proven=False, first_node="n7", rings={})
    assert decide(replace(NODE, id="n7", ring="canary"), rollout, FLEET, NOW).reason is Reason.OFFER_FIRST
    held = decide(replace(NODE, ring="canary"), rollout, FLEET, NOW)
    assert (held.reason, held.version) == (Reason.FIRST_NODE, None)
    assert "n7" in held.sentence


def test_late_node_gets_what_the_channel_carried_while_the_new_release_is_stopped() -> None:
    stopped = running(status=RolloutStatus.STOPPED)
    decision = decide(replace(NODE, version="1.0"), stopped, FLEET, NOW)
    assert (decision.version, decision.reason) == ("1.1", Reason.OFFER_BASE)


def test_floor_is_passed_through_the_newest_stepping_stone() -> None:
    stones = tuple(ReleaseFacts(version, version, "container") for version in ("1.0.1", "1.0.5", "1.0.3"))
    rollout = replace(running(replace(V2, floor="1.0.4"), status=RolloutStatus.COMPLETE), stones=stones, base=None)
    decision = decide(replace(NODE, version="1.0"), rollout, FLEET, NOW)
    assert (decision.version, decision.reason) == ("1.0.5", Reason.OFFER_STONE)


def test_rollback_reaches_only_nodes_with_the_bad_release() -> None:
    back = replace(V1, rolls_back=frozenset({"1.2"}))
    rollout = begin("r", "stable", back, NOW, pace=Pace.URGENT)
    assert decide(replace(NODE, version="1.2"), rollout, FLEET, NOW).version == "1.1"
    assert decide(replace(NODE, version="1.0"), rollout, FLEET, NOW).reason is Reason.NOT_ROLLED_BACK


def test_freeze_says_why_and_until_when() -> None:
    freeze = Freeze.model_validate(
        {"start": "2027-01-15T00:00:00+00:00", "end": "2027-01-16T00:00:00+00:00", "reason": "year-end close"}
    )
    fleet = Fleet(Policy(rings=[Ring(name="broad", kind=RingKind.CANARY, freezes=[freeze])]))
    decision = decide(NODE, running(), fleet, NOW)
    assert decision.reason is Reason.FROZEN
    assert "year-end close" in decision.sentence
    assert decision.until == freeze.end.timestamp()


def test_nothing_starts_that_cannot_end_inside_the_window() -> None:
    # 2027-01-15 is a Friday; NOW is 08:00 UTC.
    window = WindowModel(days=["fri"], start="08:00", length=3600.0)
    fleet = Fleet(Policy(rings=[Ring(name="broad", kind=RingKind.CANARY, windows=[window])]))
    # 5 min + 90 s a package + 15 min: 26 packages take 59 min, 27 take 60.5.
    for packages, fits in ((26, True), (27, False)):
        rollout = running(replace(V2, changed_packages=packages))
        node = replace(NODE, method=Method.PACKAGES)
        decision = decide(node, rollout, fleet, NOW)
        assert (decision.version is not None) == fits
        assert fits or decision.reason is Reason.WINDOW
    assert decide(NODE, running(), fleet, NOW + 1800).version == "1.2"
    late = decide(NODE, running(), fleet, NOW + 3000)
    assert (late.reason, late.until) == (Reason.WINDOW, NOW + 7 * 86400)


@pytest.mark.parametrize(
    ("limit", "counts", "offered"),
    [
        (Limit(count=2), RingCounts(nodes=10, offered=1), True),
        (Limit(count=2), RingCounts(nodes=10, offered=1, rebooting=1), False),
        (Limit(count=2), RingCounts(nodes=10, timed_out=2), False),
        (Limit(share=0.2), RingCounts(nodes=10, downloading=1), True),
        (Limit(share=0.2), RingCounts(nodes=10, downloading=2), False),
        (Limit(share=0.01), RingCounts(nodes=10), True),
        (Limit(share=0.5), RingCounts(nodes=0), False),
        (Limit(count=0), RingCounts(nodes=10), False),
    ],
)
def test_lost_nodes_count_against_how_many_may_be_on_their_way(limit: Limit, counts: RingCounts, offered: bool) -> None:
    fleet = Fleet(Policy(rings=[Ring(name="broad", kind=RingKind.CANARY, at_once=limit)]), {"broad": counts})
    decision = decide(NODE, running(), fleet, NOW)
    assert (decision.version is not None) == offered
    assert offered or decision.reason is Reason.AT_ONCE
    # A node that is already on its way is not held by the places that it takes itself.
    assert decide(replace(NODE, updating="1.2"), running(), fleet, NOW).version == "1.2"
