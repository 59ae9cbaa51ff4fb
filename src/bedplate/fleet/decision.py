"""The roll-out decision: is this node offered a release now, which one, and why. Pure, total and deterministic.

It can only hold back: what it may offer are the releases of the roll-out, all of them signed elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from bedplate.fleet.policy import Limit, Policy, Ring, RingKind
from bedplate.fleet.throttle import position, share
from bedplate.fleet.values import Fleet, Method, Node, Pace, ReleaseFacts, RingCounts, Rollout, RolloutStatus
from bedplate.fleet.versions import newer
from bedplate.fleet.windows import next_start, start_allowed


class Reason(StrEnum):
    """Why a node is offered a release or not. The ids are stable; sentences are not."""

    OFFER_CANARY = "offer.canary"
    OFFER_FIRST = "offer.first-node"
    OFFER_SHARE = "offer.share"
    OFFER_URGENT = "offer.urgent"
    OFFER_COMPLETE = "offer.complete"
    OFFER_STONE = "offer.stepping-stone"
    OFFER_BASE = "offer.base"
    OFFER_PIN = "offer.pin"
    CURRENT = "hold.current"
    NO_RELEASE = "hold.no-release"
    OTHER_TRACK = "hold.other-track"
    UNKNOWN_RING = "hold.unknown-ring"
    OTHER_CHANNEL = "hold.other-channel"
    NODE_HELD = "hold.node-held"
    PINNED = "hold.pinned"
    PIN_UNKNOWN = "hold.pin-unknown"
    WITHDRAWN = "hold.withdrawn"
    EXPIRED = "hold.expired"
    FELL_BACK = "hold.fell-back"
    NEWER = "hold.newer"
    NOT_ROLLED_BACK = "hold.not-rolled-back"
    FLOOR = "hold.floor"
    PAUSED = "hold.paused"
    STOPPED = "hold.stopped"
    ABORTED = "hold.aborted"
    FIRST_NODE = "hold.first-node"
    RING_WAITS = "hold.ring-waits"
    SHARE = "hold.share"
    FROZEN = "hold.frozen"
    WINDOW = "hold.window"
    AT_ONCE = "hold.at-once"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a node is told. ``release`` is what it is offered, None when it is held. ``until`` is the time from which
    the answer can change by itself, where that is known (a window, the end of a freeze)."""

    release: ReleaseFacts | None
    reason: Reason
    sentence: str
    until: float | None = None

    @property
    def version(self) -> str | None:
        """The offered version, or None."""
        return None if self.release is None else self.release.version


@dataclass(frozen=True, slots=True)
class _Hold:
    reason: Reason
    sentence: str
    until: float | None = None

    def decision(self) -> Decision:
        return Decision(None, self.reason, self.sentence, self.until)


# Reasons that say only "not this release, or not yet": what the channel carried before may still be offered.
_BASE_MAY_FOLLOW = frozenset(
    {
        Reason.WITHDRAWN,
        Reason.EXPIRED,
        Reason.FELL_BACK,
        Reason.FLOOR,
        Reason.PAUSED,
        Reason.STOPPED,
        Reason.ABORTED,
        Reason.FIRST_NODE,
        Reason.RING_WAITS,
        Reason.SHARE,
    }
)


def decide(node: Node, rollout: Rollout | None, fleet: Fleet, now: float) -> Decision:
    """Whether ``node`` is offered a release at ``now``.

    Args:
        node: The node as it just reported itself.
        rollout: The latest roll-out of its ring's channel and its track; None when there never was one.
        fleet: The policy and the counters.
        now: Seconds since 1970-01-01 UTC by the service's clock.

    Returns:
        A decision with a reason and a sentence. It never raises: values that make no sense hold the node.
    """
    ring = fleet.policy.ring(node.ring)
    if ring is None:
        return _Hold(Reason.UNKNOWN_RING, f"the policy has no ring {node.ring!r}").decision()
    if rollout is None:
        return _Hold(Reason.NO_RELEASE, f"channel {ring.channel} carries no release for it").decision()
    held = _node_barrier(node, ring, rollout)
    if held is not None:
        return held.decision()
    if node.pin:
        return _pinned(node, ring, rollout, fleet, now)
    first = _release_barrier(node, rollout.release, now)
    if first is not None and first.reason in (Reason.CURRENT, Reason.NEWER, Reason.NOT_ROLLED_BACK):
        return first.decision()
    wanted, reason = rollout.release, _offer_reason(node, ring, rollout)
    if first is not None and first.reason is Reason.FLOOR:
        stone = _stepping_stone(node, rollout, now)
        if stone is not None:
            wanted, reason, first = stone, Reason.OFFER_STONE, None
    first = first or _rollout_barrier(node, ring, rollout, fleet.policy, now)
    if first is None:
        return _in_time(node, wanted, reason, ring, fleet, now)
    if first.reason in _BASE_MAY_FOLLOW and rollout.base is not None:
        base = rollout.base
        if _release_barrier(node, base, now) is None and newer(rollout.release.version, base.version):
            return _in_time(node, base, Reason.OFFER_BASE, ring, fleet, now)
    return first.decision()


