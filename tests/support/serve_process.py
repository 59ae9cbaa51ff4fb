"""The service as a process of its own, on a port of the loopback: what tests start, and what starts in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bedplate.fleet.policy import parse_policy
from bedplate.serve.catalog import DirectoryCatalog
from bedplate.serve.client import ServiceClient
from bedplate.serve.database import Database
from bedplate.serve.people import People, Role
from bedplate.serve.run import Listen, log_as_json, run_loop, serve
from bedplate.serve.service import Pacing, Service
from support.serving import ONE_RING, StoreDirectory

_PROCESS = Path(__file__).resolve()


class Running:
    """A process of the service that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.store = StoreDirectory(directory / "store", created=int(time.time()) - 100)
        for version in ("1.0.0", "1.1.0"):
            self.store.release(version)
        self.start()
        database = Database(f"sqlite:///{directory / 'fleet.db'}")
        self.token = People(database).create("t", Role.MANAGER, 86400.0, actor="test", now=time.time())[1]
        self.client = ServiceClient(f"http://127.0.0.1:{self.port}", self.token)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def start(self) -> None:
        tests = str(_PROCESS.parents[1])
        self.log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(_PROCESS), str(self.directory), str(self.port), ONE_RING],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "PYTHONPATH": f"{tests}:{os.environ.get('PYTHONPATH', '')}"},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", (self.directory / "log").read_text()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.log.close()
        return code

    def enrol(self, number: int | str, track: str = "container") -> dict[str, Any]:
        made = self.client.call("POST", "/api/v1/enrolments", {"kind": "token", "track": track, "ring": "all"})
        machine = number if isinstance(number, str) else f"{number:032x}"
        body = {"token": made[0]["secret"], "machine": machine, "track": track}
        return {**body, **self.client.call("POST", "/v1/enroll", body)}

    def poll(self, node: dict[str, Any], name: str, version: str = "1.0.0", **more: Any) -> httpx.Response:
        path = node["path"].replace("%m", node["machine"]).replace("%A", version).replace("%b", "1" * 32)
        return self.http.get(path + name, **more)


@contextmanager
def served_in(directory: Path) -> Iterator[Running]:
    """A running service, ended afterwards."""
    made = Running(directory)
    try:
        yield made
    finally:
        made.http.close()
        made.client.close()
        if made.process.poll() is None:
            made.end(signal.SIGTERM)


def main(directory: Path, port: int, policy: str) -> None:
    async def run() -> None:
        service = Service(
            Database(f"sqlite:///{directory / 'fleet.db'}"),
            DirectoryCatalog(directory / "store"),
            policy=parse_policy(policy),
            pacing=Pacing(write=0.05, sync=0.05, tick=0.1, shelf=0.2),
        )
        await serve(service, Listen(port=port, head_seconds=2), ready=lambda: print("ready", flush=True))

    log_as_json()
    run_loop(run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
