"""What a booted image says of itself, parsed.

The guest is the thing under test: its report is taken as data, bounded in size, and never shown with the control
characters it may hold.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bedplate.emulator.channel import plain_text
from bedplate.emulator.options import Accelerator
from bedplate.model.digest import sha256
from bedplate.model.errors import BedplateError

# Sent as soon as the report's unit runs: the guest's own time since its kernel started.
UP = re.compile(rb"=== bedplate guest up (\d{1,7}\.\d+) ===")
END = re.compile(rb"=== bedplate report end ===")
_FRAME = re.compile(
    rb"=== bedplate report (\d{1,8}) ([0-9a-f]{64}) ===\r?\n([A-Za-z0-9+/=\s]*?)=== bedplate report end ==="
)
_LIMIT = 1 << 20
_SECTION = re.compile(r"^@([a-z0-9]+)$", re.MULTILINE)
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class BootSeconds:
    """Seconds of each part of the boot, by the guest's clocks; ``total`` is from power-on to ``running``."""

    firmware: float
    loader: float
    kernel: float
    initrd: float
    userspace: float
    total: float


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket: protocol, local address with port, and the process where it is known."""

    protocol: str
    address: str
    process: str


@dataclass(frozen=True, slots=True)
class BootReport:
    """What was seen in a booted host.

    ``state`` is systemd's (``running``, ``degraded``). ``secure_boot``: the firmware says it is enforced and has left
    setup mode. ``verity``: the root file system lies on a dm-verity device whose status is verified; ``root_hash`` is
    that device's. ``pcr11_matches`` is None when there was no TPM or nothing to compare with; ``containers_ran`` is
    None when no container was asked for. ``var_device`` is how /var is kept (``encrypted``, ``plain``, ``memory``,
    ``image``). ``selinux`` is ``enforcing``, ``permissive`` or empty, ``selinux_denials`` what it refused (or would
    have).
    """

    state: str
    failed_units: tuple[str, ...]
    secure_boot: bool
    verity: bool
    tpm: bool
    pcr11_matches: bool | None
    accelerator: str
    accelerator_reason: str
    boot_seconds: BootSeconds
    containers_ran: bool | None
    root_hash: str = ""
    pcr11: str = ""
    pcrs: tuple[tuple[int, str], ...] = ()
    lockdown: str = ""
    module_signatures_enforced: bool = False
    var_device: str = ""
    version: str = ""
    kernel: str = ""
    command_line: str = ""
    listening: tuple[Listener, ...] = ()
    processes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    journal_errors: tuple[str, ...] = ()
    slowest_units: tuple[str, ...] = ()
    container_output: tuple[str, ...] = ()
    selinux: str = ""
    selinux_denials: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data with the field names as keys."""
        return asdict(self)


def unframe(data: bytes) -> str | None:
    """The report's text out of what came over the port, None while it is not complete.

    Raises:
        BedplateError: it is complete and damaged.
    """
    frame = _FRAME.search(data)
    if frame is None:
        if END.search(data):
            raise BedplateError("the guest's report lacks its beginning", remedy="boot again; -v shows the console")
        return None
    size, digest, encoded = int(frame[1]), frame[2].decode(), frame[3]
    if size > _LIMIT:
        raise BedplateError(f"the guest's report has {size} bytes, at most {_LIMIT} are read")
    try:
        text = base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error as error:
        raise BedplateError(f"the guest's report is damaged ({error})") from error
    if len(text) != size or sha256(text) != digest:
        raise BedplateError(f"the guest's report is damaged ({len(text)} of {size} bytes arrived whole)")
    return plain_text(text)


def parse_report(
    text: str,
    accelerator: Accelerator,
    expected_pcr11: Sequence[str] = (),
    power_on: tuple[float, float] | None = None,
) -> BootReport:
    """Parse the text of a report.

    Args:
        expected_pcr11: Hex SHA-256 values PCR 11 may have once the boot is over.
        power_on: See :func:`boot_seconds`.

    Raises:
        BedplateError: the report has no end or lacks the state.
    """
    sections = _sections(text)
    if "end" not in sections or not sections.get("state", "").strip():
        raise BedplateError("the guest's report is not complete", details=text.splitlines()[-5:])
    tpm = _first(sections, "tpm") == "2"
    pcr11 = _first(sections, "pcr11").lower()
    verity = _pairs(sections.get("verity", ""), ":")
    matches = pcr11 in {value.lower() for value in expected_pcr11} if tpm and expected_pcr11 else None
    return BootReport(
        state=_first(sections, "state"),
        failed_units=tuple(_lines(sections, "failed")),
        secure_boot=_efi_flag(sections, "secureboot") == 1 and _efi_flag(sections, "setupmode") == 0,
        verity=_on_verity(sections) and verity.get("status", "") == "verified",
        tpm=tpm,
        pcr11_matches=matches,
        accelerator=accelerator.kind.value,
        accelerator_reason=accelerator.reason,
        boot_seconds=boot_seconds(_pairs(sections.get("times", ""), "="), _first(sections, "init"), power_on),
        containers_ran=_container_ran(sections),
        root_hash=verity.get("root hash", ""),
        pcr11=pcr11,
        pcrs=_pcrs(sections),
        lockdown=_bracketed(_first(sections, "lockdown")),
        module_signatures_enforced=_first(sections, "sigenforce") == "Y",
        var_device=_var_device(sections),
        version=_pairs(sections.get("osrelease", ""), "=").get("IMAGE_VERSION", "").strip('"'),
        kernel=_first(sections, "kernel"),
        command_line=_first(sections, "cmdline"),
        listening=tuple(_listeners(sections)),
        processes=tuple(_lines(sections, "processes")),
        mounts=tuple(_lines(sections, "mounts")),
        journal_errors=tuple(_lines(sections, "errors")),
        slowest_units=tuple(_lines(sections, "blame")),
        container_output=tuple(_lines(sections, "container")),
        selinux={"1": "enforcing", "0": "permissive"}.get(_first(sections, "selinux"), ""),
        selinux_denials=tuple(dict.fromkeys(_lines(sections, "denials"))),
    )


