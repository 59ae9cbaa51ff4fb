"""The service and the story in one process: the service in the event loop, the story in a thread beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bedplate.demo.fleet import Demonstration, Look, Story, demo_policy, prepare
from bedplate.demo.versions import FIRST
from bedplate.flows.release_store import reader
from bedplate.flows.workspace import Workspace
from bedplate.serve.client import ServiceClient
from bedplate.serve.database import Database
from bedplate.serve.people import People, Role
from bedplate.serve.run import Listen, serve
from bedplate.serve.service import Pacing, Service
from bedplate.serve.store_catalog import StoreCatalog

# The store is looked at often, so that a published release is known at once.
_PACING = Pacing(tick=1.0, shelf=2.0)


def run_demo(
    workspace: Workspace,
    place: Path,
    *,
    nodes: int,
    port: int,
    seconds: float,
    on_ready: Callable[[str, str], None],
    on_look: Callable[[Look], None],
) -> Story:
    """Build, serve, boot and tell the story; everything made is below ``place``.

    Args:
        nodes: How many machines.
        port: Where the service listens, on the loopback address.
        on_ready: Told the service's address and a token that may look and act.
        on_look: Told every second what the fleet looks like, from another thread.

    Raises:
        BedplateError: a step failed, or the story did not go as it must.
    """
    store, versions = prepare(workspace, place)
    database = Database(f"sqlite:///{place / 'fleet.db'}")
    database.migrate()
    lifetime = 7 * 86400.0
    _, secret = People(database).create("demo", Role.MANAGER, lifetime, actor="demo", now=time.time())
    service = Service(database, StoreCatalog(reader(store)), policy=demo_policy(), pacing=_PACING)
    address = f"http://127.0.0.1:{port}"
    enough = threading.Event()

    async def main() -> Story:
        stop, ready = asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(serve(service, Listen(port=port), ready=ready.set, stop=stop))
        begun = asyncio.create_task(ready.wait())
        await asyncio.wait({serving, begun}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            begun.cancel()
            serving.result()
        on_ready(address, secret)
        teller = Demonstration(
            workspace, store, ServiceClient(address, secret), seconds=seconds, on_look=on_look, stop=enough
        )
        telling = asyncio.create_task(asyncio.to_thread(teller.run, versions[FIRST], place, nodes, port))
        try:
            # An interrupt ends the service; the story must then end too.
            await asyncio.wait({serving, telling}, return_when=asyncio.FIRST_COMPLETED)
            enough.set()
            return await telling
        finally:
            enough.set()
            stop.set()
            await asyncio.wait({serving, telling})

    return asyncio.run(main())
