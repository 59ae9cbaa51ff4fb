"""One count of all nodes for the pages, made in small portions so that no poll waits for it, and kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bedplate.fleet.observing import Stage
from bedplate.serve.searching import PORTION
from bedplate.serve.view import FleetView, NodeState

LOST = (Stage.FELL_BACK, Stage.TIMED_OUT)
# A count is used for at least so many seconds, and for so many times as long as it took.
_KEPT, _KEPT_TIMES = 0.5, 25.0


@dataclass(slots=True)
class Census:
    """The fleet counted once. Revoked nodes are not of the fleet. ``lately``: seconds within which a node counts as
    seen; ``lost``: by track and version, the nodes it failed on."""

    lately: float
    nodes: int = 0
    seen: int = 0
    failed: int = 0
    followers: Counter[tuple[str, str]] = field(default_factory=Counter)
    running: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    by_ring: dict[str, Counter[str]] = field(default_factory=dict)
    by_release: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: dict[tuple[str, str], list[NodeState]] = field(default_factory=dict)

    @property
    def tracks(self) -> list[str]:
        """Every track a node is of."""
        return sorted({track for track, _ in self.by_release})

    def add(self, node: NodeState, channel: str, now: float) -> None:
        """Count one node whose ring follows ``channel``."""
        self.nodes += 1
        self.seen += now - node.seen <= self.lately
        self.followers[channel, node.track] += 1
        self.running[channel, node.track, node.version] += 1
        self.by_release[node.track, node.version] += 1
        versions = self.by_ring.get(node.ring)
        if versions is None:
            versions = self.by_ring[node.ring] = Counter()
        versions[node.version or "unknown"] += 1
        attempt = node.attempt
        if attempt is not None and attempt.stage in LOST:
            self.failed += 1
            self.lost.setdefault((node.track, attempt.version), []).append(node)


async def each(view: FleetView) -> AsyncIterator[NodeState]:
    """Every node, with a pause for polls after each portion. Nodes that come meanwhile are left out."""
    for number, node in enumerate(list(view.nodes.values())):
        if number % PORTION == PORTION - 1:
            await asyncio.sleep(0)
        yield node


class CensusTaker:
    """Counts when asked, unless a recent count will do. One count runs at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._last: Census | None = None
        self._until = 0.0

    async def take(self, view: FleetView, now: float) -> Census:
        """The fleet, counted a moment ago at most."""
        async with self._lock:
            if self._last is None or time.monotonic() >= self._until:
                started = time.monotonic()
                self._last = await self._count(view, now)
                ended = time.monotonic()
                self._until = ended + max(_KEPT, _KEPT_TIMES * (ended - started))
            return self._last

    async def _count(self, view: FleetView, now: float) -> Census:
        census = Census(3 * view.policy.poll)
        channels = {ring.name: ring.channel for ring in view.policy.rings}
        async for node in each(view):
            if not node.revoked:
                census.add(node, channels.get(node.ring, ""), now)
        return census
