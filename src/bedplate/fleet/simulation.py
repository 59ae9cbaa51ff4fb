"""A roll-out to a whole fleet in virtual time, decided by the very functions that decide a real one.

Nothing of the decision is modelled. Every node that is reached asks :func:`bedplate.fleet.decision.decide` when its
poll is due; nodes that are not reached are asked by sampling, and a wrong answer is counted. What is modelled are the
nodes: how long they download and reboot, when they poll, and which of them fail.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bedplate.fleet.commands import begin
from bedplate.fleet.decision import Decision, Reason, decide
from bedplate.fleet.policy import Policy, Ring
from bedplate.fleet.running import Note, advance, choose_first
from bedplate.fleet.throttle import release_salt, salted, share
from bedplate.fleet.values import Fleet, Node, Pace, ReleaseFacts, RingCounts, Rollout, RolloutStatus
from bedplate.model.errors import BadInput

TICK = 60.0
MAX_NODES = 5_000_000
_SAMPLES_PER_TICK = 4
_CANDIDATES = 3
_OFFERED, _DOWNLOADING, _REBOOTING, _HEALTHY, _FELL_BACK, _TIMED_OUT = range(6)
_MOVING = frozenset({RolloutStatus.RUNNING, RolloutStatus.COMPLETE})
_WAITING_REASONS = frozenset({Reason.WINDOW, Reason.FROZEN, Reason.AT_ONCE})


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated.

    ``shares`` gives each ring's share of the nodes; what is left over goes to the last ring. ``fails`` and ``lost`` are
    the shares of nodes that fall back and that never come back. ``download`` and ``reboot`` are the shortest and
    longest times in seconds. ``days`` bounds the virtual time, ``start`` is its beginning in Unix time.
    """

    nodes: int = 1_000_000
    shares: Mapping[str, float] = field(default_factory=dict)
    fails: float = 0.0
    lost: float = 0.0
    download: tuple[float, float] = (30.0, 300.0)
    reboot: tuple[float, float] = (60.0, 180.0)
    days: float = 30.0
    start: float = 1_800_000_000.0
    seed: int = 1
    pace: Pace = Pace.GRADUAL


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet at one moment: seconds since the beginning, each ring's throttle and counters."""

    at: float
    throttle: Mapping[str, float]
    counts: Mapping[str, RingCounts]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the roll-out.

    ``deviation`` per ring is how far the share of nodes that were offered the release ever was outside what the
    throttle allowed between one poll interval ago and now. ``wrong`` counts decisions that contradict the throttle.
    """

    rollout: Rollout
    samples: tuple[Sample, ...]
    notes: tuple[tuple[float, Note], ...]
    deviation: Mapping[str, float]
    decisions: int
    wrong: int
    ended: float

    @property
    def total(self) -> RingCounts:
        """The counters of all rings at the end."""
        return sum(self.samples[-1].counts.values(), RingCounts())

    @property
    def reached(self) -> float:
        """The share of the fleet that was ever offered the release, at the end."""
        total = self.total
        return total.reached / total.nodes if total.nodes else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "status": self.rollout.status.value,
            "why": self.rollout.why,
            "ended_seconds": self.ended,
            "decisions": self.decisions,
            "wrong_decisions": self.wrong,
            "reached_share": self.reached,
            "deviation": dict(self.deviation),
            "totals": _counts_json(self.total),
            "notes": [{"at": at, "kind": n.kind.value, "ring": n.ring, "sentence": n.sentence} for at, n in self.notes],
            "samples": [
                {
                    "at": sample.at,
                    "rings": {
                        name: {"throttle": sample.throttle[name], **_counts_json(counts)}
                        for name, counts in sample.counts.items()
                    },
                }
                for sample in self.samples
            ],
        }


def _counts_json(counts: RingCounts) -> dict[str, int]:
    return {
        "nodes": counts.nodes,
        "offered": counts.offered,
        "downloading": counts.downloading,
        "rebooting": counts.rebooting,
        "healthy": counts.healthy,
        "fell_back": counts.fell_back,
        "timed_out": counts.timed_out,
    }


class _RingOfNodes:
    """One ring's nodes: numbers ``first`` … in the order of the release, those due to poll, and their counters."""

    def __init__(self, ring: Ring, numbers: range, salt: bytes) -> None:
        self.ring = ring
        unsorted = array("d", (salted(salt, node_id(number)) for number in numbers))
        order = sorted(range(len(numbers)), key=unsorted.__getitem__)
        self.positions = array("d", (unsorted[index] for index in order))
        self.numbers = array("q", (numbers[index] for index in order))
        self.cursor = 0
        self.due: dict[int, list[int]] = defaultdict(list)
        self.waiting: deque[int] = deque()
        self.not_before = 0.0
        self.stages = [0] * 6
        self.moves: dict[int, list[list[int]]] = {}
        self.offers = 0
        self.asked_first = ""
        self.past: deque[float] = deque()

    def counts(self) -> RingCounts:
        return RingCounts(len(self.numbers), *self.stages)

    def node(self, number: int, track: str, version: str) -> Node:
        return Node(node_id(number), track, self.ring.name, version)

    def move(self, tick: int, source: int, target: int) -> None:
        table = self.moves.get(tick)
        if table is None:
            table = self.moves[tick] = [[0] * 6 for _ in range(6)]
        table[source][target] += 1

    def settle(self, tick: int) -> None:
        """Do the moves that are due at ``tick``."""
        for source, row in enumerate(self.moves.pop(tick, ())):
            for target, number in enumerate(row):
                self.stages[source] -= number
                self.stages[target] += number