def _node_barrier(node: Node, ring: Ring, rollout: Rollout) -> _Hold | None:
    if node.track != rollout.release.track:
        return _Hold(Reason.OTHER_TRACK, f"the release is for track {rollout.release.track}, the node is {node.track}")
    if ring.channel != rollout.channel:
        return _Hold(Reason.OTHER_CHANNEL, f"ring {ring.name} follows channel {ring.channel}, not {rollout.channel}")
    if node.held:
        return _Hold(Reason.NODE_HELD, f"the node is held: {node.held}")
    return None


def _release_barrier(node: Node, release: ReleaseFacts, now: float) -> _Hold | None:
    """Why this node can never take this release as things are, whatever the roll-out says."""
    version = release.version
    if node.version == version:
        return _Hold(Reason.CURRENT, f"it runs {version}")
    if release.rolls_back:
        if node.version not in release.rolls_back:
            return _Hold(Reason.NOT_ROLLED_BACK, f"{version} is for nodes to come back from a release it does not run")
    elif not newer(version, node.version):
        return _Hold(Reason.NEWER, f"it runs {node.version}, which is newer than {version}")
    if release.withdrawn:
        return _Hold(Reason.WITHDRAWN, f"{version} was withdrawn: {release.withdrawn}")
    if version in node.failed:
        return _Hold(Reason.FELL_BACK, f"it fell back from {version} once and is not offered it again")
    # Written so that a time that is not a number (NaN) holds the node.
    if release.expires is not None and not now < release.expires:
        return _Hold(Reason.EXPIRED, f"{version} expired on {_day(release.expires)}")
    if release.floor and newer(release.floor, node.version):
        return _Hold(Reason.FLOOR, f"{version} needs {release.floor} or newer first, and nothing leads there")
    return None


def _stepping_stone(node: Node, rollout: Rollout, now: float) -> ReleaseFacts | None:
    """The newest release this node can take on its way to the roll-out's, or None."""
    best: ReleaseFacts | None = None
    stones = rollout.stones if rollout.base is None else (*rollout.stones, rollout.base)
    for stone in stones:
        leads_there = not stone.rolls_back and newer(rollout.release.version, stone.version)
        fits = stone.track == node.track and _release_barrier(node, stone, now) is None
        if leads_there and fits and (best is None or newer(stone.version, best.version)):
            best = stone
    return best


def _rollout_barrier(node: Node, ring: Ring, rollout: Rollout, policy: Policy, now: float) -> _Hold | None:
    """Why the roll-out does not reach this node now."""
    version = rollout.release.version
    stands = _standing(rollout)
    if stands is not None:
        return stands
    if rollout.status is RolloutStatus.COMPLETE or rollout.pace is Pace.URGENT:
        return None
    if not rollout.proven:
        if node.id == rollout.first_node:
            return None
        who = f"node {rollout.first_node}" if rollout.first_node else "a first node, still to be chosen,"
        return _Hold(Reason.FIRST_NODE, f"{version} waits until {who} runs it and is healthy")
    now_share = share(rollout, policy, ring, now)
    progress = rollout.rings.get(ring.name)
    if progress is None or progress.active is None:
        return _Hold(Reason.RING_WAITS, f"it is not the turn of ring {ring.name} yet")
    if not position(rollout.release, node.id) < now_share:
        return _Hold(Reason.SHARE, f"{version} has reached {now_share:.1%} of ring {ring.name}, and not this node yet")
    return None


def _standing(rollout: Rollout) -> _Hold | None:
    """Why a roll-out that does not move offers nothing; None while it moves or is complete."""
    why = f": {rollout.why}" if rollout.why else ""
    version = rollout.release.version
    match rollout.status:
        case RolloutStatus.PAUSED:
            return _Hold(Reason.PAUSED, f"the roll-out of {version} is paused{why}")
        case RolloutStatus.STOPPED:
            return _Hold(Reason.STOPPED, f"the roll-out of {version} stopped by itself{why}")
        case RolloutStatus.ABORTED:
            return _Hold(Reason.ABORTED, f"the roll-out of {version} was aborted{why}")
        case RolloutStatus.RUNNING | RolloutStatus.COMPLETE:
            return None


