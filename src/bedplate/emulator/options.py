"""What a machine is made of: plain values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

GIB = 1 << 30

HOST_ADDRESS = "10.0.2.2"
"""Where the host's loopback address is for a machine on the emulator's own network."""


class Acceleration(StrEnum):
    """How the guest's instructions are run."""

    KVM = "kvm"
    TCG = "tcg"


class DiskForm(StrEnum):
    """What a machine writes to: a QCOW2 overlay of the image, or a raw copy of it.

    A copy holds every write the guest was told of, even when the emulator is killed, and other programs can read and
    change it between boots; an overlay is faster to make.
    """

    OVERLAY = "overlay"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The acceleration chosen and, in words, why."""

    kind: Acceleration
    reason: str


@dataclass(frozen=True, slots=True)
class Drive:
    """A further disk. ``serial`` (20 characters at most) names it in the guest; the file is never written to unless
    ``read_only`` is False."""

    path: Path
    serial: str
    format: str = "raw"
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Forward:
    """A TCP port of the host's loopback address that leads to one of the guest."""

    host_port: int
    guest_port: int


@dataclass(frozen=True, slots=True)
class Cable:
    """One end of a direct link to another machine: a second network card that nothing else can reach.

    ``here`` and ``there`` are the sockets of the two ends, new names in a private directory; the other machine has them
    the other way round. What is sent while the other machine is off is lost, as on a wire. ``address`` is the card's
    (MAC), different at the two ends.
    """

    here: Path
    there: Path
    address: str


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """One machine.

    ``image`` is a raw disk image; it is never written to. ``cpus`` None is two under KVM and one under software
    emulation, where every call of the firmware into SMM makes all processors wait for one another. ``disk_bytes`` is
    the size the guest sees, at least the image's. ``certificates`` are PEM certificates enrolled as PK, KEK and db,
    and nothing else: Secure Boot is then enforced; without any the firmware is in setup mode. ``credentials`` are
    systemd system credentials. ``restart`` says whether a guest that resets starts again; otherwise its reset ends the
    machine. ``network`` False leaves the guest without a network card to the host. ``cable`` links it to another
    machine.
    """

    image: Path
    memory_mib: int = 2048
    cpus: int | None = None
    cpu: str = ""
    disk_bytes: int = 8 * GIB
    certificates: tuple[bytes, ...] = ()
    tpm: bool = True
    network: bool = True
    forwards: tuple[Forward, ...] = ()
    cable: Cable | None = None
    drives: tuple[Drive, ...] = ()
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    restart: bool = True
    disk_form: DiskForm = DiskForm.OVERLAY
