"""``bedplate boot``: an image in the emulator, with its console on this terminal or a report at the end."""

from __future__ import annotations

import os
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

if TYPE_CHECKING:
    from bedplate.emulator.machine import Machine

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
    as_json: Json = False,
) -> None:
    """Boot an image in the emulator with Secure Boot and TPM. Ctrl-] ends it. Example: bedplate boot container --ssh"""
    from bedplate.flows.boot import boot_image, running_machine
    from bedplate.flows.images import find_image

    workspace = STATE.begin(as_json)
    found = find_image(workspace, image)
    if report or as_json:
        result = boot_image(workspace, found)
        STATE.output.result(result.to_json(), report_text(result))
        return
    with running_machine(workspace, found, ssh=ssh, state_directory=keep, on_console=_show) as running:
        machine, access, accelerator = running
        _say(f"{accelerator.kind.value.upper()}: {accelerator.reason}; Ctrl-] ends the machine")
        if access is not None:
            _say(f"when it is up: {shlex.join(access.command())}")
        _attach(machine)


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
