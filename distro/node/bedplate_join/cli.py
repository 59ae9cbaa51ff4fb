"""The command ``bedplate-join``: arguments, output, exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedplate_join.directive import KEYS, Request, parse_directive, parse_join
from bedplate_join.errors import BadInput, JoinError
from bedplate_join.joining import Joiner
from bedplate_join.programs import Programs
from bedplate_join.state import State, Step, Store

_EPILOG = """\
exit status:
  0  done                         2  bad input; nothing was touched
  1  failed, and taken back       3  waiting: a server is away, it is tried again

example: bedplate-join join example.com --user joiner --admins "Server Admins" --password-stdin
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    top = argparse.ArgumentParser(
        prog="bedplate-join",
        description="Make this system a member of a directory (Active Directory or Samba).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "join": "join a domain",
        "retry": "try the join that was asked for last again, now",
        "status": "show how far a join is",
        "leave": "be no member any more; the computer's account stays in the domain",
        "check": "check the directive of a file with user data; nothing is touched",
        "tick": "a minute has passed (run by a timer)",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="one JSON object on standard output")
        if name in ("join", "retry"):
            reads = "read the user's password from standard input"
            command.add_argument("--password-stdin", action="store_true", help=reads)
        if name == "join":
            command.add_argument("domain", help=KEYS["domain"])
            for key in ("server", "computer_ou", "user", "password_credential"):
                command.add_argument(f"--{key.replace('_', '-')}", metavar="TEXT", help=KEYS[key])
            for key in ("admins", "login"):
                command.add_argument(f"--{key}", action="append", metavar="GROUP", help=f"{KEYS[key]}; may be repeated")
        if name == "check":
            command.add_argument("file", help="cloud-config, - for standard input")
    return top


def request_from(options: argparse.Namespace) -> Request:
    """The join the arguments ask for."""
    keys = ("domain", "server", "computer_ou", "user", "password_credential", "admins", "login")
    values: dict[str, Any] = {key: value for key in keys if (value := getattr(options, key)) is not None}
    if values.get("login") == ["all"]:
        values["login"] = "all"
    return parse_join(values, needs_password=not options.password_stdin)


def check(path: str) -> dict[str, Any]:
    """What the directive in a file asks for.

    Raises:
        BadInput: mistakes in it, or the file cannot be read.
    """
    import yaml

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read: {error}", remedy="write cloud-config, which is YAML") from error
    if not isinstance(values, dict) or "bedplate" not in values:
        raise BadInput(f"{path}: has no key bedplate", remedy="write bedplate: with join: or shell: below it")
    directive = parse_directive(values["bedplate"])
    return {"shell": directive.shell, "join": directive.join.as_json() if directive.join else None}


def main(arguments: Sequence[str]) -> int:
    """Run ``bedplate-join``; the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "check":
            found = check(options.file)
            print(json.dumps(found, indent=1) if options.json else "The directive is correct.")
            return 0
        if os.geteuid() != 0:
            raise BadInput("bedplate-join works as root only", remedy="run it with sudo")
        store = Store()
        state = store.state if options.command == "status" else _act(options, Joiner(store, Programs()))
    except JoinError as error:
        return _say_error(error, as_json=options.json)
    print(json.dumps(asdict(state), indent=1) if options.json else "\n".join(_text(state)))
    return 0


def _act(options: argparse.Namespace, joiner: Joiner) -> State:
    if options.command == "leave":
        return joiner.leave()
    if options.command == "tick":
        return joiner.tick()
    password = sys.stdin.readline().rstrip("\n") if options.password_stdin else ""
    if options.command == "retry":
        return joiner.retry(password)
    return joiner.join(request_from(options), password)


def _say_error(error: JoinError, *, as_json: bool) -> int:
    mistakes = list(error.mistakes) if isinstance(error, BadInput) else []
    if as_json:
        found = {"exit": int(error.code), "message": error.message, "remedy": error.remedy, "mistakes": mistakes}
        print(json.dumps(found, indent=1))
    for line in mistakes or [error.message]:
        print(f"bedplate-join: {line}", file=sys.stderr)
    if error.remedy:
        print(f"bedplate-join: {error.remedy}", file=sys.stderr)
    return int(error.code)


def _text(state: State) -> list[str]:
    if state.step is Step.NONE:
        return ["Not a member of a directory, and none was asked for."]
    if state.step is Step.JOINED:
        return [f"A member of {state.domain}."]
    said = f"Not a member of {state.domain}: {state.message} ({state.tries} tries)."
    return [said, state.remedy] if state.remedy else [said]
