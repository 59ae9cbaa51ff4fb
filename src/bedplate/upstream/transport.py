"""Getting bytes from http, https and file URLs: bounded in size and time, retried, resumed by byte range (RFC 9110)."""

from __future__ import annotations

import http
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from bedplate.model.errors import BedplateError
from bedplate.model.progress import Task

if TYPE_CHECKING:
    import ssl

    import httpx

# httpx and ssl are imported where a connection is made: most runs find everything in the store and need neither.

_T = TypeVar("_T")
_CHUNK = 1 << 16
_GONE = (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE)


class TransportError(BedplateError):
    """A mirror could not be reached, or the connection failed or stalled, also when tried again."""


class FileGone(BedplateError):
    """The mirror answered that it has no such file."""


class Receiver(Protocol):
    """What a download is written to."""

    @property
    def size(self) -> int:
        """Bytes there already."""
        ...

    @property
    def validator(self) -> tuple[str, str]:
        """URL and validator (ETag, Last-Modified) of the bytes there already."""
        ...

    def remember(self, url: str, validator: str) -> None: ...

    def write(self, data: bytes) -> None: ...

    def restart(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one download.

    Seconds to connect, seconds without a byte, the least average rate in bytes per second once ``grace_seconds`` have
    passed, and how often a mirror is tried, with a pause that doubles from ``backoff_seconds``.
    """

    connect_seconds: float = 15.0
    read_seconds: float = 30.0
    grace_seconds: float = 60.0
    least_rate: int = 4096
    attempts: int = 3
    backoff_seconds: float = 0.5


class Transport:
    """A pool of connections. Safe to share between threads. Proxies come from the environment (httpx's rules)."""

    def __init__(self, limits: Limits | None = None) -> None:
        import httpx

        self.limits = limits or Limits()
        self._failures: Counter[str] = Counter()
        timeout = httpx.Timeout(self.limits.read_seconds, connect=self.limits.connect_seconds)
        # "identity": the digest is of the file as it lies on the mirror, and a length must mean the bytes to come.
        self._client = httpx.Client(
            verify=_tls(), timeout=timeout, follow_redirects=True, headers={"Accept-Encoding": "identity"}
        )

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ranked(self, urls: Iterable[str]) -> list[str]:
        """``urls`` in their order, but those on a host that failed lately behind those on one that did not."""
        return sorted(urls, key=lambda url: self._failures[urlsplit(url).netloc])

    def get(self, url: str, max_bytes: int, stop: threading.Event | None = None) -> bytes:
        """A small file as a whole. Unverified: whoever asked must check it.

        Raises:
            FileGone: the mirror has no such file.
            TransportError: unreachable, or larger than ``max_bytes``.
        """
        stopped = stop or threading.Event()

        def attempt() -> _Buffer:
            # From the start each time: no digest would tell that two halves are of different files.
            buffer = _Buffer()
            if urlsplit(url).scheme == "file":
                self._copy(url, buffer, max_bytes, None)
            else:
                self._attempt(url, buffer, max_bytes, stopped, None)
            return buffer

        buffer = self._retry(attempt, url, stopped)
        if buffer.size > max_bytes:
            raise TransportError(
                f"larger than the {max_bytes} bytes allowed here", where=url, remedy="try another mirror"
            )
        return bytes(buffer.data)

    def receive(self, url: str, into: Receiver, size: int, stop: threading.Event, task: Task | None) -> int:
        """Bring ``url`` into ``into``, continuing behind what is there; returns the bytes received.

        Stops one byte behind ``size``, so that a body that is too long is noticed without being taken.

        Raises:
            FileGone, TransportError: as :meth:`get`.
        """
        if urlsplit(url).scheme == "file":
            return self._copy(url, into, size, task)
        received = 0

        def attempt() -> None:
            nonlocal received
            before = into.size
            try:
                self._attempt(url, into, size, stop, task)
            finally:
                received += max(0, into.size - before)

        self._retry(attempt, url, stop)
        return received

    def _retry(self, attempt: Callable[[], _T], url: str, stop: threading.Event) -> _T:
        import httpx

        pause = self.limits.backoff_seconds
        for left in range(self.limits.attempts - 1, -1, -1):
            try:
                return attempt()
            except (httpx.RequestError, httpx.InvalidURL, _Retry) as error:
                if not left or stop.is_set():
                    self._failures[urlsplit(url).netloc] += 1
                    reason = str(error) or type(error).__name__
                    raise TransportError(
                        f"the download failed ({reason})",
                        where=url,
                        remedy="check the network and the proxy settings, or name another mirror (--mirror); "
                        "what was received is kept and continued",
                    ) from error
            stop.wait(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def _attempt(self, url: str, into: Receiver, size: int, stop: threading.Event, task: Task | None) -> None:
        if 0 < size <= into.size:
            return
        started = time.monotonic()
        with self._client.stream("GET", url, headers=_range(url, into)) as response:
            if response.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                _forget(into, task)
                raise _Retry("the mirror's file is shorter than what was received")
            if response.status_code in _GONE:
                raise FileGone("the mirror has no such file", where=url)
            if response.status_code not in (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT):
                raise _Retry(f"the mirror answered {response.status_code} {response.reason_phrase}")
            if into.size and not _continues(response, into.size):
                _forget(into, task)
            into.remember(url, response.headers.get("etag") or response.headers.get("last-modified") or "")
            received = 0
            for chunk in response.iter_raw():  # as it comes: what arrived before a failure is kept
                kept = chunk[: size + 1 - into.size]
                into.write(kept)
                received += len(kept)
                if task is not None:
                    task.advance(len(kept))
                if into.size > size:
                    return
                if stop.is_set():
                    raise _Retry("stopped")
                seconds = time.monotonic() - started
                if seconds > self.limits.grace_seconds and received < seconds * self.limits.least_rate:
                    raise _Retry(f"the mirror stalls: {received} bytes in {seconds:.0f} s")

    def _copy(self, url: str, into: Receiver, size: int, task: Task | None) -> int:
        path = Path(unquote(urlsplit(url).path))
        _forget(into, task)
        try:
            with path.open("rb") as stream:
                while into.size <= size and (chunk := stream.read(min(_CHUNK, size + 1 - into.size))):
                    into.write(chunk)
                    if task is not None:
                        task.advance(len(chunk))
        except (FileNotFoundError, NotADirectoryError):
            raise FileGone("the mirror has no such file", where=url) from None
        except (PermissionError, IsADirectoryError) as error:
            raise TransportError(f"cannot be read ({error.strerror})", where=url) from error
        return into.size


class _Retry(Exception):
    """An attempt failed in a way that may pass."""


class _Buffer:
    """A :class:`Receiver` in memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.validator = ("", "")

    @property
    def size(self) -> int:
        return len(self.data)

    def remember(self, url: str, validator: str) -> None:
        self.validator = (url, validator)

    def write(self, data: bytes) -> None:
        self.data += data

    def restart(self) -> None:
        self.data.clear()


def _range(url: str, into: Receiver) -> dict[str, str]:
    if not into.size:
        return {}
    headers = {"Range": f"bytes={into.size}-"}
    known, validator = into.validator
    # A weak ETag must not be used with If-Range. Without one the digest still tells whether the parts fit.
    if known == url and validator and not validator.startswith("W/"):
        headers["If-Range"] = validator
    return headers


def _continues(response: httpx.Response, offset: int) -> bool:
    if response.status_code != http.HTTPStatus.PARTIAL_CONTENT:
        return False
    content_range: str = response.headers.get("content-range", "")
    return content_range.replace(" ", "").startswith(f"bytes{offset}-")


def _forget(into: Receiver, task: Task | None) -> None:
    if task is not None and into.size:
        task.advance(-into.size)
    into.restart()


def _tls() -> ssl.SSLContext:
    """The system's certificate authorities (OpenSSL's defaults, which honour SSL_CERT_FILE), else httpx's own."""
    import ssl

    import httpx

    context = ssl.create_default_context()
    directory = ssl.get_default_verify_paths().capath
    if context.cert_store_stats()["x509_ca"] or (directory and any(Path(directory).glob("*.0"))):
        return context
    return httpx.create_ssl_context()
