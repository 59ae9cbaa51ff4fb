"""Which share of a ring sees a release, and which nodes that share is.

The share grows along ``start + (1 - start) * elapsed / duration``. A node is in it when its position, a salted hash in
[0, 1), is below the share. The salt is the release, so it is never the same machines that go first.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache

from bedplate.fleet.policy import Policy, Ring, RingKind
from bedplate.fleet.values import Pace, ReleaseFacts, Rollout, RolloutStatus

_MANTISSA = 1 << 53


def position(release: ReleaseFacts, node_id: str) -> float:
    """Where ``node_id`` stands in the order of ``release``: uniform in [0, 1), the same on every machine."""
    return salted(release_salt(release), node_id)


def release_salt(release: ReleaseFacts) -> bytes:
    """What :func:`salted` takes for ``release``; worth keeping when many nodes are asked about."""
    return _salt(release.digest)


@lru_cache(maxsize=256)
def _salt(digest: str) -> bytes:
    return hashlib.sha256(b"bedplate.rollout.1\x00" + digest.encode()).digest()


def salted(salt: bytes, node_id: str) -> float:
    """Uniform in [0, 1): the first 53 bits of SHA-256 of ``salt`` (32 bytes) and the node's id, exactly as a float."""
    digest = hashlib.sha256(salt + node_id.encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:7], "big") >> 3) / _MANTISSA


def curve(ring: Ring, active: float) -> float:
    """The share of ``ring`` after its curve ran for ``active`` seconds, in [0, 1]."""
    if ring.kind is RingKind.CANARY:
        return 1.0
    if ring.duration is None:
        return ring.start
    if active >= ring.duration:
        return 1.0
    return min(1.0, ring.start + (1.0 - ring.start) * max(active, 0.0) / ring.duration)


def active_seconds(rollout: Rollout, policy: Policy, ring: Ring, now: float) -> float | None:
    """How long the curve of ``ring`` has run at ``now``; None when it has not begun.

    What was counted when the roll-out was last looked after, and what passed since, but never more than one
    ``watch_step`` of that: time nobody watched does not count.
    """
    progress = rollout.rings.get(ring.name)
    if progress is None or progress.active is None:
        return None
    if rollout.status is not RolloutStatus.RUNNING:
        return progress.active
    return progress.active + watched(rollout, policy, now)


def share(rollout: Rollout, policy: Policy, ring: Ring, now: float) -> float:
    """The share of ``ring`` that may see the release at ``now``, in [0, 1]; 0 before the ring's turn."""
    if rollout.status is RolloutStatus.COMPLETE or rollout.pace is Pace.URGENT:
        return 1.0
    active = active_seconds(rollout, policy, ring, now)
    return 0.0 if active is None else curve(ring, active)


def with_clocks_run(rollout: Rollout, policy: Policy, now: float) -> Rollout:
    """``rollout`` with the time up to ``now`` counted for the curves of the rings that have begun."""
    if rollout.status is not RolloutStatus.RUNNING:
        return replace(rollout, checked=now)
    elapsed = watched(rollout, policy, now)
    rings = {
        name: progress if progress.active is None else replace(progress, active=progress.active + elapsed)
        for name, progress in rollout.rings.items()
    }
    return replace(rollout, rings=rings, checked=now)


def watched(rollout: Rollout, policy: Policy, now: float) -> float:
    """Seconds since the roll-out was last looked after that count: at most one ``watch_step``, never less than 0."""
    return min(max(now - rollout.checked, 0.0), policy.watch_step)