def _pinned(node: Node, ring: Ring, rollout: Rollout, fleet: Fleet, now: float) -> Decision:
    known = {release.version: release for release in _releases(rollout)}
    pinned = known.get(node.pin)
    if node.version == node.pin:
        return _Hold(Reason.PINNED, f"it is pinned to {node.pin} and runs it").decision()
    if pinned is None:
        return _Hold(Reason.PIN_UNKNOWN, f"it is pinned to {node.pin}, which its channel does not carry").decision()
    barrier = _release_barrier(node, pinned, now)
    if barrier is None and pinned is rollout.release:
        barrier = _standing(rollout)
    return barrier.decision() if barrier is not None else _in_time(node, pinned, Reason.OFFER_PIN, ring, fleet, now)


def _releases(rollout: Rollout) -> Iterator[ReleaseFacts]:
    yield from (stone for stone in rollout.stones if stone.track == rollout.release.track)
    if rollout.base is not None:
        yield rollout.base
    yield rollout.release


def _in_time(node: Node, release: ReleaseFacts, reason: Reason, ring: Ring, fleet: Fleet, now: float) -> Decision:
    """Offer ``release`` unless a freeze, a window or the budget of nodes at once says not now."""
    closed = _closed(ring, now, time_needed(node.method, release, fleet.policy), release.version)
    if closed is not None:
        return closed.decision()
    counts = fleet.ring_counts(ring.name)
    if ring.at_once is not None and node.updating != release.version:
        allowed = at_once(ring.at_once, counts)
        if not counts.in_progress + counts.slots < allowed:
            held = f", {counts.slots} hold a reboot slot" if counts.slots else ""
            words = f"{counts.in_progress} nodes of ring {ring.name} are on their way or lost{held}"
            words += f"; {allowed} may be at once"
            return _Hold(Reason.AT_ONCE, words).decision()
    return Decision(release, reason, f"{release.version} is offered: {_OFFER_WORDS[reason]}")


def _closed(ring: Ring, now: float, needed: float, what: str) -> _Hold | None:
    """The freeze or window that is against starting ``what``, which takes ``needed`` seconds."""
    for freeze in ring.freezes:
        if freeze.start.timestamp() <= now < freeze.end.timestamp():
            until = freeze.end.timestamp()
            return _Hold(Reason.FROZEN, f"nothing starts until {_minute(until)}: {freeze.reason}", until)
    if not start_allowed(ring.openings, ring.zone, now, needed):
        start = next_start(ring.openings, ring.zone, now, needed)
        when = f"the next window it fits into opens {_minute(start)}" if start is not None else "no window is that long"
        return _Hold(Reason.WINDOW, f"{what} takes {needed / 60:.0f} min; {when}", start)
    return None


def reboot_barrier(node: Node, ring: Ring, policy: Policy, now: float) -> str:
    """Why ``node`` may not reboot now, in a sentence: it is held, a freeze or a window is against it. Empty: it may."""
    if node.held:
        return f"the node is held: {node.held}"
    found = _closed(ring, now, policy.costs.reboot, "a reboot")
    return found.sentence if found is not None else ""


def at_once(limit: Limit, counts: RingCounts) -> int:
    """How many nodes of a ring may be on their way at once. A share of a ring of unknown size is none of it."""
    if limit.count is not None:
        return limit.count
    allowed = int((limit.share or 0.0) * counts.nodes)
    return max(allowed, 1) if limit.share and counts.nodes > 0 else 0


def time_needed(method: Method, release: ReleaseFacts, policy: Policy) -> float:
    """Seconds that taking ``release`` needs, reboot included: what has to fit into a window."""
    costs = policy.costs
    if method is Method.PACKAGES:
        return costs.packages_fixed + costs.package * max(release.changed_packages, 0) + costs.reboot
    return costs.image + costs.reboot


def _offer_reason(node: Node, ring: Ring, rollout: Rollout) -> Reason:
    if rollout.status is RolloutStatus.COMPLETE:
        return Reason.OFFER_COMPLETE
    if rollout.pace is Pace.URGENT:
        return Reason.OFFER_URGENT
    if not rollout.proven:
        return Reason.OFFER_FIRST
    return Reason.OFFER_CANARY if ring.kind is RingKind.CANARY else Reason.OFFER_SHARE


_OFFER_WORDS = {
    Reason.OFFER_CANARY: "its ring is a canary",
    Reason.OFFER_FIRST: "it is the first node of the roll-out",
    Reason.OFFER_SHARE: "the roll-out has reached it",
    Reason.OFFER_URGENT: "the release is urgent",
    Reason.OFFER_COMPLETE: "the roll-out is complete",
    Reason.OFFER_STONE: "it leads to the release past its floor",
    Reason.OFFER_BASE: "its channel carries it while the newer release is rolled out",
    Reason.OFFER_PIN: "the node is pinned to it",
}


def _day(stamp: float) -> str:
    return _utc(stamp, "%Y-%m-%d")


def _minute(stamp: float) -> str:
    return _utc(stamp, "%Y-%m-%d %H:%M UTC")


def _utc(stamp: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(stamp, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "a day out of reckoning"
