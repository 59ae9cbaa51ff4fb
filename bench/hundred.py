"""The work of bench/hundred_packages."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.hundred import asked_for, install_one_by_one
from tests.support.server import booted_server

from bedplate.cli.console import LineProgress
from bedplate.flows import breadth
from bedplate.flows.repository import repository_root
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
TOGETHER = 10


def main() -> int:
    parser = argparse.ArgumentParser(description="Installs the hundred packages people ask for most, one by one.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these of the list")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--repository", type=Path, metavar="DIRECTORY", help="this one, instead of importing the set")
    wanted = parser.parse_args()
    packages = asked_for(wanted.names)
    workspace = Workspace.from_environment(
        os.environ, distro=ROOT / "distro", output=ROOT / "out", progress=LineProgress()
    )
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bedplate-hundred-") as scratch:
        place = Path(scratch)
        repository = wanted.repository or published(workspace)
        with booted_server(workspace, prepare_tools(workspace), place, repository) as server:
            for at in range(0, len(packages), TOGETHER):
                for result in install_one_by_one(server, packages[at : at + TOGETHER]):
                    results.append(result)
                    show(result)
                if wanted.json:
                    wanted.json.write_text(json.dumps(results, indent=1))
    bad = [one["name"] for one in results if one["problems"]]
    print(f"{len(packages)} packages asked for, {len(bad)} with problems{': ' if bad else ''}{', '.join(bad)}")
    return 1 if bad else 0


def published(workspace: Workspace) -> Path:
    """The whole repository of the server, as ``packages import --set server`` makes it."""
    breadth.import_set(workspace, *breadth.read_set(workspace, "server"))
    return repository_root(workspace)


def show(result: dict[str, Any]) -> None:
    domains = " ".join(result.get("domains", []))
    print(f"{result['name']:28} {result.get('packages', 0):4} packages {result.get('total_s', 0):7} s  {domains}")
    for problem in result["problems"]:
        print(f"    {problem}", flush=True)


sys.exit(main())
