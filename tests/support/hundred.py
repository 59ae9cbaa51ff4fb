"""The hundred packages people ask for most, installed one by one in a booted server."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.server import Server

_HERE = Path(__file__).parent


def asked_for(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The list, or those of it called ``names``: name, units to start, a command that shows that it works."""
    groups = tomllib.loads((_HERE / "hundred_packages.toml").read_text())
    found = [
        {"name": entry.get("name", key), "units": entry.get("units", []), "check": entry.get("check", "")}
        for group in groups.values()
        for key, entry in group.items()
    ]
    return [one for one in found if not names or one["name"] in names]


def install_one_by_one(server: Server, packages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What became of each package, and a last entry for taking all of them away; see ``one_by_one.py``."""
    driver = (_HERE / "one_by_one.py").read_text()
    done = server.ask(
        f"cat >/root/one_by_one.py <<'END'\n{driver}END\n"
        f"python3 -sP /root/one_by_one.py <<'END'\n{json.dumps(packages)}\nEND\n"
    )
    results = [json.loads(line) for line in done.text.splitlines() if line.startswith("{")]
    if len(results) != len(packages) + 1:
        results.append({"name": "(driver)", "problems": [f"exit {done.code}: {done.stderr[-2000:]}"]})
    return results
