"""What the pages show of the fleet: values for the templates, made from the service's view. No I/O here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bedplate.fleet.observing import Stage
from bedplate.fleet.policy import Ring, RingKind
from bedplate.fleet.stopping import Health, health
from bedplate.fleet.throttle import curve, share
from bedplate.fleet.values import Pace, RingCounts, Rollout, RolloutStatus
from bedplate.model.release import Release
from bedplate.model.version import version_key
from bedplate.serve import searching
from bedplate.serve.pages.census import Census
from bedplate.serve.pages.picture import Part, bar
from bedplate.serve.pages.words import count, duration, nodes, percent
from bedplate.serve.searching import Found
from bedplate.serve.view import FleetView, NodeState

MOVING = (RolloutStatus.RUNNING, RolloutStatus.PAUSED, RolloutStatus.STOPPED)


@dataclass(frozen=True, slots=True)
class RingRow:
    """One ring of a roll-out: its counters, its bar, the throttle (None before its turn) and what it waits for."""

    name: str
    kind: str
    counts: RingCounts
    parts: tuple[Part, ...]
    share: float | None
    says: str


@dataclass(frozen=True, slots=True)
class RolloutCard:
    """A roll-out as a card: state in a word, a sentence and a bar."""

    rollout: Rollout
    created: float
    total: RingCounts
    parts: tuple[Part, ...]
    rings: tuple[RingRow, ...]
    health: Health
    limit: str
    says: str

    @property
    def moving(self) -> bool:
        """Whether a person can still steer it."""
        return self.rollout.status in MOVING


@dataclass(frozen=True, slots=True)
class Carried:
    """What a channel carries of one track."""

    channel: str
    title: str
    track: str
    version: str
    since: float
    nodes: int
    running: int
    rings: tuple[str, ...]
    withdrawn: int


def card(view: FleetView, rollout: Rollout, created: float, now: float) -> RolloutCard:
    """A roll-out with the counters of now."""
    fleet = view.fleet(rollout.release.track, rollout.release.version)
    rings = []
    before: Ring | None = None
    total = RingCounts()
    for ring in view.policy.rings_of(rollout.channel):
        counts = fleet.ring_counts(ring.name)
        total = total + counts
        progress = rollout.rings.get(ring.name)
        begun = progress is not None and progress.active is not None
        reached = rollout.pace is Pace.URGENT or rollout.status is RolloutStatus.COMPLETE or begun
        level = share(rollout, view.policy, ring, now) if reached else None
        rings.append(
            RingRow(ring.name, ring.kind.value, counts, bar(counts), level, _ring_says(ring, rollout, counts, before))
        )
        before = ring
    return RolloutCard(
        rollout,
        created,
        total,
        bar(total),
        tuple(rings),
        health(rollout, fleet),
        str(view.policy.stop.limit),
        _says(rollout, total),
    )


def _says(rollout: Rollout, total: RingCounts) -> str:
    """Where a roll-out stands, in a sentence without a final stop."""
    version = rollout.release.version
    match rollout.status:
        case RolloutStatus.COMPLETE:
            return f"{version} has reached every ring; {nodes(total.healthy)} of {count(total.nodes)} run it"
        case RolloutStatus.STOPPED:
            return f"Stopped by itself: {rollout.why}"
        case RolloutStatus.PAUSED:
            return f"Paused{f': {rollout.why}' if rollout.why else ' by a person'}"
        case RolloutStatus.ABORTED:
            return f"Aborted{f': {rollout.why}' if rollout.why else ' by a person'}"
        case RolloutStatus.RUNNING:
            pass
    if not rollout.proven:
        first = rollout.first_node
        return (
            f"Waiting for the first node, {first}, to be healthy" if first else "Waiting for a node that can go first"
        )
    if rollout.pace is Pace.URGENT:
        return f"Urgent: every ring at once; {percent(_part(total.healthy, total.nodes))} of nodes run it"
    return f"{nodes(total.healthy)} of {count(total.nodes)} run it, {count(total.in_progress)} on their way"


def _ring_says(ring: Ring, rollout: Rollout, counts: RingCounts, before: Ring | None) -> str:
    """What a ring does or waits for, in a few words."""
    if not counts.nodes:
        return "no nodes"
    if rollout.pace is Pace.URGENT or rollout.status is RolloutStatus.COMPLETE:
        return "all at once" if rollout.pace is Pace.URGENT else "reached"
    progress = rollout.rings.get(ring.name)
    if progress is None or progress.active is None:
        if before is None:
            return "begins once the first node is healthy"
        return f"begins after {before.name}, healthy for {duration(before.soak)}"
    if counts.healthy >= ring.healthy * counts.nodes and curve(ring, progress.active) >= 1:
        left = ring.soak - progress.soaked
        return f"soaks for another {duration(left)}" if left > 0 else "done"
    if counts.finished >= counts.nodes:
        return f"waits until {percent(ring.healthy)} are healthy"
    if ring.kind is RingKind.CANARY:
        return "all of it sees the release"
    if ring.duration is None:
        return f"held at {percent(ring.start)}"
    left = ring.duration - progress.active
    return f"opens fully in {duration(left)}" if left > 0 else "fully open"


def _part(number: float, whole: float) -> float:
    return number / whole if whole else 0.0


def carried(view: FleetView, census: Census) -> list[Carried]:
    """What every channel carries of every track, channels in the order of their names."""
    shelf = view.shelf
    followers, running = census.followers, census.running
    rows = []
    for name, channel in sorted(shelf.channels.items()):
        tracks = sorted({one.track for one in channel.publications} | {t for c, t in followers if c == name})
        rings = tuple(ring.name for ring in view.policy.rings_of(name))
        for track in tracks:
            version = channel.newest(track) or ""
            since = max(
                (one.at for one in channel.publications if (one.track, one.version) == (track, version)), default=0
            )
            rows.append(
                Carried(
                    name,
                    channel.title,
                    track,
                    version,
                    since,
                    followers[name, track],
                    running[name, track, version],
                    rings,
                    sum(one.track == track for one in channel.withdrawals),
                )
            )
    return rows


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release of the store: the channels that carry it, why it was withdrawn where it was, what a node fetches."""

    release: Release
    digest: str
    channels: tuple[str, ...]
    withdrawn: tuple[tuple[str, str], ...]
    download: int
    running: int
    previous: str


