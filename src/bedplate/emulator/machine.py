"""A running machine: QEMU, its TPM and its channels, started and ended together.

The image is never written to: the guest gets an overlay. Firmware variables, TPM state and overlay lie in a
:class:`MachineState`; keep it to boot the same machine again, or let it go with the machine.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from bedplate.emulator import firmware
from bedplate.emulator.channel import Channel, Listener, Pump, last_lines
from bedplate.emulator.command import Places, machine_command
from bedplate.emulator.options import Acceleration, Accelerator, DiskForm, MachineOptions
from bedplate.emulator.qmp import Qmp
from bedplate.emulator.tamper import copy_sparse
from bedplate.model.errors import BadInput, BedplateError
from bedplate.toolchain.run import DEVNULL, Process, StillRunning, Toolbox

QEMU = "qemu-system-x86_64"
_CREDENTIAL_LIMIT = 32 << 10
_MAX_REPORT_TIMES = 16
_HANDED_OVER = re.compile(rb"BdsDxe: starting Boot")


class MachineState:
    """What a machine keeps over its boots: disk, firmware variables, TPM, UUID. For one machine at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.overlay = directory / "disk.qcow2"
        self.copy = directory / "disk.raw"
        self.variables = directory / "variables.fd"
        self.tpm = directory / "tpm"
        self._identity = directory / "uuid"

    def prepare(self, options: MachineOptions, toolbox: Toolbox) -> None:
        """Make what is not there yet.

        Raises:
            BadInput: the image is missing or larger than the machine's disk.
        """
        if not options.image.is_file():
            raise BadInput("no such image", where=str(options.image), remedy="build one: bedplate build TRACK")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.tpm.mkdir(mode=0o700, exist_ok=True)
        if not self.variables.exists():
            firmware.write_variables(toolbox.tree, self.variables, options.certificates)
        disk = self.disk(options.disk_form)
        if not disk.exists():
            size = max(options.disk_bytes, options.image.stat().st_size)
            temporary = disk.with_name(".disk.new")
            if options.disk_form is DiskForm.COPY:
                copy_sparse(options.image, temporary)
                os.truncate(temporary, size)
            else:
                backing = options.image.absolute()
                toolbox.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, temporary, str(size))
            temporary.rename(disk)

    @property
    def identity(self) -> str:
        """The machine's own UUID (SMBIOS), made once: what a guest takes its machine id from."""
        if not self._identity.exists():
            self._identity.write_text(str(uuid4()))
        return self._identity.read_text()

    def disk(self, form: DiskForm) -> Path:
        """The file of the machine's disk."""
        return self.copy if form is DiskForm.COPY else self.overlay


