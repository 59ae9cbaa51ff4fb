"""The work of bench/hundred_packages."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.hundred import DRIVER, Record, asked_for, install_one_by_one
from tests.support.server import Server, booted_server

from bedplate.cli.console import LineProgress
from bedplate.flows import breadth
from bedplate.flows.repository import repository_root
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
TOGETHER = 10
MACHINES = 5


def main() -> int:
    parser = argparse.ArgumentParser(description="Installs the hundred packages people ask for most, one by one.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these of the list")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there, and go on where it ends")
    parser.add_argument("--repository", type=Path, metavar="DIRECTORY", help="this one, instead of importing the set")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the machine ends with it
    packages = asked_for(wanted.names)
    unknown = sorted(set(wanted.names) - {one["name"] for one in packages})
    if unknown:
        parser.error(f"not in tests/support/hundred_packages.toml: {', '.join(unknown)}")
    workspace = Workspace.from_environment(
        os.environ, distro=ROOT / "distro", output=ROOT / "out", progress=LineProgress()
    )
    with tempfile.TemporaryDirectory(prefix="bedplate-hundred-") as scratch:
        place = Path(scratch)
        record = Record(wanted.json or place / "results.json")
        queue = record.left(packages)
        repository = (wanted.repository or published(workspace)) if queue else place
        machines = 0
        while queue and machines < MACHINES:  # one whose driver ended early is not used on
            machines += 1
            with booted_server(workspace, prepare_tools(workspace), place, repository) as server:
                queue = through(server, record, queue)
    left = record.left(packages)
    for one in left:
        show(record.results.get(one["name"], {"name": one["name"], "problems": ["had no turn"]}))
    names = ", ".join(one["name"] for one in left)
    print(f"{len(packages)} packages asked for, {len(left)} with problems{': ' if left else ''}{names}")
    return 1 if left else 0


def through(server: Server, record: Record, queue: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Go through the queue on one machine; what had no turn because the driver ended early."""
    while queue:
        portion, queue = queue[:TOGETHER], queue[TOGETHER:]
        record.begin(portion)
        for result in install_one_by_one(server, portion):
            show(result)
            no_turn = record.add(portion, result)
            if result["name"] == DRIVER:
                return no_turn + queue
    return []


def published(workspace: Workspace) -> Path:
    """The whole repository of the server, as ``packages import --set server`` makes it."""
    breadth.import_set(workspace, *breadth.read_set(workspace, "server"))
    return repository_root(workspace)


def show(result: dict[str, Any]) -> None:
    domains = " ".join(result.get("domains", []))
    print(
        f"{result['name']:28} {result.get('packages', 0):4} packages {result.get('total_s', 0):7} s  {domains}",
        flush=True,
    )
    for problem in result["problems"]:
        print(f"    {problem}", flush=True)


sys.exit(main())
