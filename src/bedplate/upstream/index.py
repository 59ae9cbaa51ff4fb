"""A verified index and what opening one needs: keys, mirrors, a store, and a memory of what was seen before."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from bedplate.model.definition.distro import Suite, Upstream
from bedplate.model.errors import BedplateError, TrustError
from bedplate.model.progress import NoProgress, Progress
from bedplate.upstream.disk import disk_errors, write_atomic
from bedplate.upstream.mirrors import Mirrors
from bedplate.upstream.openpgp import Keyring, VerifiedText
from bedplate.upstream.store import ContentStore
from bedplate.upstream.table import PackageTable
from bedplate.upstream.transport import FileGone, Limits, Transport, TransportError

_T = TypeVar("_T")

# A mirror's clock and ours may differ; a day hides no attack that Valid-Until would stop.
_CLOCK_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True)
class VerifiedIndex:
    """The packages of one suite, each reached from a signed file by digests.

    ``proof`` is that signed file: an index cannot be made without one. ``date`` is when the upstream made it.
    """

    upstream: str
    suite: str
    format: str
    proof: VerifiedText
    date: datetime
    packages: PackageTable

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the signed index as received; a lock records it."""
        return self.proof.sha256


@dataclass(frozen=True)
class IndexContext:
    """What opening an index needs besides the definition.

    ``keys`` is the directory of the pinned keys (``distro/keys``), ``state`` a directory in the cache for parsed
    indexes and the dates seen, ``now`` the time that ages are measured against.
    """

    mirrors: Mirrors
    keys: Path
    store: ContentStore
    state: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    progress: Progress = field(default_factory=NoProgress)
    limits: Limits = field(default_factory=Limits)

    def keyring(self, suite: Suite) -> Keyring:
        """The keys that may sign ``suite``."""
        return Keyring.from_files([self.keys / name for name in suite.keys], suite.fingerprints)


def check_age(context: IndexContext, suite: Suite, date: datetime, valid_until: datetime | None, where: str) -> None:
    """Refuse an index that is expired, too old, or from the future.

    Raises:
        TrustError: it is.
    """
    stale = "the mirror is out of date or is being held back: try another mirror; check this machine's clock too"
    if date > context.now + _CLOCK_TOLERANCE:
        raise TrustError(
            f"the index is dated {date:%Y-%m-%d %H:%M} UTC, in the future",
            where=where,
            remedy="set this machine's clock",
        )
    if valid_until is not None and valid_until < context.now:
        raise TrustError(f"the index expired on {valid_until:%Y-%m-%d %H:%M} UTC", where=where, remedy=stale)
    if valid_until is None and suite.max_age_days is not None:
        age = context.now - date
        if age > timedelta(days=suite.max_age_days):
            raise TrustError(
                f"the index is {age.days} days old, {suite.max_age_days} are allowed", where=where, remedy=stale
            )


def check_not_older_than_seen(context: IndexContext, suite: str, date: datetime, where: str) -> None:
    """Refuse an index older than one this cache has seen.

    Raises:
        TrustError: it is older.
    """
    path = _seen_path(context, suite)
    seen = _read_seen(path)
    if seen is not None and date < seen:
        raise TrustError(
            f"the index is of {date:%Y-%m-%d %H:%M} UTC, older than one seen before ({seen:%Y-%m-%d %H:%M})",
            where=where,
            remedy="the mirror fell behind or replays an old state: try another; "
            f"if you went back on purpose, remove {path}",
        )


def remember_seen(context: IndexContext, suite: str, date: datetime, digest: str, where: str) -> None:
    """Remember an index that was opened whole, unless another process has seen a newer one meanwhile.

    Raises:
        TrustError: one has.
    """
    path = _seen_path(context, suite)
    with _exclusive(path):
        check_not_older_than_seen(context, suite, date, where)
        if _read_seen(path) != date:
            write_atomic(path, json.dumps({"date": date.isoformat(), "sha256": digest}).encode())


def _seen_path(context: IndexContext, suite: str) -> Path:
    return context.state / "seen" / context.mirrors.upstream / f"{suite.replace('/', '_')}.json"


def _read_seen(path: Path) -> datetime | None:
    try:
        return datetime.fromisoformat(json.loads(path.read_text())["date"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TrustError(
            f"the record of indexes seen is damaged ({error})", where=str(path), remedy="remove it and run again"
        ) from error


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as stream:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX)
        yield


def where_of(upstream: Upstream, suite: Suite) -> str:
    """What to call a suite in messages."""
    return f"{upstream.id} {suite.name}"


def first_good_mirror(context: IndexContext, suite: Suite, transport: Transport, read: Callable[[str], _T]) -> _T:
    """What ``read`` makes of the first mirror base that serves ``suite`` well; a worse one is said aloud.

    Raises:
        TrustError, BedplateError: no mirror does; a mirror that lied is named before one that was not there.
    """
    failures: list[BedplateError] = []
    for base in transport.ranked(context.mirrors.index_bases(suite.name)):
        try:
            result = read(base)
        except (TrustError, FileGone, TransportError) as error:
            failures.append(error)
            continue
        for failure in failures:
            context.progress.say(f"{failure.where}: {failure.message}; used {base} instead")
        return result
    kind = context.mirrors.suites[suite.name]
    failures.sort(key=lambda failure: not isinstance(failure, TrustError))
    first, others = failures[0], failures[1:]
    origin = f"the {kind} mirror is from {context.mirrors.origins.get(kind, 'the definition')}"
    raise type(first)(
        first.message,
        where=first.where,
        remedy=first.remedy or f"{origin}: correct it there, or name another with --mirror {kind}=URL",
        details=[*first.details, *(f"{other.where}: {other.message}" for other in others)],
    )
