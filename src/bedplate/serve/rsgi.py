"""The application granian runs: polls by the short way, everything else through Starlette.

RSGI is granian's own interface (docs/spec/RSGI.md of its sources); a request is fewer objects there than in ASGI.
Files are sent by the server's own threads with ``response_file`` and ``response_file_range``, never by Python.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # there for applications to catch
from starlette.requests import ClientDisconnect

from bedplate.serve.catalog import ServedFile
from bedplate.serve.polls import PREFIX, PollDesk, Reply

log = logging.getLogger("bedplate.serve")

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
MAX_BODY = 256 * 1024
# How long a request's body may take, all of it.
_BODY_SECONDS = 20.0
METHOD_NOT_ALLOWED = Reply(405, b"polls are GET or HEAD\n", (("allow", "GET, HEAD"),))
TOO_LARGE = Reply(413, b"the request is too large\n")
TOO_SLOW = Reply(408, b"the request's body did not come in time\n")
BROKEN = Reply(500, b"something went wrong in the service; its log says what\n")
BAD_RANGE = 416

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Asgi = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Application:
    """The service as an RSGI application."""

    def __init__(self, desk: PollDesk, people: Asgi) -> None:
        self._desk = desk
        self._people = people

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """One request."""
        path = scope.path
        if path.startswith(PREFIX):
            method = scope.method
            if method not in ("GET", "HEAD"):
                send(proto, METHOD_NOT_ALLOWED)
                return
            # A node must get an answer whatever is wrong here; the log says what.
            try:
                found = self._desk.answer(path, scope.query_string)
            except Exception:
                log.exception("a poll failed")
                found = BROKEN
            if type(found) is Reply:
                if method == "HEAD":
                    proto.response_empty(found.status, [*found.headers, ("content-length", str(len(found.body)))])
                else:
                    proto.response_bytes(found.status, found.headers, found.body)
            elif isinstance(found, ServedFile):
                send_file(scope, proto, found)
            return
        try:
            await through_asgi(self._people, scope, proto)
        except ClientDisconnect:
            log.debug("a client went away before the end of its answer")
        except Exception:
            log.exception("a request failed")


def send(proto: Any, reply: Reply) -> None:
    """Send a prepared reply."""
    proto.response_bytes(reply.status, reply.headers, reply.body)


def send_file(scope: Any, proto: Any, file: ServedFile) -> None:
    """Send a file of a release: a redirect to where it is, or its bytes or a range of them (RFC 9110, section 14).

    Of several ranges the whole file is sent, as the RFC allows.
    """
    if file.url:
        proto.response_empty(302, [("location", file.url), ("cache-control", "no-store")])
        return
    headers = [
        ("content-type", "application/octet-stream"),
        ("accept-ranges", "bytes"),
        ("etag", f'"{file.sha256}"'),
        ("cache-control", "private, max-age=31536000, immutable"),
    ]
    if scope.headers.get("if-none-match") == f'"{file.sha256}"':
        proto.response_empty(304, headers)
        return
    asked = scope.headers.get("range")
    if scope.headers.get("if-range") not in (None, f'"{file.sha256}"'):
        asked = None
    span = parse_range(asked, file.size) if asked else None
    if span == ():
        proto.response_empty(BAD_RANGE, [("content-range", f"bytes */{file.size}")])
        return
    start, end = span or (0, file.size)
    headers.append(("content-length", str(end - start)))
    if span:
        headers.append(("content-range", f"bytes {start}-{end - 1}/{file.size}"))
    status = 206 if span else 200
    if scope.method == "HEAD":
        proto.response_empty(status, headers)
    elif span:
        proto.response_file_range(status, headers, file.path, start, end)
    else:
        proto.response_file(status, headers, file.path)


def parse_range(text: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """The span of a Range header: first byte and byte after the last. ``()``: cannot be had; None: to be ignored."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = int(found[2])
        return (max(size - length, 0), size) if length and size else ()
    start = int(found[1])
    if found[2] and int(found[2]) < start:
        return None
    if start >= size:
        return ()
    return start, min(int(found[2]) + 1, size) if found[2] else size


async def through_asgi(application: Asgi, scope: Any, proto: Any) -> None:
    """Serve one request with an ASGI application. Bodies are read whole, up to :data:`MAX_BODY`; answers may stream."""
    headers = [(name.lower(), value) for name, value in scope.headers.items()]
    try:
        declared = int(scope.headers.get("content-length") or 0)
    except ValueError:
        declared = 0
    if declared > MAX_BODY:
        send(proto, TOO_LARGE)
        return
    body = b""
    if declared or scope.headers.get("transfer-encoding"):
        read = await _read_body(proto)
        if isinstance(read, Reply):
            send(proto, read)
            return
        body = read
    host, _, port = (scope.client or "").rpartition(":")
    asgi_scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": scope.http_version,
        "method": scope.method,
        "scheme": scope.scheme,
        "path": scope.path,
        "raw_path": quote(scope.path).encode(),
        "query_string": scope.query_string.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers],
        "client": (host, int(port)) if port.isdigit() else None,
        "server": None,
        "state": {},
    }
    await application(asgi_scope, _receiver(body, proto), _Sender(proto).send)


async def _read_body(proto: Any) -> bytes | Reply:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in proto:
                size += len(part)
                if size > MAX_BODY:
                    return TOO_LARGE
                parts.append(part)
    except TimeoutError:
        return TOO_SLOW
    return b"".join(parts)


def _receiver(body: bytes, proto: Any) -> Callable[[], Awaitable[Message]]:
    delivered = False

    async def receive() -> Message:
        nonlocal delivered
        if not delivered:
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}
        await proto.client_disconnect()
        return {"type": "http.disconnect"}

    return receive


class _Sender:
    """Collects an ASGI answer and sends it in one piece, or as a stream when there is more than one."""

    def __init__(self, proto: Any) -> None:
        self._proto = proto
        self._status = 500
        self._headers: list[tuple[str, str]] = []
        self._stream: Any = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if self._stream is None and not message.get("more_body"):
                self._proto.response_bytes(self._status, self._headers, body)
                return
            if self._stream is None:
                self._stream = self._proto.response_stream(self._status, self._headers)
            if body:
                try:
                    await self._stream.send_bytes(body)
                except ProtocolClosed as error:
                    # What ASGI says of a client that went away (version 2.4 of its HTTP specification).
                    raise OSError("the client went away") from error
