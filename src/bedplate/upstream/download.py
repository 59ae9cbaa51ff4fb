"""Downloads: parallel, resumable, from several mirrors, every byte counted and every file checked by digest."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.model.package import Location
from bedplate.model.progress import NoProgress, Progress, Task
from bedplate.upstream.mirrors import Mirrors
from bedplate.upstream.partial import PartialFile
from bedplate.upstream.store import ContentStore
from bedplate.upstream.transport import FileGone, Limits, Transport, TransportError

log = logging.getLogger("bedplate.download")

DEFAULT_JOBS = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have in the store. ``suite`` tells its archive ("" when unknown), ``label`` is its name in messages."""

    location: Location
    suite: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """What to call it: the label, else its path."""
        return self.label or self.location.path


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a fetch did: files downloaded, bytes received from mirrors, files already there, seconds taken."""

    downloaded: int
    received_bytes: int
    present: int
    seconds: float


class MovedOnError(BedplateError):
    """The upstream no longer carries locked versions, and no archive mirror has them. ``gone`` lists them."""

    def __init__(self, gone: Iterable[Wanted]) -> None:
        self.gone = tuple(sorted(gone, key=lambda wanted: wanted.name))
        count = len(self.gone)
        super().__init__(
            f"the mirrors no longer carry {count} {'file' if count == 1 else 'files'} of the lock",
            details=[wanted.name for wanted in self.gone],
            remedy="lock again (`bedplate lock TRACK`), or name an archive mirror (`--mirror archive=URL`)",
        )


def fetch(
    wanted: Iterable[Wanted],
    store: ContentStore,
    mirrors: Mapping[str, Mirrors],
    *,
    progress: Progress | None = None,
    jobs: int = DEFAULT_JOBS,
    limits: Limits | None = None,
) -> FetchReport:
    """Bring every wanted file into the store; what is there already costs neither network nor a connection.

    Args:
        mirrors: The mirrors of each upstream, by its id.
        jobs: Files downloaded at the same time.
        limits: Timeouts and retries.

    Raises:
        MovedOnError: files that no mirror has any more; all others were still fetched.
        TrustError: every mirror gave something other than what the index promised.
        BedplateError: no mirror could be reached, or no space.
    """
    started = time.monotonic()
    by_digest = {one.location.sha256: one for one in wanted}
    missing = [one for digest, one in by_digest.items() if not store.has(digest, one.location.size)]
    received = 0
    if missing:
        total = sum(one.location.size for one in missing)
        with (
            (progress or NoProgress()).task("download", total, "B") as task,
            Transport(limits or Limits()) as transport,
        ):
            received = _fetch_all(missing, store, mirrors, transport, task, jobs)
    return FetchReport(len(missing), received, len(by_digest) - len(missing), time.monotonic() - started)


def _fetch_all(
    missing: list[Wanted],
    store: ContentStore,
    mirrors: Mapping[str, Mirrors],
    transport: Transport,
    task: Task,
    jobs: int,
) -> int:
    stop = threading.Event()
    gone: list[Wanted] = []
    received = 0
    # Large files first, so that none of them is left to run alone at the end.
    missing = sorted(missing, key=lambda one: -one.location.size)
    with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="download") as pool:
        futures = {}
        try:
            for one in missing:
                urls = _urls(one, mirrors)
                futures[pool.submit(fetch_file, one.location, urls, store, transport, stop, task)] = one
            for future in as_completed(futures):
                try:
                    received += future.result()
                except FileGone:
                    gone.append(futures[future])
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if gone:
        raise MovedOnError(gone)
    return received


def _urls(wanted: Wanted, mirrors: Mapping[str, Mirrors]) -> tuple[str, ...]:
    upstream = mirrors.get(wanted.location.upstream)
    if upstream is None:
        raise BadInput(
            f"comes from {wanted.location.upstream!r}, which is no upstream of this definition",
            where=wanted.name,
            remedy="add the upstream to distro.toml or lock again",
        )
    return upstream.urls(wanted.suite, wanted.location.path)


def fetch_file(
    location: Location,
    urls: Iterable[str],
    store: ContentStore,
    transport: Transport,
    stop: threading.Event | None = None,
    task: Task | None = None,
) -> int:
    """Bring one file into the store, trying ``urls`` in order; returns the bytes received.

    Raises:
        FileGone: every mirror that answered says it has no such file.
        TrustError, BedplateError: as :func:`fetch`.
    """
    stop = stop or threading.Event()
    received = 0
    failures: list[BedplateError] = []
    with PartialFile.locked(store, location.sha256, stop) as part:
        if part is None or store.has(location.sha256, location.size):
            if task is not None:
                task.advance(location.size)  # another process brought it meanwhile
            return 0
        if task is not None:
            task.advance(min(part.size, location.size))
        for url in transport.ranked(urls):
            try:
                received += _fetch_from(url, location, part, transport, stop, task)
            except (TransportError, TrustError, FileGone) as error:
                log.info("%s", error)
                failures.append(error)
                continue
            part.finish()
            return received
    raise _verdict(location, failures)


def _fetch_from(
    url: str, location: Location, part: PartialFile, transport: Transport, stop: threading.Event, task: Task | None
) -> int:
    """One mirror: continue what is there; when the result has the wrong digest, once more from the start."""
    received = 0
    for resumed in (part.size > 0, False):
        received += transport.receive(url, part, location.size, stop, task)
        if part.size == location.size and part.digest() == location.sha256:
            return received
        digest, size = part.digest(), part.size
        if task is not None:
            task.advance(-min(size, location.size))
        part.restart()
        if not resumed:
            raise TrustError(
                f"not the file the index names: got {size} bytes with SHA-256 {digest}, "
                f"expected {location.size} bytes with {location.sha256}",
                where=url,
                remedy="the mirror is out of step, damaged or lying: try another (--mirror); nothing of it was kept",
            )
    raise AssertionError("unreachable")


def _verdict(location: Location, failures: list[BedplateError]) -> BedplateError:
    """The error that says most about why no mirror helped: a lie before a failure before an absence."""
    for kind in (TrustError, TransportError):
        for failure in failures:
            if isinstance(failure, kind):
                others = [str(other).partition("\n")[0] for other in failures if other is not failure]
                return type(failure)(
                    failure.message, where=failure.where, remedy=failure.remedy, details=[*failure.details, *others]
                )
    return FileGone("no mirror has this file", where=location.path)
