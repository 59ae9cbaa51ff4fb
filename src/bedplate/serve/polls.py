"""The path of a poll: from the request's path to signed bytes, out of memory alone.

Nothing here waits, reads a file or writes a database row. What a request changes is noted in the view; others write it.
A request is answered by one lookup of the credential's digest, the decision where one is due, and bytes that were
prepared when the shelf was loaded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from bedplate.fleet.decision import Reason, decide
from bedplate.fleet.observing import (
    FINAL,
    Attempt,
    Report,
    Stage,
    on_fetch,
    on_fetched,
    on_offer,
    on_report,
)
from bedplate.serve.catalog import SIGNATURE, SUMS, ServedFile, Shelved
from bedplate.serve.secrets import SecretKind, has_form
from bedplate.serve.view import FleetView, NodeState

PREFIX = "/v1/poll/"
# '', v1, poll, track, ring, machine, credential, version, boot, file
_PARTS = 10
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~^_-]{0,62}")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_SUMS, _SIGNATURE = 1, 2
_MAX_FAILED = 8
# When a node was seen is written again after so many seconds.
_SEEN_SECONDS = 600.0
_KINDS = {SUMS: _SUMS, SIGNATURE: _SIGNATURE}

# Reasons whose answer stays until something of the view changes (its generation) or the time the decision names.
_KEPT = frozenset(
    reason.value
    for reason in (
        Reason.CURRENT,
        Reason.NO_RELEASE,
        Reason.NEWER,
        Reason.NOT_ROLLED_BACK,
        Reason.NODE_HELD,
        Reason.PINNED,
        Reason.UNKNOWN_RING,
        Reason.OTHER_TRACK,
        Reason.OTHER_CHANNEL,
        Reason.PAUSED,
        Reason.STOPPED,
        Reason.ABORTED,
        Reason.FIRST_NODE,
        Reason.RING_WAITS,
        Reason.SHARE,
    )
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node may ask for. ``pair_seconds``: how long both files of a listing are kept of one release."""

    polls_a_minute: int = 60
    fetches_a_minute: int = 3000
    pair_seconds: float = 30.0


DEFAULT_LIMITS = Limits()


_PLAIN = (("content-type", "text/plain; charset=utf-8"),)