@contextmanager
def temporary_state() -> Iterator[MachineState]:
    """State for one machine, removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="bedplate-vm-"))
    try:
        yield MachineState(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Machine:
    """A machine that runs while the ``with`` block does.

    Args:
        options: What it is made of.
        accelerator: How it runs, see :func:`bedplate.emulator.accelerator.choose`.
        toolbox: Where QEMU, its firmware and swtpm come from.
        state: Kept state; without one a temporary state is used.
        on_console: Called from another thread with every piece of console output.
    """

    def __init__(
        self,
        options: MachineOptions,
        accelerator: Accelerator,
        toolbox: Toolbox,
        state: MachineState | None = None,
        on_console: Listener | None = None,
    ) -> None:
        self.options = options
        self.accelerator = accelerator
        self.toolbox = toolbox
        self.console = Channel(self._note_console)
        self.loader_started: float | None = None
        self._on_console = on_console
        self.report = Channel(self._note_report)
        self.report_times: list[tuple[float, bytes]] = []
        self.qmp = Qmp()
        self.started = 0.0
        self._state = state
        self._stack = ExitStack()
        self._process: Process | None = None
        self._errors: Path | None = None

    def __enter__(self) -> Machine:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _note_console(self, data: bytes) -> None:
        # OVMF's word on handing over; the first boot of a machine is the one that is timed.
        if self.loader_started is None and _HANDED_OVER.search(self.console.data):
            self.loader_started = time.monotonic()
        if self._on_console is not None:
            self._on_console(data)

    def _note_report(self, data: bytes) -> None:
        if len(self.report_times) < _MAX_REPORT_TIMES:
            self.report_times.append((time.monotonic(), data))

    def _start(self) -> None:
        state = self._state or self._stack.enter_context(temporary_state())
        state.prepare(self.options, self.toolbox)
        work = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bedplate-run-")))
        self._errors = work / "qemu.err"
        channels = [self.console, self.report, self.qmp.channel]
        tpm = self._start_tpm(state, work) if self.options.tpm else None
        tree = self.toolbox.tree
        places = Places(
            disk=state.disk(self.options.disk_form),
            identity=state.identity,
            code=tree.path(firmware.CODE),
            variables=state.variables,
            data=tuple(tree.path(directory) for directory in firmware.DATA_DIRECTORIES),
            console=self.console.remote.fileno(),
            report=self.report.remote.fileno(),
            qmp=self.qmp.channel.remote.fileno(),
            tpm=tpm.remote.fileno() if tpm else None,
            credentials=write_credentials(self.options, work),
        )
        descriptors = [places.console, places.report, places.qmp, *([places.tpm] if places.tpm is not None else [])]
        self._process = self._launch(
            QEMU, machine_command(self.options, self.accelerator, places), self._errors, descriptors
        )
        self.started = time.monotonic()
        for channel in [*channels, *([tpm] if tpm else [])]:
            channel.remote.close()
        if tpm:
            tpm.local.close()
        pump = Pump(channels)
        pump.start()
        self._stack.callback(pump.join, 5.0)
        self._stack.callback(self._end, self._process)
        with contextlib.suppress(BedplateError):  # an emulator that died at once is noticed by whoever waits for it
            self.qmp.execute("qmp_capabilities")

    def _start_tpm(self, state: MachineState, work: Path) -> Channel:
        # One end goes to swtpm, the other to QEMU: here the "local" end is swtpm's.
        link = Channel()
        errors = work / "swtpm.err"
        arguments = [
            *("socket", "--tpm2", "--terminate", "--tpmstate", f"dir={state.tpm},mode=0600"),
            *("--ctrl", f"type=unixio,clientfd={link.local.fileno()}"),
            *("--flags", "startup-clear", "--log", f"file={work / 'swtpm.log'},level=1"),
        ]
        process = self._launch("swtpm", arguments, errors, [link.local.fileno()])
        self._stack.callback(self._end, process)
        return link

    def _launch(self, tool: str, arguments: Sequence[str | Path], errors: Path, descriptors: Sequence[int]) -> Process:
        with errors.open("wb") as stream:
            return self.toolbox.start(
                tool,
                *arguments,
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=stream,
                pass_fds=descriptors,
                new_session=True,  # an interrupt at the terminal is ours to handle
            )

    @staticmethod
    def _end(process: Process) -> None:
        # swtpm goes by itself when QEMU does; both get a moment before they are killed.
        try:
            process.wait(0.2 if process.poll() is None else 0)
        except StillRunning:
            process.terminate()
            try:
                process.wait(5)
            except StillRunning:
                process.kill()
                process.wait()

    def wait(self, seconds: float) -> int | None:
        """Exit code of QEMU, None when it still runs after ``seconds``."""
        if self._process is None:
            raise BedplateError("the machine is not running")
        try:
            return self._process.wait(seconds)
        except StillRunning:
            return None

    @property
    def running(self) -> bool:
        """Whether QEMU is alive."""
        return self._process is not None and self._process.poll() is None

    def power_down(self, seconds: float) -> bool:
        """Press the power button and wait; whether the guest went down by itself."""
        with contextlib.suppress(BedplateError):
            self.qmp.execute("system_powerdown")
        return self.wait(seconds) is not None

    def reset(self) -> None:
        """Press the reset button."""
        self.qmp.execute("system_reset")

    def quit(self) -> None:
        """Pull the plug."""
        with contextlib.suppress(BedplateError):
            self.qmp.execute("quit", 2.0)

    def kill(self) -> None:
        """End the emulator at once (SIGKILL), as a power cut ends a machine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def processor_seconds(self) -> float:
        """Processor time the emulator has used (user and system, proc_pid_stat(5)); 0 when it is not running.

        On a machine that others use too it says what a guest's work costs, which the clock on the wall does not.
        """
        if self._process is None:
            return 0.0
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return 0.0
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def emulator_errors(self) -> list[str]:
        """The last lines QEMU itself wrote, as plain text."""
        if self._errors is None or not self._errors.exists():
            return []
        return last_lines(self._errors.read_bytes(), 8)

    @property
    def accelerated(self) -> bool:
        """Whether the processor itself runs the guest."""
        return self.accelerator.kind is Acceleration.KVM


def write_credentials(options: MachineOptions, directory: Path) -> tuple[Path, ...]:
    """Write each credential as an SMBIOS string (systemd.system-credentials(7)) into a private file.

    Files, because a command line can be read by everyone on the host.

    Raises:
        BadInput: a credential is larger than the firmware's tables can carry.
    """
    paths = []
    for number, (name, value) in enumerate(sorted(options.credentials.items())):
        if len(value) > _CREDENTIAL_LIMIT:
            raise BadInput(f"credential {name!r} has {len(value)} bytes, at most {_CREDENTIAL_LIMIT} can be passed")
        path = directory / f"credential-{number}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(f"io.systemd.credential.binary:{name}=".encode() + base64.b64encode(value))
        paths.append(path)
    return tuple(paths)
