"""Boot an image and learn what became of it, or say why it did not boot."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.emulator.accelerator import choose, forget
from bedplate.emulator.channel import Listener, last_lines
from bedplate.emulator.credentials import report_credentials
from bedplate.emulator.machine import Machine, MachineState
from bedplate.emulator.options import Acceleration, Accelerator, Drive, MachineOptions
from bedplate.emulator.report import END, UP, BootReport, parse_report, unframe
from bedplate.model.errors import BedplateError
from bedplate.model.progress import Progress
from bedplate.toolchain.run import Toolbox

BOOT_SECONDS = 240.0
CONTAINER_SERIAL = "bedplate-oci"


@dataclass(frozen=True, slots=True)
class BootRequest:
    """What to look for.

    ``expected_pcr11`` are hex values PCR 11 may have; ``container`` an OCI archive to import and run; ``seconds``
    the longest the boot and its report may take; ``accelerator_cache`` where the answer about KVM is remembered.
    """

    expected_pcr11: tuple[str, ...] = ()
    container: Path | None = None
    seconds: float = BOOT_SECONDS
    accelerator: Accelerator | None = None
    accelerator_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Meaning:
    """A line of console output that ends a boot, and what it means. ``id`` is stable."""

    id: str
    pattern: re.Pattern[bytes]
    message: str
    remedy: str


# In order of precedence: a panic that follows from corruption is told as corruption.
MEANINGS = (
    Meaning(
        "secure-boot-denied",
        re.compile(rb"Access [Dd]enied|Security Violation"),
        "Secure Boot refused the image: it is not signed by a key the machine knows, or it was changed",
        "boot with the keys it was built with (bedplate keys list), or build it again",
    ),
    Meaning(
        "verity-corruption",
        re.compile(
            rb"verity: [a-z ]*\d+:\d+: \w+ block \d+ is corrupted|[Vv]erity.*corrupt|dm-verity device corrupted"
        ),
        "the root file system does not match the root hash in the signed kernel image: it was changed or damaged",
        "build the image again and write it anew",
    ),
    Meaning(
        "verity-open",
        re.compile(rb"verity open failed|[Vv]erification of root hash failed|Root hash .*failed"),
        "the verity data of the root file system was refused",
        "build the image again and write it anew",
    ),
    Meaning(
        "no-bootable-device",
        re.compile(
            rb"No bootable option|no bootable device|BdsDxe: No bootable|failed to load Boot\d{4}[^\n]*Not Found"
        ),
        "the firmware found nothing to boot on the disk",
        "check that the image is a disk image with an EFI system partition: bedplate inspect IMAGE",
    ),
    Meaning(
        "kernel-panic",
        re.compile(rb"Kernel panic - not syncing"),
        "the kernel panicked",
        "look at the console lines above; bedplate boot IMAGE shows all of them",
    ),
    Meaning(
        "emergency",
        re.compile(rb"You are in emergency mode|Entering emergency mode|Reached target .*emergency\.target"),
        "systemd gave up and went to emergency mode",
        "look at the console lines above; bedplate boot IMAGE shows all of them",
    ),
)
# Enough for the rest of a message, a panic's after a corruption's, to arrive.
_AFTERMATH_SECONDS = 1.0


class BootFailed(BedplateError):
    """The image did not come up. ``id`` says why: one of :data:`MEANINGS`, ``reset``, ``ended`` or ``timeout``."""

    def __init__(self, reason: str, message: str, *, remedy: str, details: Sequence[str], where: str) -> None:
        super().__init__(message, where=where, remedy=remedy, details=details)
        self.id = reason


def boot_and_report(
    options: MachineOptions,
    toolbox: Toolbox,
    progress: Progress,
    request: BootRequest | None = None,
    state: MachineState | None = None,
    on_console: Listener | None = None,
) -> BootReport:
    """Boot ``options.image`` with a report asked for by credential, wait for it, power the machine down.

    Raises:
        BootFailed: the guest died, hung or was refused; with the last console lines and what they mean.
        BedplateError: the report was damaged, or the emulator could not be started.
    """
    wanted = request or BootRequest()
    accelerator = wanted.accelerator or choose(toolbox, wanted.accelerator_cache)
    progress.say(f"boot: {accelerator.kind.value.upper()} ({accelerator.reason})")
    options = _with_report(options, wanted)
    try:
        return _boot(options, toolbox, progress, wanted, accelerator, state, on_console)
    except BootFailed as failure:
        # A probe cannot see everything a kernel does; a crash of the emulator itself under KVM is not the image's.
        if accelerator.kind is not Acceleration.KVM or failure.id != "ended":
            raise
        slow = forget(wanted.accelerator_cache, f"KVM ended the machine: {failure.details[-1:]}")
        progress.say(f"boot: KVM failed, again with TCG ({slow.reason})")
        return _boot(options, toolbox, progress, wanted, slow, state, on_console)


def _with_report(options: MachineOptions, wanted: BootRequest) -> MachineOptions:
    drives = options.drives
    if wanted.container is not None:
        drives = (*drives, Drive(wanted.container, CONTAINER_SERIAL))
    credentials = {**report_credentials(), **options.credentials}
    return replace(options, drives=drives, credentials=credentials, restart=False)


def _boot(
    options: MachineOptions,
    toolbox: Toolbox,
    progress: Progress,
    wanted: BootRequest,
    accelerator: Accelerator,
    state: MachineState | None,
    on_console: Listener | None,
) -> BootReport:
    with (
        progress.task("boot", unit="s"),
        Machine(options, accelerator, toolbox, state, on_console) as machine,
    ):
        text = _wait(machine, wanted.seconds)
        report = parse_report(text, accelerator, wanted.expected_pcr11, power_on_seconds(machine))
        if state is not None:
            machine.power_down(30.0)  # what is kept must be written out; a temporary machine is just dropped
        return report


def _wait(machine: Machine, seconds: float) -> str:
    end = time.monotonic() + seconds
    while True:
        machine.report.wait_for(END, 0.5)
        text = unframe(machine.report.data)
        if text is not None:
            return text
        meaning = diagnose(machine.console.data)
        if meaning is not None:
            machine.wait(_AFTERMATH_SECONDS)
            meaning = diagnose(machine.console.data) or meaning
            raise _failure(machine, meaning.id, meaning.message, meaning.remedy)
        if not machine.running:
            raise _ended(machine)
        if time.monotonic() >= end:
            raise _failure(
                machine,
                "timeout",
                f"no report within {seconds:.0f} s",
                "watch it boot: bedplate boot IMAGE; a report needs systemd 256 or later and bash in the image",
            )


def power_on_seconds(machine: Machine) -> tuple[float, float] | None:
    """Seconds of firmware and of loader by the host's clock; None when one of the marks is missing.

    The kernel's start is when the guest said how long it has been up, less that time.
    """
    for seen, data in machine.report_times:
        mark = UP.search(data)
        if mark and machine.loader_started is not None:
            kernel_started = seen - float(mark[1])
            firmware = machine.loader_started - machine.started
            return max(firmware, 0.0), max(kernel_started - machine.loader_started, 0.0)
    return None


def diagnose(console: bytes) -> Meaning | None:
    """What console output says of a boot that cannot go on; None when nothing in it does."""
    recent = console[-(256 << 10) :]
    for meaning in MEANINGS:
        if meaning.pattern.search(recent):
            return meaning
    return None


def _ended(machine: Machine) -> BootFailed:
    machine.console.wait_for(re.compile(rb"(?!)"), 1.0)  # until the last output is read and the channel closes
    meaning = diagnose(machine.console.data)
    if meaning is not None:
        return _failure(machine, meaning.id, meaning.message, meaning.remedy)
    if any(event["data"].get("guest") for event in machine.qmp.events("SHUTDOWN")):
        return _failure(machine, "reset", "the guest reset or switched itself off before its boot was over", "")
    return _failure(
        machine, "ended", "the emulator ended", "run again with -v and look at the QEMU command line; report it"
    )


def _failure(machine: Machine, reason: str, message: str, remedy: str) -> BootFailed:
    details = [f"console: {line}" for line in last_lines(machine.console.data, 12)]
    details += [f"emulator: {line}" for line in machine.emulator_errors()]
    return BootFailed(reason, message, remedy=remedy, details=details, where=str(machine.options.image))