class Reply:
    """An answer without a file: status, headers and body, prepared once and used many times."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = _PLAIN) -> None:
        self.status = status
        self.body = body
        # No more than is needed: each header costs every poll.
        self.headers = [("cache-control", "no-store"), *headers]


MALFORMED = Reply(400, b"this is not the path of a poll\n")
FORBIDDEN = Reply(403, b"not enrolled\n")
OTHER_MACHINE = Reply(403, b"this credential belongs to another machine\n")
OTHER_TRACK = Reply(403, b"this node is enrolled for another track\n")
EXPIRED = Reply(403, b"the credential has expired; renew or enrol again\n")
NOT_FOUND = Reply(404, b"nothing of that name is offered to this node\n")
TOO_MANY = Reply(429, b"this node asks too often\n", (*_PLAIN, ("retry-after", "60")))
NO_LISTING = Reply(503, b"no signed listing fits what this node runs\n", (*_PLAIN, ("retry-after", "300")))


def is_version(text: str) -> bool:
    """Whether a node may say that it runs this."""
    return _VERSION.fullmatch(text) is not None


class PollDesk:
    """Answers polls from the fleet's view.

    Args:
        clock: Seconds since the epoch; the service's own, never a node's.
    """

    def __init__(self, view: FleetView, clock: Callable[[], float], limits: Limits = DEFAULT_LIMITS) -> None:
        self.view = view
        self.clock = clock
        self.limits = limits
        self.counters = {"listing": 0, "fetch": 0, "refused": 0, "limited": 0, "malformed": 0, "none": 0}
        self._replies: dict[int, tuple[Shelved, Reply, Reply]] = {}
        self._shelf: object = None

    def answer(self, path: str, query: str = "") -> Reply | ServedFile:
        """The answer to a GET of ``path``, which starts with :data:`PREFIX`. Never raises for any path.

        ``query`` may say ``failed=VERSION,…``: releases the node took back by itself, for nodes that do so while they
        run and not by a restart.
        """
        parts = path.split("/")
        if len(parts) == _PARTS + 1 and not parts[-2]:
            del parts[-2]
        if len(parts) != _PARTS:
            self.counters["malformed"] += 1
            return MALFORMED
        _, _, _, track, ring, machine, credential, version, boot, name = parts
        now = self.clock()
        node = self.view.by_digest.get(sha256(credential.encode("utf-8", "surrogatepass")).digest())
        if node is None:
            node = self.claim(credential, track, machine, ring, now)
        refusal = FORBIDDEN if node is None or node.revoked else self._refusal(node, machine, track, now)
        if refusal is not None or node is None:
            self.counters["refused"] += 1
            return refusal or FORBIDDEN
        if (version != node.version and not _VERSION.fullmatch(version)) or (
            boot != node.boot and not _HEX32.fullmatch(boot)
        ):
            self.counters["malformed"] += 1
            return MALFORMED
        kind = _KINDS.get(name)
        if kind is None:
            return self._fetch(node, name, boot, now)
        if not self.within_limits(node, now):
            return TOO_MANY
        if query:
            self._take_back(node, query, version, boot, now)
        return self._listing(node, kind, version, boot, now)

    def known(self, credential: str, now: float) -> NodeState | Reply:
        """The node a credential was given to, for protocols that have no other proof; or why it is refused."""
        node = self.view.by_digest.get(sha256(credential.encode("utf-8", "surrogatepass")).digest())
        if node is None or node.revoked:
            self.counters["refused"] += 1
            return FORBIDDEN
        if node.expires and now >= node.expires:
            self.counters["refused"] += 1
            return EXPIRED
        return node

    def within_limits(self, node: NodeState, now: float) -> bool:
        """Count a request that is answered by a decision; False when the node asks too often."""
        self._begin_minute(node, now)
        node.polls += 1
        if node.polls > self.limits.polls_a_minute:
            self.counters["limited"] += 1
            return False
        return True

    def _begin_minute(self, node: NodeState, now: float) -> None:
        minute = int(now) // 60
        if node.window != minute:
            node.window, node.polls, node.fetches = minute, 0, 0

    def _refusal(self, node: NodeState, machine: str, track: str, now: float) -> Reply | None:
        if node.id != machine:
            return OTHER_MACHINE
        if node.track != track:
            return OTHER_TRACK
        if node.expires and now >= node.expires:
            return EXPIRED
        return None

    def claim(self, credential: str, track: str, machine: str, ring: str, now: float) -> NodeState | None:
        """Bind a credential made beforehand to the machine that shows it first."""
        if not self.view.claims or not has_form(credential, SecretKind.NODE) or not _HEX32.fullmatch(machine):
            return None
        digest = sha256(credential.encode()).digest()
        claim = self.view.claims.get(digest)
        if claim is None or claim.track != track or now >= claim.expires:
            return None
        wished = ring if ring != "auto" and self.view.policy.ring(ring) is not None else ""
        del self.view.claims[digest]
        node = NodeState(machine, digest, track, claim.ring or wished)
        node.method = claim.method
        node.enrolled = now
        before = self.view.nodes.get(machine)
        if before is not None:
            # The machine was made anew: what it fell back from is still true of it.
            node.failed = before.failed
        self.view.add(node)
        self.view.claimed[machine] = claim.id
        self.view.dirty[machine] = node
        return node

    def _listing(self, node: NodeState, kind: int, version: str, boot: str, now: float) -> Reply:
        self.counters["listing"] += 1
        view = self.view
        self.check_in(node, version, boot, now)
        pair = node.answer
        if pair is not None and not node.asked & kind and now - node.asked_at < self.limits.pair_seconds:
            # The other file of the listing it just got: both must be of one release, or its signature is "BAD".
            node.asked |= kind
        elif node.cached != view.generation or pair is None:
            pair = self._decide(node, now)
            node.asked, node.asked_at = kind, now
        else:
            node.asked, node.asked_at = kind, now
        if pair is None:
            self.counters["none"] += 1
            return NO_LISTING
        return self._reply(pair, kind)

    def check_in(self, node: NodeState, version: str, boot: str, now: float) -> None:
        """Note what a node says of itself: the version that runs, and in which boot."""
        attempt = node.attempt
        if version != node.version or boot != node.boot or attempt is not None:
            self._report(node, attempt, version, boot, now)
        node.seen = now
        if now - node.stored > _SEEN_SECONDS:
            # That a node polled is written now and then; what it reported or was offered, always.
            node.stored = now
            self.view.dirty[node.id] = node

    def _take_back(self, node: NodeState, query: str, version: str, boot: str, now: float) -> None:
        attempt = node.attempt
        name, _, said = query.partition("=")
        if name != "failed" or attempt is None or attempt.stage in FINAL:
            return
        failed = frozenset(said.replace("%2C", ",").split(",")[:_MAX_FAILED])
        if attempt.version in failed and version != attempt.version:
            self.view.set_attempt(node, on_report(attempt, Report(version, boot, failed), now), now)

    def _report(self, node: NodeState, attempt: Attempt | None, version: str, boot: str, now: float) -> None:
        if version != node.version:
            node.version = sys.intern(version)
            node.cached = -1
            node.stored = 0.0
        if boot != node.boot:
            node.boot = boot
            node.stored = 0.0
        if attempt is not None:
            after = on_report(attempt, Report(version, boot), now)
            if after is not attempt:
                node.cached = -1
                self.view.set_attempt(node, after, now)

    def _decide(self, node: NodeState, now: float) -> Shelved | None:
        """The release whose listing the node gets: the offered one, else one with nothing newer in it."""
        return self.offer(node, now) or node.answer

    def offer(self, node: NodeState, now: float) -> Shelved | None:
        """The release the node is offered now, which is then remembered as its answer. None: it is offered nothing."""
        view = self.view
        node.answer, node.cached = view.shelf.quiet(node.track, node.version), -1
        rollout = view.rollout_of(node)
        if view.in_doubt:
            node.reason = "hold.in-doubt"
            return None
        version = rollout.release.version if rollout is not None else ""
        decision = decide(node.as_node(), rollout, view.fleet(node.track, version), now)
        node.reason = decision.reason.value
        if decision.release is None:
            if node.reason in _KEPT and decision.until is None:
                node.cached = view.generation
            if decision.reason is Reason.CURRENT and (node.attempt is None or node.attempt.version != version):
                # It runs the release without having been offered it here: installed with it, or offered elsewhere.
                view.set_attempt(node, Attempt(version, Stage.HEALTHY, now, now, node.boot), now)
            return None
        offered = view.shelf.get(node.track, decision.release.version)
        if offered is None or offered.facts.digest != decision.release.digest:
            # The store does not hold these very bytes (any more): nothing else is offered in their place.
            node.reason = "hold.not-in-store"
            return None
        attempt = on_offer(node.attempt, decision.release.version, now)
        if attempt is not node.attempt:
            view.set_attempt(node, attempt, now)
        node.answer = offered
        return offered

    def _fetch(self, node: NodeState, name: str, boot: str, now: float) -> Reply | ServedFile:
        self._begin_minute(node, now)
        node.fetches += 1
        if node.fetches > self.limits.fetches_a_minute:
            self.counters["limited"] += 1
            return TOO_MANY
        offered: Shelved | None = node.answer
        if offered is None or self.view.is_withdrawn(node, offered.release.version):
            # After a restart of the service nothing is remembered of the listing it got: decide as for a poll.
            offered = self._decide(node, now)
        found = offered.files.get(name) if offered is not None else None
        if found is None or offered is None:
            running = self.view.shelf.get(node.track, node.version)
            found = running.files.get(name) if running is not None else None
            return found or NOT_FOUND
        self.counters["fetch"] += 1
        attempt = node.attempt
        if attempt is not None and attempt.version == offered.release.version and attempt.stage not in FINAL:
            after = on_fetched(attempt, boot, now) if found.last else on_fetch(attempt, boot, now)
            if found.last or after.stage is not attempt.stage or after.boot != attempt.boot:
                self.view.set_attempt(node, after, now)
        return found

    def _reply(self, release: Shelved, kind: int) -> Reply:
        if self._shelf is not self.view.shelf:
            self._shelf = self.view.shelf
            self._replies.clear()
        found = self._replies.get(id(release))
        if found is None:
            # The release is kept beside its replies, so that its identity stays its own.
            found = (release, Reply(200, release.sums, ()), Reply(200, release.signature, ()))
            self._replies[id(release)] = found
        return found[1] if kind == _SUMS else found[2]


__all__ = ["PREFIX", "Limits", "PollDesk", "Reply"]
