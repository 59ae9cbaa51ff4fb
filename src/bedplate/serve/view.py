"""The fleet in memory: every enrolled node, compactly, and the counters decisions need. One thread uses it.

A poll reads and changes only this; what changed is remembered in :attr:`FleetView.dirty` (one entry a node, however
often it polls) for the writer.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bedplate.fleet.observing import FINAL, Attempt, Stage
from bedplate.fleet.policy import DEFAULT_POLICY, Policy
from bedplate.fleet.reboots import Slot
from bedplate.fleet.values import Fleet, Method, Node, RingCounts, Rollout
from bedplate.serve.catalog import Shelf, Shelved

_STAGES = tuple(Stage)
_INDEX = {stage: number for number, stage in enumerate(_STAGES)}
MAX_EVENTS = 200_000


class NodeState:
    """One node. Plain slots: there are as many of these as nodes."""

    __slots__ = (
        "answer",
        "asked",
        "asked_at",
        "attempt",
        "boot",
        "cached",
        "digest",
        "enrolled",
        "expires",
        "failed",
        "fetches",
        "held",
        "id",
        "method",
        "pin",
        "polls",
        "reason",
        "revoked",
        "ring",
        "seen",
        "stored",
        "track",
        "version",
        "window",
    )

    def __init__(self, id: str, digest: bytes, track: str, ring: str) -> None:
        self.id = id
        self.digest = digest
        self.track = sys.intern(track)
        self.ring = sys.intern(ring)
        self.version = ""
        self.boot = ""
        self.seen = 0.0
        # The value of ``seen`` that was last put into the queue to be written.
        self.stored = 0.0
        self.enrolled = 0.0
        self.expires = 0.0
        self.revoked = 0.0
        self.attempt: Attempt | None = None
        self.failed: frozenset[str] = frozenset()
        self.pin = ""
        self.held = ""
        self.method = Method.IMAGE
        # What it was last told: the release whose listing it got, which of its two files, when, at which generation.
        self.answer: Shelved | None = None
        self.asked = 0
        self.asked_at = 0.0
        self.cached = -1
        self.reason = ""
        # Requests in the current minute.
        self.window = 0
        self.polls = 0
        self.fetches = 0

    @property
    def updating(self) -> str:
        """The version it is in the middle of taking, empty when none."""
        attempt = self.attempt
        if attempt is None or attempt.stage in FINAL or attempt.stage is Stage.TIMED_OUT:
            return ""
        return attempt.version

    def as_node(self) -> Node:
        """The node as decisions see it."""
        return Node(
            self.id,
            self.track,
            self.ring,
            self.version,
            self.failed,
            self.updating,
            self.pin,
            self.held,
            self.method,
        )


@dataclass(frozen=True, slots=True)
class NodeChange:
    """One line of a node's history, to be written."""

    node: str
    at: float
    stage: str
    version: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A credential made beforehand that no node has used yet."""

    id: str
    digest: bytes
    track: str
    ring: str
    method: Method
    expires: float


class FleetView:
    """All nodes, roll-outs and the policy, as this instance knows them."""

    def __init__(self, policy: Policy = DEFAULT_POLICY) -> None:
        self.policy = policy
        self.shelf = Shelf()
        self.nodes: dict[str, NodeState] = {}
        self.by_digest: dict[bytes, NodeState] = {}
        self.claims: dict[bytes, Claim] = {}
        # The latest roll-out of each channel and track.
        self.rollouts: dict[tuple[str, str], Rollout] = {}
        self.dirty: dict[str, NodeState] = {}
        self.claimed: dict[str, str] = {}
        self.events: deque[NodeChange] = deque(maxlen=MAX_EVENTS)
        self.moving: dict[str, NodeState] = {}
        # Reboot slots that are held, by node.
        self.slots: dict[str, Slot] = {}
        # Raised whenever an answer that was kept may have become another one.
        self.generation = 0
        # Why nothing new may be offered now, empty when all is well.
        self.in_doubt = ""
        self.withdrawn: frozenset[tuple[str, str, str]] = frozenset()
        self._members: dict[tuple[str, str], int] = {}
        self._stages: dict[tuple[str, str, str], list[int]] = {}
        self._fleets: dict[tuple[str, str], Fleet] = {}
        self._channels: dict[str, str] = {}
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """Put a policy in force."""
        self.policy = policy
        self._channels = {ring.name: ring.channel for ring in policy.rings}
        self._fleets.clear()
        self.generation += 1

    def set_shelf(self, shelf: Shelf) -> None:
        """Put a look at the store in use; withdrawals in it reach the roll-outs."""
        self.shelf = shelf
        self.withdrawn = frozenset(
            (name, one.track, one.version) for name, channel in shelf.channels.items() for one in channel.withdrawals
        )
        for rollout in list(self.rollouts.values()):
            self.set_rollout(rollout)
        self.generation += 1

    def set_rollout(self, rollout: Rollout) -> None:
        """Put a state of a roll-out in use, with what the store says of its releases now."""
        shelf, channel, track = self.shelf, rollout.channel, rollout.release.track
        withdrawals = shelf.channels[channel].withdrawals if channel in shelf.channels else ()
        reasons = {one.version: one.reason or "no reason given" for one in withdrawals if one.track == track}
        if reasons:
            known = (rollout.release, *((rollout.base,) if rollout.base else ()), *rollout.stones)
            fresh = {one.version: replace(one, withdrawn=reasons.get(one.version, "")) for one in known}
            rollout = replace(
                rollout,
                release=fresh[rollout.release.version],
                base=fresh[rollout.base.version] if rollout.base else None,
                stones=tuple(fresh[one.version] for one in rollout.stones),
            )
        self.rollouts[channel, track] = rollout
        self.generation += 1

    def is_withdrawn(self, node: NodeState, version: str) -> bool:
        """Whether the node's channel has withdrawn a version."""
        return (self._channels.get(node.ring, ""), node.track, version) in self.withdrawn

    def rollout_of(self, node: NodeState) -> Rollout | None:
        """The latest roll-out of a node's channel and track."""
        channel = self._channels.get(node.ring)
        return None if channel is None else self.rollouts.get((channel, node.track))

    def add(self, node: NodeState) -> None:
        """Put a node in, in the place of one with the same id."""
        before = self.nodes.get(node.id)
        if before is not None:
            self.remove(before)
        self.nodes[node.id] = node
        self.by_digest[node.digest] = node
        self._count_member(node, 1)
        if node.attempt is not None:
            self._count_stage(node, node.attempt, 1)
            if node.attempt.stage not in FINAL:
                self.moving[node.id] = node

    def remove(self, node: NodeState) -> None:
        """Take a node out."""
        self.nodes.pop(node.id, None)
        if self.by_digest.get(node.digest) is node:
            del self.by_digest[node.digest]
        self._count_member(node, -1)
        if node.attempt is not None:
            self._count_stage(node, node.attempt, -1)
        self.moving.pop(node.id, None)

    def set_attempt(self, node: NodeState, attempt: Attempt | None, now: float, sentence: str = "") -> None:
        """Note where a node stands, in counters and history; ``sentence`` in the place of the usual one there."""
        before = node.attempt
        if before is attempt:
            return
        if before is not None:
            self._count_stage(node, before, -1)
        node.attempt = attempt
        if attempt is None:
            self.moving.pop(node.id, None)
        else:
            self._count_stage(node, attempt, 1)
            if attempt.stage in FINAL:
                self.moving.pop(node.id, None)
            else:
                self.moving[node.id] = node
            if attempt.stage is Stage.FELL_BACK:
                node.failed |= {attempt.version}
            if before is None or before.stage is not attempt.stage or before.version != attempt.version:
                said = sentence or _sentence(node)
                self.events.append(NodeChange(node.id, now, attempt.stage.value, attempt.version, said))
        self.dirty[node.id] = node

    def move(self, node: NodeState, ring: str) -> None:
        """Put a node into another ring."""
        self._count_member(node, -1)
        if node.attempt is not None:
            self._count_stage(node, node.attempt, -1)
        node.ring = sys.intern(ring)
        self._count_member(node, 1)
        if node.attempt is not None:
            self._count_stage(node, node.attempt, 1)
        node.cached = -1

    def fleet(self, track: str, version: str) -> Fleet:
        """The policy and the counters of a track's nodes with regard to a version."""
        fleet = self._fleets.get((track, version))
        if fleet is None:
            fleet = Fleet(self.policy, self.counts(track, version))
            self._fleets[track, version] = fleet
        return fleet

    def set_slot(self, node: str, slot: Slot | None) -> None:
        """Note that a node holds a reboot slot, or none any more."""
        if slot is None:
            self.slots.pop(node, None)
        else:
            self.slots[node] = slot
        self._fleets.clear()

    def in_progress(self, ring: str, *, lost: bool = False) -> frozenset[str]:
        """Nodes of a ring that are on their way to any release or lost on it; only the latter on demand."""
        return frozenset(
            node.id
            for node in self.moving.values()
            if node.ring == ring and node.attempt is not None and (not lost or node.attempt.stage is Stage.TIMED_OUT)
        )

    def members(self, ring: str) -> int:
        """How many nodes a ring has, of all tracks."""
        return sum(count for (_, of_ring), count in self._members.items() if of_ring == ring)

    def counts(self, track: str, version: str) -> Mapping[str, RingCounts]:
        """Counters by ring. Back on the old version, cause unknown yet, counts as still rebooting."""
        found = {}
        waiting: dict[str, int] = {}
        for id, slot in self.slots.items():
            mover = self.moving.get(id)
            if mover is None or mover.attempt is None or mover.attempt.version != version or mover.track != track:
                waiting[slot.group] = waiting.get(slot.group, 0) + 1
        for (of_track, ring), members in self._members.items():
            if of_track != track:
                continue
            n = self._stages.get((track, version, ring), _NOTHING)
            found[ring] = RingCounts(
                nodes=members,
                offered=n[_INDEX[Stage.OFFERED]],
                downloading=n[_INDEX[Stage.DOWNLOADING]],
                rebooting=n[_INDEX[Stage.REBOOTING]] + n[_INDEX[Stage.RETURNED]],
                healthy=n[_INDEX[Stage.HEALTHY]],
                fell_back=n[_INDEX[Stage.FELL_BACK]],
                timed_out=n[_INDEX[Stage.TIMED_OUT]],
                slots=waiting.get(ring, 0),
            )
        return found

    def seen_since(self, since: float) -> Iterable[Node]:
        """Nodes that polled after ``since`` and are not revoked."""
        return (node.as_node() for node in self.nodes.values() if node.seen >= since and not node.revoked)

    def _count_member(self, node: NodeState, by: int) -> None:
        # A revoked node is not of the fleet any more: no success, no failure, no member.
        if node.revoked:
            return
        key = (node.track, node.ring)
        self._members[key] = self._members.get(key, 0) + by
        if not self._members[key]:
            del self._members[key]
        self._fleets.clear()

    def _count_stage(self, node: NodeState, attempt: Attempt, by: int) -> None:
        if node.revoked:
            return
        key = (node.track, attempt.version, node.ring)
        stages = self._stages.get(key)
        if stages is None:
            stages = self._stages[key] = [0] * len(_STAGES)
        stages[_INDEX[attempt.stage]] += by
        if not any(stages):
            del self._stages[key]
        self._fleets.pop((node.track, attempt.version), None)


_NOTHING = (0,) * len(_STAGES)

_WORDS = {
    Stage.OFFERED: "was offered {v}",
    Stage.DOWNLOADING: "downloads {v}",
    Stage.REBOOTING: "has fetched all of {v} and will reboot",
    Stage.RETURNED: "restarted and runs {r}, not {v}",
    Stage.HEALTHY: "runs {v} and is healthy",
    Stage.FELL_BACK: "fell back from {v} to {r}",
    Stage.TIMED_OUT: "was offered {v} and has not come out of it in time",
}


def _sentence(node: NodeState) -> str:
    attempt = node.attempt
    return "" if attempt is None else _WORDS[attempt.stage].format(v=attempt.version, r=node.version or "nothing known")
