"""``python -m support.pages_server DIRECTORY``: the service with its pages on a fleet with a past, on a free port.

Prints the port and a release manager's token, then serves until its standard input ends. Its clock stands still.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from bedplate.serve.catalog import DirectoryCatalog
from bedplate.serve.database import Database
from bedplate.serve.pages.site import routes
from bedplate.serve.people import People, Role
from bedplate.serve.run import Listen, serve
from bedplate.serve.service import Pacing, Service
from support.serving import Clock


async def main(root: Path) -> None:
    """Serve the fleet of ``root``; see :func:`support.fleet_story.live_through`."""
    clock = Clock(float((root / "now").read_text()))
    database = Database(f"sqlite:///{root / 'fleet.db'}")
    people = People(database)
    tokens = {
        role: people.create(name, role, 86400.0, actor="console", now=clock.now)[1]
        for name, role in (("ana", Role.MANAGER), ("otto", Role.OPERATOR))
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pacing = Pacing(write=0.2, sync=0.2, tick=3600, shelf=3600)
    service = Service(database, DirectoryCatalog(root / "store"), pacing=pacing, clock=clock)
    stop = asyncio.Event()

    async def until_the_end() -> None:
        await asyncio.to_thread(sys.stdin.read)
        stop.set()

    ending = asyncio.create_task(until_the_end())
    await serve(
        service,
        Listen("127.0.0.1", port),
        extra=routes(),
        ready=lambda: print(port, tokens[Role.MANAGER], tokens[Role.OPERATOR], flush=True),
        stop=stop,
    )
    await ending


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
