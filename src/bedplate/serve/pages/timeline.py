"""A roll-out in time: how many nodes were in which stage at each moment, from the history nodes wrote. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.fleet.observing import Stage

STAGES = (
    Stage.HEALTHY,
    Stage.REBOOTING,
    Stage.DOWNLOADING,
    Stage.OFFERED,
    Stage.TIMED_OUT,
    Stage.FELL_BACK,
)
_INDEX = {stage.value: number for number, stage in enumerate(STAGES)}
# Back on the old version, cause unknown: still counted with those that reboot, as everywhere.
_INDEX[Stage.RETURNED.value] = _INDEX[Stage.REBOOTING.value]
RESOLUTION = 5.0


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a node's history: its number in the log, which node, when, which stage."""

    number: int
    node: str
    at: float
    stage: str


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet at a time: nodes in each of :data:`STAGES`."""

    at: float
    counts: tuple[int, ...]

    @property
    def reached(self) -> int:
        """Nodes that were offered the release."""
        return sum(self.counts)


class Timeline:
    """Counts over time for one roll-out, fed with changes in the order of their numbers."""

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.last = 0
        self._stage: dict[str, int] = {}
        self._deltas: dict[int, list[int]] = {}

    def take(self, changes: Iterable[Change]) -> None:
        """Add what happened. Stages that are not known are left out."""
        for change in changes:
            self.last = max(self.last, change.number)
            stage = _INDEX.get(change.stage)
            before = self._stage.get(change.node)
            if stage is None or stage == before:
                continue
            slot = max(0, int((change.at - self.begun) // RESOLUTION))
            delta = self._deltas.get(slot)
            if delta is None:
                delta = self._deltas[slot] = [0] * len(STAGES)
            delta[stage] += 1
            if before is not None:
                delta[before] -= 1
            self._stage[change.node] = stage

    def moments(self, until: float, points: int = 160) -> list[Moment]:
        """The counts at up to ``points`` evenly spaced times from the beginning to ``until``."""
        span = max(until - self.begun, RESOLUTION)
        step = span / points
        counts = [0] * len(STAGES)
        slots = sorted(self._deltas)
        position = 0
        result = [Moment(self.begun, tuple(counts))]
        for number in range(1, points + 1):
            at = self.begun + number * step
            while position < len(slots) and (slots[position] * RESOLUTION < number * step or number == points):
                for index, delta in enumerate(self._deltas[slots[position]]):
                    counts[index] += delta
                position += 1
            # A change that was written before another in time may take one out first; never show fewer than none.
            result.append(Moment(at, tuple(max(0, value) for value in counts)))
        return result
