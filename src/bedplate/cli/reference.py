"""Writes the reference pages that come from the code: the command line, the definition's schemas. CI checks them.

``python -m bedplate.cli.reference`` writes, ``--check`` fails (exit 1) when a page on disk is not what the code says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from bedplate.fleet.policy import Policy
from bedplate.model.definition.channels import Channels
from bedplate.model.definition.distro import Distro
from bedplate.model.definition.facts import FactsFile, Ids
from bedplate.model.definition.own import OwnPackage
from bedplate.model.definition.sets import PackageSet
from bedplate.model.definition.track import Tools, Track

_DOCS = Path(__file__).resolve().parents[3] / "docs" / "reference"
_SCHEMAS: dict[str, type[BaseModel]] = {
    "distro": Distro,
    "track": Track,
    "tools": Tools,
    "packages": FactsFile,
    "ids": Ids,
    "own": OwnPackage,
    "set": PackageSet,
    "fleet": Policy,
    "channels": Channels,
}


def pages() -> dict[str, str]:
    """File name below ``docs/reference`` -> its text."""
    from bedplate.cli.main import app

    command = typer.main.get_command(app)
    result = {"cli.md": "# Command reference\n\nMade from the code; do not edit.\n" + _describe(command, ("bedplate",))}
    for name, model in _SCHEMAS.items():
        result[f"{name}.schema.json"] = json.dumps(model.model_json_schema(), indent=2, sort_keys=True) + "\n"
    return result


def _describe(command: Any, path: tuple[str, ...]) -> str:
    lines = ["", f"{'#' * min(len(path) + 1, 4)} `{' '.join(path)}`", "", (command.help or "").strip(), ""]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    if arguments or options:
        lines += ["| argument or option | meaning |", "|---|---|"]
        lines += [f"| `{p.metavar or p.name.upper()}` | {(getattr(p, 'help', '') or '').strip()} |" for p in arguments]
        lines += [f"| `{', '.join(p.opts + p.secondary_opts)}` | {_cell(p.help)} |" for p in options]
        lines.append("")
    for name, child in sorted(getattr(command, "commands", {}).items()):
        if not child.hidden:
            lines.append(_describe(child, (*path, name)).rstrip() + "\n")
    return "\n".join(lines)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write or check the pages; gives the exit code."""
    stale = [name for name, text in pages().items() if not _current(_DOCS / name, text)]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/reference/{name} is stale; run: python -m bedplate.cli.reference", file=sys.stderr)
        return 1 if stale else 0
    _DOCS.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (_DOCS / name).write_text(text)
    return 0


def _current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
