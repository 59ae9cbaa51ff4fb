"""What a roll-out decision is made from: releases, nodes, the roll-out's state, the fleet's counters. No behaviour.

Times are seconds since 1970-01-01 UTC and always the service's, never a node's: a node's clock may be years off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bedplate.fleet.policy import Policy
from bedplate.model.release import Release, Withdrawal


class Method(StrEnum):
    """How a node takes a release: a whole image into the other slot, or packages in place."""

    IMAGE = "image"
    PACKAGES = "packages"


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What a decision needs to know of one signed release.

    Attributes:
        version: The version nodes report once they run it.
        digest: Hex SHA-256 of the signed release: its identity, and the salt of who comes first.
        track: The track it is for.
        floor: A node must run at least this version to take it; empty for any.
        withdrawn: Why it was withdrawn; empty while it is not.
        expires: No longer handed out from this time on; None for never.
        rolls_back: Versions this release takes nodes back from. When not empty, only nodes that run one of them are
            offered it, and its version need not be the newer one.
        changed_packages: How many packages a node that patches in place has to change.
    """

    version: str
    digest: str
    track: str
    floor: str = ""
    withdrawn: str = ""
    expires: float | None = None
    rolls_back: frozenset[str] = frozenset()
    changed_packages: int = 0

    @classmethod
    def of(
        cls, release: Release, digest: str, withdrawal: Withdrawal | None = None, *, changed_packages: int = 0
    ) -> ReleaseFacts:
        """The facts of a verified release; ``digest`` is the hex SHA-256 of its signed manifest."""
        return cls(
            version=release.version,
            digest=digest,
            track=release.track,
            floor=release.floor,
            withdrawn=(withdrawal.reason or "no reason given") if withdrawal is not None else "",
            expires=float(release.expires),
            changed_packages=changed_packages,
        )


@dataclass(frozen=True, slots=True)
class Node:
    """One enrolled node as it last reported itself.

    ``failed`` are versions it fell back from: it is never offered them again. ``updating`` is the version it is in the
    middle of taking, empty when none. ``pin`` is the only version it may be offered, ``held`` why a person holds it.
    """

    id: str
    track: str
    ring: str
    version: str
    failed: frozenset[str] = frozenset()
    updating: str = ""
    pin: str = ""
    held: str = ""
    method: Method = Method.IMAGE


class RolloutStatus(StrEnum):
    """Where a roll-out stands. ``STOPPED`` is by the stop rule and needs a person, ``PAUSED`` is by a person."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    ABORTED = "aborted"
    COMPLETE = "complete"


class Pace(StrEnum):
    """``GRADUAL``: one node first, then ring by ring along each ring's curve. ``URGENT``: every ring at once and in
    full; the stop rule, windows and budgets still hold."""

    GRADUAL = "gradual"
    URGENT = "urgent"


@dataclass(frozen=True, slots=True)
class RingProgress:
    """How far one ring is: ``active`` seconds its curve has run (None: not begun), ``soaked`` seconds it has been
    good enough for the next ring. Both stand still while the roll-out does."""

    active: float | None = None
    soaked: float = 0.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """One release on its way through the rings of one channel.

    Every ring installs the same bytes: the release is part of the roll-out and never changes in it. ``base`` is what
    the channel carried before, offered to nodes that the roll-out does not reach yet. ``stones`` are older releases
    that lead to ``release`` past its floor. ``checked`` is when :func:`bedplate.fleet.running.advance` last ran.
    ``excused_failed`` and ``excused_finished`` are the outcomes a person has seen and gone on from.
    """

    id: str
    channel: str
    release: ReleaseFacts
    base: ReleaseFacts | None = None
    stones: tuple[ReleaseFacts, ...] = ()
    pace: Pace = Pace.GRADUAL
    status: RolloutStatus = RolloutStatus.RUNNING
    why: str = ""
    first_node: str = ""
    proven: bool = False
    rings: Mapping[str, RingProgress] = field(default_factory=dict)
    checked: float = 0.0
    revision: int = 0
    excused_failed: int = 0
    excused_finished: int = 0


@dataclass(frozen=True, slots=True)
class RingCounts:
    """Nodes of one ring (and of the roll-out's track) by where they are with the roll-out's release.

    ``nodes`` are all of the ring; one that is not in any other number has not been offered the release. ``slots`` are
    those that hold a reboot slot and are not on their way to the release: they are down, or about to be.
    """

    nodes: int = 0
    offered: int = 0
    downloading: int = 0
    rebooting: int = 0
    healthy: int = 0
    fell_back: int = 0
    timed_out: int = 0
    slots: int = 0

    @property
    def in_progress(self) -> int:
        """Nodes on their way, or lost on it: what a budget of nodes at once is spent on."""
        return self.offered + self.downloading + self.rebooting + self.timed_out

    @property
    def failed(self) -> int:
        """Nodes that did not come out of it well."""
        return self.fell_back + self.timed_out

    @property
    def finished(self) -> int:
        """Nodes whose outcome is known."""
        return self.healthy + self.failed

    @property
    def reached(self) -> int:
        """Nodes that were offered the release, whatever became of it."""
        return self.in_progress + self.healthy + self.fell_back

    def __add__(self, other: RingCounts) -> RingCounts:
        return RingCounts(
            self.nodes + other.nodes,
            self.offered + other.offered,
            self.downloading + other.downloading,
            self.rebooting + other.rebooting,
            self.healthy + other.healthy,
            self.fell_back + other.fell_back,
            self.timed_out + other.timed_out,
            self.slots + other.slots,
        )


NO_COUNTS = RingCounts()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The policy in force and what the fleet reported, per ring."""

    policy: Policy
    counts: Mapping[str, RingCounts] = field(default_factory=dict)

    def ring_counts(self, ring: str) -> RingCounts:
        """The counters of ``ring``; zeros when nothing is known of it."""
        return self.counts.get(ring, NO_COUNTS)

    def total(self) -> RingCounts:
        """The counters of all rings together."""
        return sum(self.counts.values(), NO_COUNTS)
