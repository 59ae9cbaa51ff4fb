"""The QEMU command line of a machine: a pure function of its options and the places of its files.

Sources: qemu(1); OVMF's requirements for Secure Boot (SMM, flash writable from SMM only).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.emulator.options import Acceleration, Accelerator, Cable, DiskForm, Drive, MachineOptions

REPORT_PORT = "bedplate.report"

# An AMD-like model with the features of x86-64-v2: everything a distribution's baseline asks for. For an Intel model
# the kernel isolates page tables against Meltdown, which costs a software-emulated boot a third of its time. AES is
# added because the disk of a node is encrypted, SHA because every block of its root is checked.
TCG_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+lahf-lm,+aes,+pclmulqdq,+rdrand,+sha-ni"
_TCG = "tcg,thread=multi,tb-size=512"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files and channels of one running machine are.

    ``console``, ``report``, ``qmp`` and ``tpm`` are numbers of connected sockets the QEMU process inherits; ``tpm`` is
    None without a TPM. ``data`` are directories with firmware blobs. ``credentials`` maps name to a file that holds
    the SMBIOS string. ``identity`` is the machine's UUID.
    """

    disk: Path
    code: Path
    variables: Path
    data: tuple[Path, ...]
    console: int
    report: int
    qmp: int
    tpm: int | None
    identity: str = "00000000-0000-4000-8000-000000000001"
    credentials: tuple[Path, ...] = ()


def machine_command(options: MachineOptions, accelerator: Accelerator, places: Places) -> list[str]:
    """Arguments for ``qemu-system-x86_64``."""
    arguments = ["-no-user-config", "-nodefaults", "-display", "none", "-vga", "none"]
    for directory in places.data:
        arguments += ["-L", str(directory)]
    arguments += _base(options, accelerator)
    arguments += ["-uuid", places.identity]
    arguments += _firmware(places)
    arguments += _channels(places)
    arguments += _disks(options, places)
    arguments += _network(options)
    if places.tpm is not None:
        arguments += [
            *("-chardev", f"socket,id=tpm,fd={places.tpm}"),
            *("-tpmdev", "emulator,id=tpm0,chardev=tpm"),
            *("-device", "tpm-crb,tpmdev=tpm0"),
        ]
    for path in places.credentials:
        arguments += ["-smbios", f"type=11,path={escape(path)}"]
    return arguments


def escape(value: object) -> str:
    """A value within a QEMU option string: a comma is written twice."""
    return str(value).replace(",", ",,")


def _base(options: MachineOptions, accelerator: Accelerator) -> list[str]:
    kvm = accelerator.kind is Acceleration.KVM
    return [
        # A node has no use for what the board brings; firmware, kernel and udev look at each of its devices and ports.
        *("-machine", "q35,smm=on,vmport=off,hpet=off,sata=off,smbus=off,i8042=off"),
        *("-accel", "kvm" if kvm else _TCG),
        *("-cpu", options.cpu or ("host" if kvm else TCG_CPU)),
        *("-smp", str(options.cpus if options.cpus is not None else 2 if kvm else 1)),
        *("-m", f"{options.memory_mib}M"),
        *("-boot", "menu=off,strict=on"),
        *("-action", "reboot=reset" if options.restart else "reboot=shutdown"),
        *("-rtc", "base=utc,clock=host"),
        *("-object", "rng-builtin,id=rng"),
        *("-device", "virtio-rng-pci,rng=rng"),
    ]


def _firmware(places: Places) -> list[str]:
    return [
        *("-global", "driver=cfi.pflash01,property=secure,value=on"),
        *("-global", "ICH9-LPC.disable_s3=1"),
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={escape(places.code)}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={escape(places.variables)}"),
    ]


def _channels(places: Places) -> list[str]:
    return [
        *("-chardev", f"socket,id=console,fd={places.console}"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=report,fd={places.report}"),
        *("-device", "virtio-serial-pci,id=vserial"),
        *("-device", f"virtserialport,bus=vserial.0,nr=1,chardev=report,name={REPORT_PORT}"),
        *("-chardev", f"socket,id=qmp,fd={places.qmp}"),
        *("-mon", "chardev=qmp,mode=control"),
    ]


def _disks(options: MachineOptions, places: Places) -> list[str]:
    # The overlay dies with the machine or is thrown away after a crash: no guest flush needs to reach the platter.
    form = "raw" if options.disk_form is DiskForm.COPY else "qcow2"
    arguments = [
        *("-drive", f"if=none,id=system,format={form},cache=unsafe,discard=unmap,file={escape(places.disk)}"),
        *("-device", "virtio-blk-pci,drive=system,serial=system,bootindex=0"),
    ]
    for number, drive in enumerate(options.drives):
        arguments += [
            "-drive",
            f"if=none,id=extra{number},format={drive.format},{_access(drive)},file={escape(drive.path)}",
            *("-device", f"virtio-blk-pci,drive=extra{number},serial={escape(drive.serial)}"),
        ]
    return arguments


def _access(drive: Drive) -> str:
    return "readonly=on" if drive.read_only else "cache=unsafe,discard=unmap"


def _network(options: MachineOptions) -> list[str]:
    cards = _cable(options.cable) if options.cable is not None else []
    if not options.network:
        return cards or ["-nic", "none"]
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{entry.host_port}-:{entry.guest_port}" for entry in options.forwards)
    # An empty romfile keeps the network boot code out of the firmware, which would only cost time.
    return ["-netdev", f"user,id=net0{forwards}", "-device", "virtio-net-pci,netdev=net0,romfile=", *cards]


def _cable(cable: Cable) -> list[str]:
    here = f"local.type=unix,local.path={escape(cable.here)}"
    there = f"remote.type=unix,remote.path={escape(cable.there)}"
    return [
        *("-netdev", f"dgram,id=cable,{here},{there}"),
        *("-device", f"virtio-net-pci,netdev=cable,mac={cable.address},romfile="),
    ]
