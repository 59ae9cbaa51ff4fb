"""Reboot slots: how many nodes of a group may be down at once, who holds a slot, since and until when. Pure.

Locks are recursive and owned: asking again gives the same slot, and only its holder (or a person) gives one back. A
slot whose holder is overdue is *not* free: a node that went down and did not come back is the reason to let no other
go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bedplate.fleet.decision import at_once
from bedplate.fleet.policy import Limit, Ring
from bedplate.fleet.values import RingCounts


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot that is held: by which node, for which group, since when, and until when it should be back."""

    holder: str
    group: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Granted:
    """The slot is held; ``slots`` are all slots now."""

    slots: Mapping[str, Slot]


@dataclass(frozen=True, slots=True)
class Refused:
    """No slot is free; the sentence says who holds them."""

    sentence: str


def acquire(
    slots: Mapping[str, Slot],
    holder: str,
    group: str,
    limit: Limit,
    nodes: int,
    now: float,
    *,
    hold: float = 1800.0,
    others: int = 0,
) -> Granted | Refused:
    """A slot of ``group`` for ``holder``.

    Args:
        slots: The slots that are held, by holder.
        holder: The node's id.
        group: The group it belongs to.
        limit: How many may be down at once; a share is one of ``nodes``.
        nodes: How many nodes the group has. Of an unknown number (0) a share is none.
        now: Unix time.
        hold: Seconds after which its holder is overdue.
        others: Nodes of the group without a slot that are on their way or lost all the same: they use the same budget.
    """
    own = slots.get(holder)
    if own is not None and own.group == group:
        return Granted(slots)
    taken = sorted((slot for slot in slots.values() if slot.group == group), key=lambda slot: slot.since)
    allowed = at_once(limit, RingCounts(nodes=nodes))
    if len(taken) + others >= allowed:
        overdue = [slot.holder for slot in taken if now >= slot.until]
        names = ", ".join(slot.holder for slot in taken[:3]) + (" and others" if len(taken) > 3 else "")
        held = f"held by {names}" if taken else "and none may be"
        late = f"; overdue: {', '.join(overdue[:3])}" if overdue else ""
        more = f"; {others} more nodes of it are being updated or lost" if others else ""
        return Refused(f"{len(taken)} of {allowed} slots of group {group} are taken, {held}{late}{more}")
    return Granted({**slots, holder: Slot(holder, group, now, now + hold)})


def release(slots: Mapping[str, Slot], holder: str, group: str) -> Mapping[str, Slot]:
    """The slots without the one of ``holder`` in ``group``; the same when it held none."""
    own = slots.get(holder)
    if own is None or own.group != group:
        return slots
    return {name: slot for name, slot in slots.items() if name != holder}


ONE = Limit(count=1)


def budget(ring: Ring, holder_in_progress: bool, in_progress: int, lost: int) -> tuple[Limit, int]:
    """How many slots a ring has, and how many nodes without a slot use its budget too: the roll-out's ``at_once``.

    A node the roll-out has let on its way has its part of the budget already: it only waits for nodes that hold a slot
    or are lost. A ring without a budget lets one node go at a time, and what the roll-out does there is not counted.

    Args:
        holder_in_progress: The asking node is itself on its way to a release.
        in_progress: Other nodes of the ring without a slot that are on their way or lost.
        lost: Those of them that are lost.
    """
    if ring.at_once is None:
        return ONE, 0
    return ring.at_once, lost if holder_in_progress else in_progress
