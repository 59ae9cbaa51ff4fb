"""The command ``bedplate-patch``: arguments, output, exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bedplate_patch.config import Config, read_config
from bedplate_patch.errors import BadInput, PatchError
from bedplate_patch.journal import Journal
from bedplate_patch.patching import Patcher
from bedplate_patch.report import Report, last, lines
from bedplate_patch.saved import ROOT_LAYOUT
from bedplate_patch.services import System
from bedplate_patch.transaction import PackageManager, Request

CONFIG = Path("/etc/bedplate/patch.toml")
STORE = Path("/var/lib/bedplate-patch")
_EPILOG = """\
exit status:
  0  done, or nothing to do       3  done, but only a reboot brings all of it into use
  1  failed, and taken back       4  not started: window, room, packages, another one running
  2  bad input                    5  something is left that needs a person

example: bedplate-patch plan --security --json
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    top = argparse.ArgumentParser(
        prog="bedplate-patch",
        description="Patch this system, and take it back when it is not well afterwards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "plan": "show what would change, restart and reboot; nothing is touched",
        "apply": "patch",
        "auto": "patch as the timer does: off, security or all, in windows",
        "status": "show the patch under way, or the last report",
        "confirm": "judge the system after a reboot, and keep the patch or take it back",
        "recover": "finish what was interrupted (run at boot)",
        "deadline": "restart a boot that was never confirmed (run by a timer)",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="one JSON object on standard output")
        command.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"default: {CONFIG}")
        if name in ("plan", "apply"):
            command.add_argument("packages", nargs="*", metavar="PACKAGE", help="only these; default: all")
            command.add_argument("--security", action="store_true", help="only what has a security advisory")
            command.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="not these packages")
        if name == "apply":
            command.add_argument("--now", action="store_true", help="outside of windows too")
            command.add_argument("--again", action="store_true", help="versions too that were taken back before")
        if name == "auto":
            command.add_argument("mode", choices=("off", "security", "all"))
    return top


def _dnf() -> PackageManager:
    from bedplate_patch.dnf_manager import DnfManager

    return DnfManager()


def run(options: argparse.Namespace, patcher: Patcher) -> Report:
    """Carry out one command."""
    if options.command in ("plan", "apply"):
        scope = "security" if options.security else "all"
        request = Request(scope, tuple(options.exclude), tuple(options.packages))
        if options.command == "plan":
            return patcher.plan(request)
        return patcher.apply(request, outside_windows=options.now, again=options.again)
    if options.command == "auto":
        return patcher.automatic(options.mode)
    if options.command == "confirm":
        return patcher.confirm()
    if options.command == "recover":
        return patcher.recover()
    return patcher.deadline()


def status(journal: Journal) -> dict[str, object]:
    """What is under way, and the last report."""
    under_way = (
        {"state": str(journal.state), "boots": journal.boots, "facts": journal.facts()} if journal.under_way else None
    )
    return {"under_way": under_way, "last": last(journal.store)}


def main(arguments: Sequence[str]) -> int:
    """Run ``bedplate-patch``; the exit status."""
    options = parser().parse_args(arguments)
    try:
        # Recovery must not depend on a file that someone may be editing.
        careful = options.command in ("recover", "deadline", "status", "confirm")
        config = _lenient(options.config) if careful else read_config(options.config)
        if os.geteuid() != 0:
            raise BadInput("bedplate-patch works as root only", remedy="run it with sudo")
        journal = Journal(STORE)
        if options.command == "status":
            found = status(journal)
            print(json.dumps(found, indent=1) if options.json else _status_text(found))
            return 0
        report = run(options, Patcher(journal, ROOT_LAYOUT, _dnf, System(), config))
    except PatchError as error:
        name = {2: "bad-input", 4: "not-started"}.get(int(error.code), "needs-a-person")
        if options.json:
            print(
                json.dumps({"outcome": name, "exit": int(error.code), "message": error.message, "remedy": error.remedy})
            )
        print(f"bedplate-patch: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"bedplate-patch: {error.remedy}", file=sys.stderr)
        return int(error.code)
    print(json.dumps(report.as_json(), indent=1) if options.json else "\n".join(lines(report)))
    return int(report.code)


def _lenient(path: Path) -> Config:
    try:
        return read_config(path)
    except BadInput as error:
        print(f"bedplate-patch: {error.message}; going on with the defaults", file=sys.stderr)
        return Config()


def _status_text(found: dict[str, object]) -> str:
    under_way, report = found["under_way"], found["last"]
    first = f"A patch is under way: {under_way['state']}" if isinstance(under_way, dict) else "No patch is under way."
    second = f"Last: {report['id']} {report['outcome']}" if isinstance(report, dict) else "No patch was made yet."
    return f"{first}\n{second}"
