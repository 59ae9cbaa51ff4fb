"""What people do to a roll-out: begin, pause, go on, abort, roll back. Pure: a new state, or why it cannot be.

Every command names the revision of the roll-out its sender looked at. Of two people pressing opposite buttons one is
told that the roll-out has changed, instead of undoing what he never saw.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from bedplate.fleet.throttle import with_clocks_run
from bedplate.fleet.values import Fleet, Pace, ReleaseFacts, Rollout, RolloutStatus
from bedplate.model.errors import BadInput


class Command(StrEnum):
    """What can be done to a roll-out that exists."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


_FROM = {
    Command.PAUSE: frozenset({RolloutStatus.RUNNING}),
    Command.RESUME: frozenset({RolloutStatus.PAUSED, RolloutStatus.STOPPED}),
    Command.ABORT: frozenset({RolloutStatus.RUNNING, RolloutStatus.PAUSED, RolloutStatus.STOPPED}),
}


def begin(
    id: str,
    channel: str,
    release: ReleaseFacts,
    now: float,
    *,
    previous: Rollout | None = None,
    stones: tuple[ReleaseFacts, ...] = (),
    pace: Pace = Pace.GRADUAL,
) -> Rollout:
    """A roll-out of ``release`` that runs from ``now`` on.

    ``previous`` is the channel's roll-out before this one. If that is complete its release becomes the base, else its
    base stays the base: what did not reach everybody is not offered to anybody any more.

    Raises:
        BadInput: the release is withdrawn or expired, or is what the channel already carries.
    """
    if release.withdrawn:
        raise BadInput(f"{release.version} was withdrawn: {release.withdrawn}", where=channel)
    if release.expires is not None and not now < release.expires:
        raise BadInput(
            f"{release.version} has expired", where=channel, remedy="make a release anew from the same build"
        )
    base = None
    if previous is not None:
        complete = previous.status is RolloutStatus.COMPLETE
        base = previous.release if complete else previous.base
        if complete and previous.release.digest == release.digest:
            raise BadInput(f"channel {channel} already carries {release.version}", where=channel)
    if base is not None and (base.track != release.track or base.version in release.rolls_back):
        base = None
    return Rollout(
        id=id,
        channel=channel,
        release=release,
        base=base,
        stones=stones,
        pace=pace,
        checked=now,
        proven=pace is Pace.URGENT,
    )


def apply(rollout: Rollout, command: Command, fleet: Fleet, now: float, *, revision: int, why: str = "") -> Rollout:
    """The roll-out after a person's ``command``.

    Going on from a stop excuses the failures seen so far: the stop rule counts from here.

    Raises:
        BadInput: the roll-out is not at ``revision`` any more, or is not in a state the command is for.
    """
    if revision != rollout.revision:
        raise BadInput(
            f"the roll-out has changed since you looked: it is {rollout.status.value} now",
            where=rollout.id,
            remedy="look at it again, then decide",
        )
    if rollout.status not in _FROM[command]:
        raise BadInput(f"a roll-out that is {rollout.status.value} cannot {command.value}", where=rollout.id)
    changed = replace(with_clocks_run(rollout, fleet.policy, now), revision=rollout.revision + 1, why=why)
    match command:
        case Command.PAUSE:
            return replace(changed, status=RolloutStatus.PAUSED)
        case Command.ABORT:
            return replace(changed, status=RolloutStatus.ABORTED)
        case Command.RESUME:
            total = fleet.total()
            stopped = rollout.status is RolloutStatus.STOPPED
            return replace(
                changed,
                status=RolloutStatus.RUNNING,
                excused_failed=total.failed if stopped else rollout.excused_failed,
                excused_finished=total.finished if stopped else rollout.excused_finished,
            )


def roll_back(id: str, rollout: Rollout, release: ReleaseFacts, now: float) -> Rollout:
    """A roll-out that takes the nodes that run ``rollout``'s release to ``release``: all rings at once.

    ``release`` is a signed release like any other: the one from before, for nodes that may go back, or one made anew
    from the old build under a newer version, for nodes that refuse to.

    Raises:
        BadInput: as for :func:`begin`, or the releases are of different tracks or the same.
    """
    if release.track != rollout.release.track:
        raise BadInput(f"{release.version} is for track {release.track}, not {rollout.release.track}", where=rollout.id)
    if release.version == rollout.release.version:
        raise BadInput(f"{release.version} is the release to roll back from", where=rollout.id)
    bad = frozenset({rollout.release.version}) | rollout.release.rolls_back
    back = replace(release, rolls_back=bad - {release.version})
    return begin(id, rollout.channel, back, now, previous=rollout, stones=(), pace=Pace.URGENT)
