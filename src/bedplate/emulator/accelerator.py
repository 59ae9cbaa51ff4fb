"""Which acceleration truly works here.

``/dev/kvm`` can open and still be of no use: nested virtualisation may lack SMM, refuse a model register or fail to
emulate an instruction. So the probe starts the very firmware a machine will run and waits for it to speak.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from bedplate.emulator.machine import Machine
from bedplate.emulator.options import Acceleration, Accelerator, MachineOptions
from bedplate.model.digest import identity
from bedplate.model.errors import BedplateError
from bedplate.toolchain.run import Toolbox

PROBE_SECONDS = 5.0
_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SPOKE = re.compile(rb"BdsDxe|UEFI|\x1b\[")


def choose(toolbox: Toolbox, cache: Path | None = None) -> Accelerator:
    """KVM when it truly works, else software emulation, with the reason in words.

    Args:
        cache: File that remembers the answer for this boot of the host and this QEMU.
    """
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return Accelerator(Acceleration.TCG, f"{_DEVICE} cannot be opened ({error.strerror})")
    os.close(descriptor)
    key = _key(toolbox)
    known = _read(cache, key)
    if known is not None:
        return known
    answer = probe(toolbox)
    _write(cache, key, answer)
    return answer


def forget(cache: Path | None, reason: str) -> Accelerator:
    """Note that KVM failed in a real boot; the next :func:`choose` probes anew."""
    if cache is not None:
        cache.unlink(missing_ok=True)
    return Accelerator(Acceleration.TCG, reason)


def probe(toolbox: Toolbox, seconds: float = PROBE_SECONDS) -> Accelerator:
    """Start the firmware under KVM, at most ``seconds`` long, and see whether it speaks."""
    with tempfile.TemporaryDirectory(prefix="bedplate-probe-") as scratch:
        blank = Path(scratch) / "blank.img"
        with blank.open("wb") as stream:
            stream.truncate(1 << 20)
        options = MachineOptions(blank, memory_mib=512, cpus=1, tpm=False, network=False, disk_bytes=1 << 20)
        kvm = Accelerator(Acceleration.KVM, "")
        with Machine(options, kvm, toolbox) as machine:
            spoke = machine.console.wait_for(_SPOKE, seconds) is not None
            machine.wait(0.2)
            errors = machine.emulator_errors()
            alive = machine.running and not _stopped(machine)
    if spoke and alive:
        return Accelerator(Acceleration.KVM, "KVM ran the firmware")
    why = errors[-1] if errors else f"the firmware did not speak within {seconds:.0f} s"
    return Accelerator(Acceleration.TCG, f"KVM is there but does not work ({why})")


def _stopped(machine: Machine) -> bool:
    try:
        status = machine.qmp.execute("query-status", 1.0)
    except BedplateError:
        return True
    return bool(status.get("status") == "internal-error")


def _key(toolbox: Toolbox) -> str:
    program = toolbox.tree.find("qemu-system-x86_64")
    status = program.stat()
    return identity([_BOOT_ID.read_text().strip(), str(program), status.st_size, status.st_mtime_ns])


def _read(cache: Path | None, key: str) -> Accelerator | None:
    if cache is None:
        return None
    try:
        data = json.loads(cache.read_text())
        return Accelerator(Acceleration(data["kind"]), str(data["reason"])) if data["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: probing again is all it costs


def _write(cache: Path | None, key: str, answer: Accelerator) -> None:
    if cache is None:
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_name(f".{cache.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"key": key, "kind": answer.kind.value, "reason": answer.reason}))
    temporary.rename(cache)
