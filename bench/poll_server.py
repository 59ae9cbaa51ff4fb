"""The update service the way `bedplate serve` runs it, on a directory of releases and a database of enrolled nodes."""

from __future__ import annotations

import sys
from pathlib import Path

from bedplate.serve.catalog import DirectoryCatalog
from bedplate.serve.database import Database
from bedplate.serve.run import Listen, run_loop, serve
from bedplate.serve.service import Service


def main(directory: Path, port: int) -> None:
    async def run() -> None:
        service = Service(Database(f"sqlite:///{directory / 'fleet.db'}"), DirectoryCatalog(directory / "store"))
        await serve(service, Listen(port=port), ready=lambda: print("ready", flush=True))

    run_loop(run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
