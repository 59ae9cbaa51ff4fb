"""The emulated nodes of the demonstration: impatient, but otherwise as any node is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from uuid import UUID

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine, MachineState
from bedplate.emulator.options import MachineOptions
from bedplate.toolchain.run import Toolbox

HOST = "10.0.2.2"  # the host's loopback address, as a guest of QEMU's user network sees it
_MEMORY_MIB = 1024
# A node asks every hour and restarts in its night; nobody wants to wait for that here.
_HURRY = {
    "systemd.unit-dropin.bedplate-update.timer": (
        "[Unit]\nAfter=boot-complete.target\n"
        "[Timer]\nOnBootSec=\nOnCalendar=*:*:0/10\nRandomizedDelaySec=0\nAccuracySec=1s\n"
    ),
    "systemd.unit-dropin.bedplate-update-apply.timer": (
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/5\nRandomizedDelaySec=0\nAccuracySec=1s\n"
    ),
}


class Nodes:
    """Machines that run while the ``with`` block does; their disks are kept below ``place``.

    Args:
        options: What each of them is made of, see :func:`bedplate.flows.boot.machine_options`.
        polls: Where each of them asks for updates, one path for each node.
        port: The service's port on the host's loopback address.
    """

    def __init__(self, options: MachineOptions, toolbox: Toolbox, place: Path, polls: Sequence[str], port: int) -> None:
        self._toolbox = toolbox
        self._stack = ExitStack()
        self._states = [MachineState(place / f"node-{number}") for number in range(1, len(polls) + 1)]
        self._options = [
            replace(
                options,
                memory_mib=_MEMORY_MIB,
                cpus=1,
                credentials={
                    **options.credentials,
                    **{name: text.encode() for name, text in _HURRY.items()},
                    "bedplate.update.url": f"http://{HOST}:{port}{path}".encode(),
                },
            )
            for path in polls
        ]

    def __enter__(self) -> Nodes:
        accelerator = choose(self._toolbox)
        try:
            for options, state in zip(self._options, self._states, strict=True):
                self._stack.enter_context(Machine(options, accelerator, self._toolbox, state))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def names(self) -> dict[str, str]:
        """Machine id (as the node reports it) -> what the demonstration calls it."""
        return {UUID(state.identity).hex: f"node {number}" for number, state in enumerate(self._states, start=1)}
