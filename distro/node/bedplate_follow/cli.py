"""The command ``bedplate-follow``: arguments, output, exit status."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedplate_follow.following import Follower, Outcome, read_json
from bedplate_follow.memory import Store
from bedplate_follow.service import Service, address, this_machine
from bedplate_patch.door import run as run_program
from bedplate_patch.errors import BadInput, PatchError

STATE = Path("/var/lib/bedplate-follow")
KEYRING = Path("/usr/lib/bedplate-follow/update-keys.gpg")
CREDENTIAL = "bedplate.update.url"
_PATCH_SECONDS = 4 * 3600.0
_EPILOG = """\
exit status:
  0  nothing to do, or done       3  installed, and only a reboot brings all of it into use
  1  failed, and taken back       4  not now: the service cannot be asked, a window, room, another one running
  2  bad input                    5  cannot be believed, or something is left that needs a person

example: bedplate-follow run --json
"""


class BedplatePatch:
    """The command ``bedplate-patch`` of this system."""

    def apply(self) -> tuple[int, dict[str, Any]]:
        done = run_program(["bedplate-patch", "apply", "--json"], seconds=_PATCH_SECONDS)
        return done.code, read_json(done.text[done.text.find("{") : done.text.rfind("}") + 1])

    def status(self) -> dict[str, Any]:
        done = run_program(["bedplate-patch", "status", "--json"], seconds=60.0)
        if done.code != 0:
            raise PatchError(f"bedplate-patch does not answer: {done.text.strip()[:200]}")
        return read_json(done.text)


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    top = argparse.ArgumentParser(
        prog="bedplate-follow",
        description="Follow the releases an update service offers to this system.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "run": "ask, and move to what is offered",
        "status": "show which release runs, which is on its way, which were taken back",
        "leave": "follow no more: dnf uses what the repository serves",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="one JSON object on standard output")
        if name == "run":
            command.add_argument("--url", default="", help="the service; default: the credential bedplate.update.url")
    return top


def _template(given: str) -> str:
    if given:
        return given
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    path = Path(folder or "/run/credentials/@system") / CREDENTIAL
    try:
        return path.read_text().strip()
    except OSError:
        raise BadInput(
            "nobody said which update service to ask",
            remedy="give the credential bedplate.update.url (docs/howto/follow-releases.md), or --url",
        ) from None


def _follower(template: str) -> Follower:
    machine = this_machine()

    def ask(version: str, failed: tuple[str, ...]) -> Service:
        return Service(address(template, machine, version), KEYRING, failed)

    return Follower(Store(STATE), BedplatePatch(), ask, platform.freedesktop_os_release())


def main(arguments: Sequence[str]) -> int:
    """Run ``bedplate-follow``; the exit status."""
    options = parser().parse_args(arguments)
    try:
        if os.geteuid() != 0:
            raise BadInput("bedplate-follow works as root only", remedy="run it with sudo")
        follower = _follower(_template(options.url) if options.command == "run" else "")
        outcome: Outcome = getattr(follower, options.command)()
    except PatchError as error:
        if options.json:
            print(json.dumps({"code": int(error.code), "message": error.message, "remedy": error.remedy}))
        print(f"bedplate-follow: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"bedplate-follow: {error.remedy}", file=sys.stderr)
        return int(error.code)
    print(json.dumps(asdict(outcome), indent=1) if options.json else _text(outcome))
    return int(outcome.code)


def _text(outcome: Outcome) -> str:
    lines = [f"Release {outcome.version} runs."]
    if outcome.message:
        lines.append(f"{outcome.message[:1].upper()}{outcome.message[1:]}.")
    if outcome.failed:
        lines.append(f"Taken back before: {', '.join(outcome.failed)}.")
    return "\n".join(lines)
