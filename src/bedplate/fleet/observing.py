"""What a node's polls and downloads say about its update: from one report to where it stands. Pure.

The node runs no agent: its poll says which version runs and in which boot, and its requests for artefacts say that it
downloads. A version is healthy when it polls, because a node's poll starts only after its health checks. A node is
taken to have fallen back when it says so, or when it has been through a reboot after a complete download, still runs
the old version, is offered the new one again and does not fetch it: stock systemd-sysupdate fetches what it has not
installed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Stage(StrEnum):
    """Where one node stands with one release. ``RETURNED``: back on the old version, not known yet why."""

    OFFERED = "offered"
    DOWNLOADING = "downloading"
    REBOOTING = "rebooting"
    RETURNED = "returned"
    HEALTHY = "healthy"
    FELL_BACK = "fell-back"
    TIMED_OUT = "timed-out"


FINAL = frozenset({Stage.HEALTHY, Stage.FELL_BACK})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One node on its way to ``version``: since when it is in its stage, when it was first offered, and in which boot
    it was when it last downloaded."""

    version: str
    stage: Stage
    since: float
    offered: float
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What one poll says: the version that really runs, the boot's id (empty: not told) and versions the node says it
    fell back from."""

    version: str
    boot: str = ""
    fell_back_from: frozenset[str] = frozenset()


def on_offer(attempt: Attempt | None, version: str, now: float) -> Attempt:
    """The node was just offered ``version``."""
    if attempt is None or attempt.version != version:
        return Attempt(version, Stage.OFFERED, now, now)
    return attempt


def on_fetch(attempt: Attempt, boot: str, now: float) -> Attempt:
    """The node began to fetch an artefact of the version. ``boot`` is from its latest poll."""
    if attempt.stage in FINAL:
        return attempt
    since = attempt.since if attempt.stage is Stage.DOWNLOADING else now
    return replace(attempt, stage=Stage.DOWNLOADING, since=since, boot=boot)


def on_fetched(attempt: Attempt, boot: str, now: float) -> Attempt:
    """The node has fetched the last artefact (the UKI), so it will install and reboot."""
    if attempt.stage in FINAL:
        return attempt
    return replace(attempt, stage=Stage.REBOOTING, since=now, boot=boot)


def on_report(attempt: Attempt, report: Report, now: float) -> Attempt:
    """The node polled. A change to ``HEALTHY`` or ``FELL_BACK`` is final, but for a node that is healthy and later
    falls back (its new slot was damaged): that is a failure."""
    if report.version == attempt.version:
        return attempt if attempt.stage is Stage.HEALTHY else replace(attempt, stage=Stage.HEALTHY, since=now)
    if attempt.stage is Stage.FELL_BACK:
        return attempt
    if attempt.version in report.fell_back_from or attempt.stage is Stage.HEALTHY:
        return replace(attempt, stage=Stage.FELL_BACK, since=now)
    rebooted = bool(report.boot) and bool(attempt.boot) and report.boot != attempt.boot
    if attempt.stage is Stage.REBOOTING and rebooted:
        return replace(attempt, stage=Stage.RETURNED, since=now)
    if attempt.stage is Stage.RETURNED:
        return replace(attempt, stage=Stage.FELL_BACK, since=now)
    return attempt


def on_time(attempt: Attempt, timeout: float, now: float) -> Attempt:
    """Time passed: an attempt without an outcome ``timeout`` seconds after its offer has timed out."""
    if attempt.stage in FINAL or attempt.stage is Stage.TIMED_OUT or now - attempt.offered < timeout:
        return attempt
    return replace(attempt, stage=Stage.TIMED_OUT, since=now)
