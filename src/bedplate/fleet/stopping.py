"""The stop rule: whether what the fleet reported is bad enough to stop a roll-out, and the sentence that says so."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.fleet.policy import StopRule
from bedplate.fleet.values import Fleet, RingCounts, Rollout


@dataclass(frozen=True, slots=True)
class Health:
    """How a roll-out does, past what a person has excused: ``failed`` of ``finished`` nodes, and ``room``, how many
    more failures the rule would still bear if every one came next."""

    failed: int
    finished: int
    room: int

    @property
    def rate(self) -> float:
        """Failures of the nodes whose outcome is known, in [0, 1]."""
        return self.failed / self.finished if self.finished else 0.0


def health(rollout: Rollout, fleet: Fleet) -> Health:
    """The figures the stop rule looks at."""
    total = fleet.total()
    failed = max(total.failed - rollout.excused_failed, 0)
    finished = max(total.finished - rollout.excused_finished, failed)
    rule = fleet.policy.stop
    room = 0
    while room < rule.at_least and not _over(rule, failed + room, finished + room):
        room += 1
    return Health(failed, finished, room)


def must_stop(rollout: Rollout, fleet: Fleet) -> str:
    """Why ``rollout`` must stop, one sentence for people without a final stop; empty when it need not."""
    now = health(rollout, fleet)
    if not _over(fleet.policy.stop, now.failed, now.finished):
        return ""
    total = fleet.total()
    rule = fleet.policy.stop
    since = " since a person went on" if rollout.excused_finished else ""
    if rule.limit.share is not None:
        measure = f"{now.failed} of {now.finished} nodes ({now.rate:.1%})"
        limit = f"the limit is {rule.limit} once {rule.at_least} have"
    else:
        measure = f"{now.failed} {'node' if now.failed == 1 else 'nodes'}"
        limit = f"the limit is {rule.limit}"
    return f"{measure} failed with {rollout.release.version}{since}: {_kinds(total)}; {limit}"


def _kinds(total: RingCounts) -> str:
    parts = [
        (total.fell_back, "fell back"),
        (total.timed_out, "did not come back in time"),
    ]
    return ", ".join(f"{number} {words}" for number, words in parts if number) or "none is counted now"


def _over(rule: StopRule, failed: int, finished: int) -> bool:
    if rule.limit.count is not None:
        return failed >= max(rule.limit.count, 1)
    return failed >= rule.at_least and failed >= (rule.limit.share or 0.0) * finished
