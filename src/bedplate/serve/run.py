"""One process of the service: granian in the same event loop as the service's own tasks, until told to stop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.routing import BaseRoute

from bedplate.model.errors import BadInput
from bedplate.serve.app import build
from bedplate.serve.people import People
from bedplate.serve.rsgi import Application
from bedplate.serve.secrets import redacted
from bedplate.serve.service import Service

log = logging.getLogger("bedplate.serve")
# A request's head: nothing a node or a person sends needs more.
_HEAD_BYTES = 16 * 1024
# Polls come in crowds after an outage; what does not fit waits in the kernel.
_BACKLOG = 8192
# At most this long one thread of the interpreter keeps a poll waiting (seconds).
_SWITCH = 0.0001
# Few objects of the service form cycles; collecting more rarely keeps pauses off the polls.
_COLLECT = (50_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen, with which certificate (PEM files; none: plain HTTP), and how long a request's head may take.
    ``public_url`` is the address nodes know the service by, where that is another one (a balancer, a proxy)."""

    address: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    key: Path | None = None
    head_seconds: float = 30.0
    public_url: str = ""


class JsonLines(logging.Formatter):
    """Log lines as JSON objects, secrets cut."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        if getattr(record, "details", None):
            line["details"] = record.__dict__["details"]
        if record.exc_info:
            line["error"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def log_as_json(level: int = logging.INFO) -> None:
    """Send the service's log to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("bedplate", "_granian"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level if name == "bedplate" else logging.WARNING)
        logger.propagate = False


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on the event loop the service is measured with."""
    uvloop.run(main)


async def serve(
    service: Service,
    listen: Listen,
    *,
    extra: Sequence[BaseRoute] = (),
    ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run until SIGTERM, SIGINT or ``stop``; then finish what runs, write what waits and return.

    Args:
        extra: Further routes, see :func:`bedplate.serve.app.build`.
        ready: Called once the port is open and everything stored is loaded.

    Raises:
        BadInput: only one of certificate and key is given.
        BedplateError: the service cannot start.
    """
    if (listen.certificate is None) != (listen.key is None):
        raise BadInput("a certificate and its key go together")
    sys.setswitchinterval(_SWITCH)
    gc.set_threshold(*_COLLECT)
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await service.start()
    # What was loaded stays: the garbage collector need not look at it again, which would hold up polls.
    gc.collect()
    gc.freeze()
    application = Application(
        service.desk, build(service, People(service.database), extra, public_url=listen.public_url)
    )
    server = Server(
        application,
        address=listen.address,
        port=listen.port,
        interface=Interfaces.RSGI,
        http=HTTPModes.auto if listen.certificate else HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        http1_settings=HTTP1Settings(header_read_timeout=int(listen.head_seconds * 1000), max_buffer_size=_HEAD_BYTES),
        log_level=LogLevels.warning,
        log_enabled=False,
        ssl_cert=listen.certificate,
        ssl_key=listen.key,
    )
    running = asyncio.create_task(server.serve())
    try:
        if ready is not None:
            await _accepting(listen, running)
            ready()
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait({running}, timeout=10.0)
        await service.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        log.info("stopped")


async def _accepting(listen: Listen, running: asyncio.Task[None]) -> None:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline and not running.done():
        try:
            _, writer = await asyncio.open_connection(listen.address, listen.port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        await writer.wait_closed()
        return
