"""Looking after a roll-out: from its state and what the fleet reported to its next state. Pure; called at intervals.

Whoever calls it stores the result before acting on it, so a service killed at any point goes on from what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from bedplate.fleet.decision import decide
from bedplate.fleet.policy import Policy, Ring
from bedplate.fleet.stopping import must_stop
from bedplate.fleet.throttle import curve, position, watched, with_clocks_run
from bedplate.fleet.values import Fleet, Node, Pace, RingCounts, RingProgress, Rollout, RolloutStatus


class NoteKind(StrEnum):
    """What happened to a roll-out by itself."""

    PROVEN = "proven"
    RING_BEGINS = "ring-begins"
    STOPPED = "stopped"
    COMPLETE = "complete"
    FIRST_CHOSEN = "first-chosen"


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened, for the audit log: an id, the ring when it is about one, a sentence."""

    kind: NoteKind
    sentence: str
    ring: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The roll-out after one look at the fleet, and what happened."""

    rollout: Rollout
    notes: tuple[Note, ...] = ()


def advance(rollout: Rollout, fleet: Fleet, now: float) -> Step:
    """Let time pass up to ``now``: clocks of the curves, stop rule, first node healthy, next ring, completion.

    Only a roll-out that is running changes. Time since the last look counts up to the policy's ``watch_step``; a clock
    that went back counts as no time.
    """
    if rollout.status is not RolloutStatus.RUNNING:
        return Step(rollout)
    policy = fleet.policy
    elapsed = watched(rollout, policy, now)
    rollout = with_clocks_run(rollout, policy, now)
    rings = dict(rollout.rings)
    why = must_stop(rollout, fleet)
    if why:
        stopped = replace(rollout, status=RolloutStatus.STOPPED, why=why, revision=rollout.revision + 1)
        return Step(stopped, (Note(NoteKind.STOPPED, f"stopped: {why}"),))
    notes: list[Note] = []
    proven = rollout.proven or rollout.pace is Pace.URGENT or fleet.total().healthy > 0
    if proven and not rollout.proven:
        words = "an urgent release waits for no first node" if rollout.pace is Pace.URGENT else "the first node is well"
        notes.append(Note(NoteKind.PROVEN, words))
    if proven:
        _begin_rings(rings, rollout, fleet, elapsed, notes)
    done = proven and _all_done(rings, rollout, policy, fleet)
    if done:
        notes.append(Note(NoteKind.COMPLETE, f"{rollout.release.version} has reached every ring"))
    after = replace(
        rollout,
        rings=rings,
        proven=proven,
        status=RolloutStatus.COMPLETE if done else rollout.status,
        revision=rollout.revision + 1 if notes else rollout.revision,
    )
    return Step(after, tuple(notes))


def _begin_rings(
    rings: dict[str, RingProgress], rollout: Rollout, fleet: Fleet, elapsed: float, notes: list[Note]
) -> None:
    """Begin the first ring, and each further one when the one before it is good and has soaked."""
    urgent = rollout.pace is Pace.URGENT
    open_so_far = True
    for ring in fleet.policy.rings_of(rollout.channel):
        progress = rings.get(ring.name, RingProgress())
        if progress.active is None:
            if not open_so_far:
                return
            progress = RingProgress(active=0.0)
            notes.append(Note(NoteKind.RING_BEGINS, f"ring {ring.name} begins", ring.name))
        elif is_good(ring, progress, fleet.ring_counts(ring.name), rollout.pace):
            progress = replace(progress, soaked=progress.soaked + elapsed)
        else:
            progress = replace(progress, soaked=0.0)
        rings[ring.name] = progress
        open_so_far = urgent or _has_soaked(ring, progress, fleet, rollout.pace)


def is_good(ring: Ring, progress: RingProgress, counts: RingCounts, pace: Pace = Pace.GRADUAL) -> bool:
    """Whether all of a ring may see the release and enough of its nodes run it. A ring without nodes is good."""
    if progress.active is None:
        return False
    if not counts.nodes:
        return True
    open_fully = pace is Pace.URGENT or curve(ring, progress.active) >= 1.0
    return open_fully and counts.healthy >= ring.healthy * counts.nodes


def _has_soaked(ring: Ring, progress: RingProgress, fleet: Fleet, pace: Pace) -> bool:
    counts = fleet.ring_counts(ring.name)
    if not counts.nodes:
        return True
    return is_good(ring, progress, counts, pace) and progress.soaked >= ring.soak


def _all_done(rings: Mapping[str, RingProgress], rollout: Rollout, policy: Policy, fleet: Fleet) -> bool:
    followers = policy.rings_of(rollout.channel)
    return bool(followers) and all(
        ring.name in rings and is_good(ring, rings[ring.name], fleet.ring_counts(ring.name), rollout.pace)
        for ring in followers
    )


def choose_first(rollout: Rollout, fleet: Fleet, nodes: Iterable[Node], now: float) -> Step:
    """Choose the one node that takes the release before all others, from nodes that were seen lately.

    It is the first in the order of the release of those that would be offered it, in the earliest ring that has one.
    A roll-out that is proven, does not run, or whose first node is still on its way is left alone; one whose
    first node is not among ``nodes`` any more, or would no longer be offered the release, gets another.
    """
    if rollout.proven or rollout.pace is Pace.URGENT or rollout.status is not RolloutStatus.RUNNING:
        return Step(rollout)
    order = {ring.name: number for number, ring in enumerate(fleet.policy.rings_of(rollout.channel))}
    best: tuple[int, float, str] | None = None
    for node in nodes:
        if node.ring not in order or node.pin or not _would_be_first(node, rollout, fleet, now):
            continue
        if node.id == rollout.first_node:
            return Step(rollout)
        rank = (order[node.ring], position(rollout.release, node.id), node.id)
        best = rank if best is None or rank < best else best
    chosen = best[2] if best is not None else ""
    if chosen == rollout.first_node:
        return Step(rollout)
    after = replace(rollout, first_node=chosen, revision=rollout.revision + 1)
    words = f"node {chosen} goes first" if chosen else "no node can go first now"
    return Step(after, (Note(NoteKind.FIRST_CHOSEN, words),))


def _would_be_first(node: Node, rollout: Rollout, fleet: Fleet, now: float) -> bool:
    if node.updating == rollout.release.version:
        return node.id == rollout.first_node
    decision = decide(node, replace(rollout, first_node=node.id), fleet, now)
    return decision.version == rollout.release.version
