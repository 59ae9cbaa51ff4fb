"""A machine's console on the user's terminal."""

from __future__ import annotations

import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from bedplate.emulator.machine import Machine

LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh have it
_POLL_SECONDS = 0.25


def attach(machine: Machine, keyboard: int) -> bool:
    """Send keys to the guest until the machine ends or the user presses Ctrl-].

    Output is not this function's: give the machine an ``on_console`` that writes it.

    Args:
        keyboard: File descriptor to read from. A terminal is in raw mode meanwhile, so that every other key, an
            interrupt too, goes to the guest. At the end of a file that is no terminal the machine goes on.

    Returns:
        Whether the user left; False when the machine ended.
    """
    with _raw(keyboard):
        open_end = True
        while machine.running:
            if not open_end:
                machine.wait(_POLL_SECONDS)
                continue
            ready, _, _ = select.select([keyboard], [], [], _POLL_SECONDS)
            if ready:
                keys = os.read(keyboard, 4096)
                open_end = bool(keys)
                before, left, _ = keys.partition(LEAVE)
                machine.console.send(before)
                if left:
                    return True
    return False


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
