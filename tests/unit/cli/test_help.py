"""Every command explains itself with an example and can talk to programs; errors are lines with a remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from bedplate.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
# Hands its arguments and the terminal to another program.
PASSES_THROUGH = {"tools run"}


def commands(command: object = None, path: str = "") -> Iterator[tuple[str, object]]:
    """Every command below the application with its full name."""
    command = command or typer.main.get_command(app)
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from commands(child, f"{path} {name}".strip())


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_help_has_an_example_and_there_is_json(name, command):
    assert "Example: bedplate" in command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options or name in PASSES_THROUGH


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "BEDPLATE_CACHE": str(tmp_path / "cache"),
        "BEDPLATE_KEYS": str(tmp_path / "keys"),
        "BEDPLATE_DISTRO": str(ROOT / "distro"),
        "BEDPLATE_OUTPUT": str(tmp_path / "out"),
    }
    command = [sys.executable, "-m", "bedplate", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "nowhere"], "no track 'nowhere'"),
        (["inspect", "nothing.raw"], "there is no image"),
        (["boot", "server", "--forward", "80"], "is not HOST:GUEST"),
        (["boot", "server", "--user-data", "nothing.yaml"], "user data cannot be read"),
        (["packages", "serve"], "no package repository here"),
        (["keys", "show", "nope"], "no key 'nope'"),
        (["keys", "create", "coffee"], "no key role"),
        (["--distro", "/nonexistent", "keys", "list"], "no distribution is defined here"),
    ],
    ids=[
        "unknown-track",
        "unknown-image",
        "bad-forward",
        "no-user-data",
        "nothing-to-serve",
        "unknown-key-id",
        "unknown-role",
        "no-definition",
    ],
)
def test_bad_input_is_a_line_with_a_remedy_and_exit_code_2(tmp_path, arguments, words):
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "what to do: " in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_are_json_too(tmp_path):
    done = run(tmp_path, "build", "nowhere", "--json")
    assert json.loads(done.stdout)["error"]["message"] == "no track 'nowhere'"