def node_id(number: int) -> str:
    """The id of simulated node ``number``."""
    return f"node-{number:07d}"


def simulate(
    policy: Policy, scenario: Scenario, *, channel: str = "stable", on_tick: Callable[[float], None] | None = None
) -> Outcome:
    """Roll one release out to a fleet and see what happens.

    Args:
        policy: The policy under test.
        scenario: The fleet and how its nodes behave.
        channel: Which channel's rings are simulated.
        on_tick: Called with the virtual seconds that have passed, for a display.

    Raises:
        BadInput: no ring follows the channel, or the scenario makes no sense.
    """
    return _Simulation(policy, scenario, channel).run(on_tick)


class _Simulation:
    def __init__(self, policy: Policy, scenario: Scenario, channel: str) -> None:
        rings = policy.rings_of(channel)
        _check(scenario, rings, channel)
        self.policy = policy
        self.scenario = scenario
        self.random = random.Random(scenario.seed)
        release = ReleaseFacts("2", f"{scenario.seed:064x}", "container")
        self.now = scenario.start
        self.rollout = begin("simulation", channel, release, self.now, pace=scenario.pace)
        salt = release_salt(release)
        self.rings = [_RingOfNodes(ring, numbers, salt) for ring, numbers in _divide(scenario, rings)]
        self.poll_ticks = max(1, round(policy.poll / TICK))
        self.decisions = self.wrong = 0
        self.deviation = {ring.name: 0.0 for ring in rings}
        self.fleet = self._fleet()

    def run(self, on_tick: Callable[[float], None] | None) -> Outcome:
        samples: list[Sample] = []
        notes: list[tuple[float, Note]] = []
        ticks = int(self.scenario.days * 86400 / TICK)
        every = 1
        for tick in range(ticks + 1):
            self.now = self.scenario.start + tick * TICK
            for ring in self.rings:
                ring.settle(tick)
            self.fleet = self._fleet()
            first = choose_first(self.rollout, self.fleet, self._candidates(), self.now)
            step = advance(first.rollout, self.fleet, self.now)
            self.rollout = step.rollout
            notes += [(tick * TICK, note) for note in (*first.notes, *step.notes)]
            if self.rollout.status in _MOVING:
                for ring in self.rings:
                    self._poll(ring, tick)
            changed = bool(first.notes or step.notes)
            if changed or tick % every == 0:
                samples.append(self._sample(tick))
            if len(samples) > 2000:
                # Keep the picture's resolution bounded whatever the length.
                samples, every = samples[::2], every * 2
            if on_tick is not None and tick % 60 == 0:
                on_tick(tick * TICK)
            if self._settled():
                break
        samples.append(self._sample(tick))
        return Outcome(
            self.rollout, tuple(samples), tuple(notes), self.deviation, self.decisions, self.wrong, tick * TICK
        )

    def _settled(self) -> bool:
        if self.rollout.status is RolloutStatus.RUNNING or any(ring.moves for ring in self.rings):
            return False
        stopped = self.rollout.status is not RolloutStatus.COMPLETE
        return stopped or all(ring.offers == len(ring.numbers) for ring in self.rings)

    def _fleet(self) -> Fleet:
        return Fleet(self.policy, {ring.ring.name: ring.counts() for ring in self.rings})

    def _sample(self, tick: int) -> Sample:
        throttle = {r.ring.name: share(self.rollout, self.policy, r.ring, self.now) for r in self.rings}
        return Sample(tick * TICK, throttle, {r.ring.name: r.counts() for r in self.rings})

    def _candidates(self) -> list[Node]:
        if self.rollout.proven:
            return []
        ring = next((ring for ring in self.rings if len(ring.numbers)), None)
        if ring is None:
            return []
        release = self.rollout.release
        first = self.rollout.first_node
        failed = ring.stages[_FELL_BACK] + ring.stages[_TIMED_OUT]
        # A first node that was asked is on its way; one that failed is no candidate any more.
        if first and ring.asked_first == first and not failed:
            return [Node(first, release.track, ring.ring.name, "1", updating=release.version)]
        return [ring.node(number, release.track, "1") for number in ring.numbers[failed : failed + _CANDIDATES]]

    def _poll(self, ring: _RingOfNodes, tick: int) -> None:
        """Everything of one ring that happens in one tick: nodes are reached, poll, are offered or wait."""
        if not self.rollout.proven:
            self._poll_first(ring, tick)
            return
        throttle = share(self.rollout, self.policy, ring.ring, self.now)
        reach = bisect_left(ring.positions, throttle)
        for number in ring.numbers[ring.cursor : reach]:
            ring.due[tick + self.random.randrange(self.poll_ticks)].append(number)
        ring.cursor = max(ring.cursor, reach)
        self._ask_unreached(ring)
        for number in ring.due.pop(tick, ()):
            if ring.waiting:
                ring.waiting.append(number)
            else:
                self._ask(ring, number, tick)
        for _ in range(-(-len(ring.waiting) // self.poll_ticks)):
            # Those that were told to wait poll as evenly as the others.
            if self.now < ring.not_before or not self._ask(ring, ring.waiting.popleft(), tick):
                break
        if ring.numbers and not ring.waiting:
            self._measure(ring, throttle)

    def _poll_first(self, ring: _RingOfNodes, tick: int) -> None:
        first = self.rollout.first_node
        if not first or ring.asked_first == first or ring.ring.name != self._candidates()[0].ring:
            return
        number = int(first.removeprefix("node-"))
        ring.asked_first = first
        if self._ask(ring, number, tick):
            index = ring.numbers.index(number)
            # It has been offered the release: out of the order, so that it is not asked twice.
            del ring.numbers[index], ring.positions[index]
            ring.numbers.insert(0, number)
            ring.positions.insert(0, 0.0)
            ring.cursor += 1
        else:
            ring.asked_first = ""

    def _ask(self, ring: _RingOfNodes, number: int, tick: int) -> bool:
        """One poll; whether the node was offered the release. One that must wait is put in front again."""
        decision = self._decide(ring, number)
        if decision.version is not None:
            self._take(ring, tick)
            if ring.ring.at_once is not None:
                self.fleet = self._fleet()
            return True
        if decision.reason in _WAITING_REASONS:
            if self.rollout.proven:
                ring.waiting.appendleft(number)
            ring.not_before = decision.until or self.now + TICK
        else:
            self.wrong += 1
        return False

    def _ask_unreached(self, ring: _RingOfNodes) -> None:
        left = len(ring.numbers) - ring.cursor
        for _ in range(min(_SAMPLES_PER_TICK, left)):
            number = ring.numbers[ring.cursor + self.random.randrange(left)]
            if self._decide(ring, number).version is not None:
                self.wrong += 1

    def _decide(self, ring: _RingOfNodes, number: int) -> Decision:
        self.decisions += 1
        node = ring.node(number, self.rollout.release.track, "1")
        return decide(node, self.rollout, self.fleet, self.now)

    def _take(self, ring: _RingOfNodes, tick: int) -> None:
        """A node was offered the release: settle when it will have downloaded, rebooted and reported."""
        draw, scenario = self.random.random, self.scenario
        ring.offers += 1
        ring.stages[_OFFERED] += 1
        low, high = scenario.download
        begun = tick + 1
        done = begun + _ticks(low + (high - low) * draw())
        low, high = scenario.reboot
        back = done + _ticks(low + (high - low) * draw())
        ring.move(begun, _OFFERED, _DOWNLOADING)
        ring.move(done, _DOWNLOADING, _REBOOTING)
        luck = draw()
        if luck < scenario.lost:
            ring.move(tick + _ticks(self.policy.timeout), _REBOOTING, _TIMED_OUT)
        elif luck < scenario.lost + scenario.fails:
            # A bad release costs further boots before the node is back, and it reports with its next poll.
            ring.move(back + 2 + self.random.randrange(self.poll_ticks), _REBOOTING, _FELL_BACK)
        else:
            ring.move(back + self.random.randrange(self.poll_ticks), _REBOOTING, _HEALTHY)

    def _measure(self, ring: _RingOfNodes, throttle: float) -> None:
        name, ago = ring.ring.name, ring.past[0] if len(ring.past) == self.poll_ticks else 0.0
        ring.past.append(throttle)
        if len(ring.past) > self.poll_ticks:
            ring.past.popleft()
        # The first node has the release before the curve begins.
        now = (ring.offers - bool(ring.asked_first)) / len(ring.numbers)
        off = max(ago - now - bool(ring.asked_first) / len(ring.numbers), now - throttle, 0.0)
        self.deviation[name] = max(self.deviation[name], off)


def _ticks(seconds: float) -> int:
    return max(1, round(seconds / TICK))


def _check(scenario: Scenario, rings: tuple[Ring, ...], channel: str) -> None:
    if not rings:
        raise BadInput(f"no ring of the policy follows channel {channel!r}", where="policy")
    if not 1 <= scenario.nodes <= MAX_NODES:
        raise BadInput(f"a simulation has 1 to {MAX_NODES:,} nodes", where="nodes")
    known = {ring.name for ring in rings}
    strange = sorted(set(scenario.shares) - known)
    if strange:
        raise BadInput(f"channel {channel} has no ring {', '.join(strange)}", where="shares")
    values = [*scenario.shares.values(), scenario.fails, scenario.lost, scenario.fails + scenario.lost]
    if not all(0.0 <= value <= 1.0 for value in (*values, sum(scenario.shares.values()))):
        raise BadInput("shares and rates are between 0 and 1, and so are their sums", where="scenario")
    if not 0 < scenario.days <= 366:
        raise BadInput("a simulation lasts more than no time and at most a year", where="days")


def _divide(scenario: Scenario, rings: tuple[Ring, ...]) -> list[tuple[Ring, range]]:
    """Each ring's node numbers. Without shares the first rings are small: 0.1 %, then 5 %, the last has the rest."""
    defaults = [0.001, *([0.05] * len(rings))]
    parts: list[tuple[Ring, range]] = []
    begin_at = 0
    for index, ring in enumerate(rings):
        last = index == len(rings) - 1
        part = scenario.shares.get(ring.name, 0.0 if scenario.shares else defaults[index])
        end = scenario.nodes if last else min(scenario.nodes, begin_at + round(part * scenario.nodes))
        parts.append((ring, range(begin_at, end)))
        begin_at = end
    return parts