def releases(view: FleetView, census: Census) -> dict[str, list[ReleaseRow]]:
    """Every release of the store by track, newest first."""
    running = census.by_release
    rows: dict[str, list[ReleaseRow]] = {}
    tracks = sorted({track for track, _ in view.shelf.releases})
    for track in tracks:
        versions = sorted((v for t, v in view.shelf.releases if t == track), key=version_key)
        for older, version in zip(["", *versions], versions, strict=False):
            shelved = view.shelf.releases[track, version]
            channels = view.shelf.channels.values()
            rows.setdefault(track, []).insert(
                0,
                ReleaseRow(
                    shelved.release,
                    shelved.facts.digest,
                    tuple(c.name for c in channels if version in c.versions(track)),
                    tuple(
                        (c.name, gone.reason or "no reason given")
                        for c in channels
                        if (gone := c.withdrawn(track, version)) is not None
                    ),
                    sum(one.size for one in shelved.release.artefacts if one.update),
                    running[track, version],
                    older,
                ),
            )
    return rows


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which nodes are looked for; empty: any. ``text`` is found anywhere in id or version."""

    text: str = ""
    ring: str = ""
    track: str = ""
    stage: str = ""
    version: str = ""


async def search(view: FleetView, wanted: Wanted) -> Found:
    """The nodes that fit: those that need attention first, then by id."""
    return await searching.search(view, lambda node: (_rank(node),) if _fits(node, wanted) else None)


def _fits(node: NodeState, wanted: Wanted) -> bool:
    stage = node.attempt.stage.value if node.attempt is not None else ""
    return (
        (not wanted.ring or node.ring == wanted.ring)
        and (not wanted.track or node.track == wanted.track)
        and (not wanted.stage or stage == wanted.stage)
        and (not wanted.version or node.version == wanted.version)
        and (not wanted.text or wanted.text in node.id or wanted.text in node.version)
    )


def _rank(node: NodeState) -> int:
    if node.revoked:
        return 9
    if node.attempt is None:
        return 5
    return {Stage.FELL_BACK: 0, Stage.TIMED_OUT: 1, Stage.RETURNED: 2}.get(
        node.attempt.stage, 3 if node.attempt.stage is not Stage.HEALTHY else 5
    )


def lost(census: Census, rollout: Rollout, limit: int = 8) -> list[NodeState]:
    """Nodes the roll-out's release failed on, newest first."""
    found = list(census.lost.get((rollout.release.track, rollout.release.version), ()))
    found.sort(key=lambda node: -node.attempt.since if node.attempt is not None else 0.0)
    return found[:limit]


def rings_with_nodes(view: FleetView, census: Census) -> list[tuple[Ring, int, dict[str, int]]]:
    """Every ring of the policy with its nodes and the versions they run, most first."""
    rows = []
    for ring in view.policy.rings:
        versions = census.by_ring.get(ring.name, Counter())
        rows.append((ring, versions.total(), dict(versions.most_common(5))))
    return rows