def boot_seconds(times: Mapping[str, str], init_line: str, power_on: tuple[float, float] | None = None) -> BootSeconds:
    """Split the boot into its parts.

    Args:
        times: systemd's properties ``…TimestampMonotonic`` in microseconds: firmware and loader count down to the
            start of the kernel, the others up from it (systemd-analyze(1)).
        init_line: Microseconds at which the kernel started ``/init``, by its log: an initrd that is not systemd
            leaves no other trace. Empty when there is none.
        power_on: Seconds of firmware and loader as seen from outside, for a guest whose loader kept no times.
    """

    def seconds(name: str) -> float:
        value = times.get(f"{name}TimestampMonotonic", "0")
        return int(value) / _MICROSECONDS if value.isdigit() else 0.0

    firmware, loader = seconds("Firmware"), seconds("Loader")
    userspace, finish = seconds("Userspace"), seconds("Finish")
    init = seconds("InitRD") or (int(init_line) / _MICROSECONDS if init_line.isdigit() else 0.0)
    if not firmware and power_on is not None:
        firmware, loader = sum(power_on), power_on[1]
    kernel = init if 0 < init < userspace else userspace
    return BootSeconds(
        firmware=round(max(firmware - loader, 0.0), 3),
        loader=round(loader, 3),
        kernel=round(kernel, 3),
        initrd=round(userspace - kernel, 3),
        userspace=round(max(finish - userspace, 0.0), 3),
        total=round(firmware + finish, 3),
    )


def _sections(text: str) -> dict[str, str]:
    parts = _SECTION.split(text)
    # A name that comes twice keeps its first text: later lines of a section cannot speak for another one.
    sections: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        sections.setdefault(name, body)
    return sections


def _lines(sections: Mapping[str, str], name: str) -> list[str]:
    return [line.strip() for line in sections.get(name, "").splitlines() if line.strip()]


def _first(sections: Mapping[str, str], name: str) -> str:
    lines = _lines(sections, name)
    return lines[0] if lines else ""


def _pairs(text: str, separator: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        key, found, value = line.partition(separator)
        if found:
            pairs.setdefault(key.strip(), value.strip())
    return pairs


def _efi_flag(sections: Mapping[str, str], name: str) -> int | None:
    # A file of efivarfs is four bytes of attributes and then the value.
    numbers = _first(sections, name).split()
    return int(numbers[4]) if len(numbers) == 5 and numbers[4].isdigit() else None


def _on_verity(sections: Mapping[str, str]) -> bool:
    root = _first(sections, "rootdev").split(" ")[0]
    for line in _lines(sections, "dm"):
        fields = line.split()
        if f"dev={root}" in fields and len(fields) > 1:
            return fields[1].startswith("CRYPT-VERITY-")
    return False


def _bracketed(text: str) -> str:
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else ""


def _pcrs(sections: Mapping[str, str]) -> tuple[tuple[int, str], ...]:
    pairs = _pairs(sections.get("pcrs", ""), "=")
    return tuple(sorted((int(number), value.lower()) for number, value in pairs.items() if number.isdigit() and value))


def _var_device(sections: Mapping[str, str]) -> str:
    for line in _lines(sections, "mounts"):
        device, _, rest = line.partition(" ")
        target, _, rest = rest.partition(" ")
        if target == "/var":
            if rest.split(" ")[0] in ("tmpfs", "ramfs"):
                return "memory"
            encrypted = any(" CRYPT-LUKS2-" in f" {entry}" for entry in _lines(sections, "dm"))
            return "encrypted" if encrypted and device.startswith("/dev/mapper/") else "plain"
    return "image"


def _listeners(sections: Mapping[str, str]) -> list[Listener]:
    listeners = []
    for line in _lines(sections, "listen"):
        fields = line.split()
        # ss: Netid State Recv-Q Send-Q Local:Port Peer:Port [Process]
        if len(fields) >= 6 and fields[0] in ("tcp", "udp"):
            name = re.search(r'"([^"]+)"', " ".join(fields[6:]))
            listeners.append(Listener(fields[0], fields[4], name[1] if name else ""))
    return listeners


def _container_ran(sections: Mapping[str, str]) -> bool | None:
    lines = _lines(sections, "container")
    if not any(line.startswith("exit=") for line in lines):
        return None
    return "exit=0" in lines and PROOF in lines


PROOF = "bedplate-container-ran"
