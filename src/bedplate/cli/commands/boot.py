"""``bedplate boot``: an image in the emulator, with its console on this terminal or a report at the end."""

from __future__ import annotations

import os
import re
import select
import shlex
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bedplate.cli.options import Json
from bedplate.cli.render import report_text
from bedplate.cli.state import STATE
from bedplate.model.errors import BadInput

if TYPE_CHECKING:
    from bedplate.emulator.machine import Machine
    from bedplate.emulator.options import Forward

_ESCAPE = b"\x1d"  # Ctrl-]
_SSH_SECONDS = 240.0


def boot(
    image: Annotated[str, typer.Argument(help="A track, a build's directory, or a disk image")],
    report: Annotated[
        bool, typer.Option("--report", help="Boot, say how the host is, and power it down; --json implies it")
    ] = False,
    ssh: Annotated[bool, typer.Option("--ssh", help="Switch ssh on by a credential and say how to log in")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep disk changes, firmware variables and TPM in this directory")
    ] = None,
    packages: Annotated[
        bool, typer.Option("--packages", help="Serve the imported packages to it, as the repository its dnf uses")
    ] = False,
    user_data: Annotated[Path | None, typer.Option(help="File with user data for cloud-init")] = None,
    forward: Annotated[
        list[str] | None, typer.Option(help="HOST:GUEST, a TCP port of 127.0.0.1 that leads into the machine")
    ] = None,
    as_json: Json = False,
) -> None:
    """Boot an image in the emulator with Secure Boot and TPM. Ctrl-] ends it. Example: bedplate boot container --ssh"""
    from bedplate.flows.boot import boot_image, running_machine
    from bedplate.flows.images import find_image
    from bedplate.flows.repository import repository_root

    workspace = STATE.begin(as_json)
    repository = repository_root(workspace) if packages else None
    data = _text(user_data) if user_data else ""
    forwards = [_forward(text) for text in forward or ()]
    found = find_image(workspace, image)
    if report or as_json:
        result = boot_image(workspace, found)
        STATE.output.result(result.to_json(), report_text(result))
        return
    with running_machine(
        workspace,
        found,
        ssh=ssh,
        state_directory=keep,
        on_console=_show,
        repository=repository,
        user_data=data,
        forwards=forwards,
    ) as running:
        machine, access, accelerator = running
        _say(f"{accelerator.kind.value.upper()}: {accelerator.reason}; Ctrl-] ends the machine")
        if access is not None:
            _say(f"when it is up: {shlex.join(access.command())}")
        _attach(machine)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the user data cannot be read: {error}", where=str(path), remedy="give a text file") from error


def _forward(text: str) -> Forward:
    from bedplate.emulator.options import Forward

    found = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", text)
    ports = [int(port) for port in found.groups()] if found else []
    if not ports or not all(0 < port < 1 << 16 for port in ports):
        raise BadInput(f"--forward {text!r} is not HOST:GUEST", remedy="for instance 8080:80")
    return Forward(*ports)


def _show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _say(line: str) -> None:
    print(f"bedplate: {line}\r", file=sys.stderr, flush=True)


def _attach(machine: Machine) -> None:
    """Pass what is typed to the console until Ctrl-] or the machine's end."""
    with _raw_terminal() as typed:
        while machine.running:
            if typed is None:
                machine.wait(1.0)
                continue
            ready, _, _ = select.select([typed], [], [], 0.5)
            if not ready:
                continue
            data = os.read(typed, 1024)
            if not data or _ESCAPE in data:
                return
            machine.console.send(data)


@contextmanager
def _raw_terminal() -> Iterator[int | None]:
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
