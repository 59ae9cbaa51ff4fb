"""Searching all nodes without keeping polls from their turn: small portions, each sorted, merged as far as needed.

Filtering and sorting 100,000 nodes in one go holds the event loop for a sixth of a second. Here nothing holds it for
more than a portion, and what is beyond the page that is looked at is never put in order.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

from bedplate.serve.view import FleetView, NodeState

# Nodes looked at before polls get their turn: a few milliseconds at most, also on a machine that is busy otherwise.
PORTION = 512

Key = tuple[Any, ...]
_Run = list[tuple[Key, str, NodeState]]


class Found:
    """The nodes that fit. Their order is by key, then by id, as they stood when they were looked at."""

    def __init__(self, runs: list[_Run], counts: Counter[Key]) -> None:
        self._runs = runs
        self.total = counts.total()
        self._counts = counts

    def count(self, key: Key) -> int:
        """How many nodes have this key."""
        return self._counts[key]

    async def part(self, start: int, stop: int) -> list[NodeState]:
        """The nodes from number ``start`` to before ``stop``."""
        merged = heapq.merge(*self._runs)
        skipped = 0
        while skipped < start:
            step = min(PORTION, start - skipped)
            if sum(1 for _ in islice(merged, step)) < step:
                return []
            skipped += step
            await asyncio.sleep(0)
        return [node for _, _, node in islice(merged, max(0, stop - start))]


async def search(view: FleetView, key: Callable[[NodeState], Key | None]) -> Found:
    """Every node ``key`` gives a key for; None leaves a node out. Nodes that come meanwhile are left out too."""
    nodes = list(view.nodes.values())
    runs: list[_Run] = []
    counts: Counter[Key] = Counter()
    for start in range(0, len(nodes), PORTION):
        run: _Run = []
        for node in nodes[start : start + PORTION]:
            found = key(node)
            if found is not None:
                run.append((found, node.id, node))
                counts[found] += 1
        if run:
            run.sort(key=lambda one: one[:2])
            runs.append(run)
        await asyncio.sleep(0)
    return Found(runs, counts)
