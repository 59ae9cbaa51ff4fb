"""The disks of this machine, as the kernel lists them, and which of them is meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .answers import DiskChoice, WrongAnswers

PAYLOAD_LABEL = "bedplate-payload"
_NO_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock")


@dataclass(frozen=True)
class Disk:
    """A disk: its device, size in bytes, serial, model, and what keeps it from being written (empty when nothing)."""

    path: Path
    size: int
    serial: str
    model: str
    refused: str = ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def partition(label: str, sys: Path = Path("/sys"), of: Path | None = None) -> Path | None:
    """The device of the partition with this label; ``of`` asks for one on that disk alone."""
    for uevent in sorted((sys / "class/block").glob("*/uevent")):
        fields = dict(line.split("=", 1) for line in _text(uevent).splitlines() if "=" in line)
        parent = uevent.parent.resolve().parent.name
        if fields.get("PARTNAME") == label and (of is None or parent == of.name):
            return Path("/dev") / fields.get("DEVNAME", uevent.parent.name)
    return None


def disks(sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> list[Disk]:
    """Every disk but the medium's own."""
    own = {
        uevent.parent.resolve().parent.name
        for uevent in (sys / "class/block").glob("*/uevent")
        if f"PARTNAME={PAYLOAD_LABEL}" in _text(uevent).splitlines()
    }
    found = []
    for place in sorted((sys / "block").iterdir()):
        if place.name.startswith(_NO_DISKS) or place.name in own:
            continue
        size = int(_text(place / "size") or 0) * 512
        serial = _text(place / "serial") or _text(place / "device/serial")
        refused = "it is read-only" if _text(place / "ro") == "1" else ""
        if not size:
            refused = "there is no medium in it"
        if any(place.glob("holders/*")) or any(place.glob("*/holders/*")):
            refused = "something uses it"
        found.append(Disk(dev / place.name, size, serial, _text(place / "device/model"), refused))
    return found


def choose(found: list[Disk], choice: DiskChoice, needed: int) -> Disk:
    """The disk that is meant; ``needed`` is the least size in bytes.

    Raises:
        WrongAnswers: none, several, one that is too small, or one that holds something and may not be erased.
    """
    listed = "; ".join(f"{disk.path} {disk.size >> 20} MiB serial {disk.serial or '-'}" for disk in found) or "none"
    if choice.serial:
        fitting = [disk for disk in found if disk.serial == choice.serial]
    elif choice.path:
        fitting = [disk for disk in found if disk.path == Path(choice.path)]
    else:
        fitting = list(found)
    if len(fitting) != 1:
        what = "no disk is the one" if not fitting else f"{len(fitting)} disks could be the one"
        raise WrongAnswers([f"disk: {what} the answers name (there are: {listed})"])
    (disk,) = fitting
    problems = []
    if disk.refused:
        problems.append(f"disk: {disk.path} cannot be written: {disk.refused}")
    if disk.size < needed:
        problems.append(f"disk: {disk.path} has {disk.size >> 20} MiB, the system needs {-(-needed >> 20)} MiB")
    if not choice.erase and not disk.refused and not is_blank(disk.path):
        problems.append(f"disk: {disk.path} holds something; say `erase = true` to lose it")
    if problems:
        raise WrongAnswers(problems)
    return disk


def is_blank(path: Path) -> bool:
    """Whether the first MiB of a disk is all zeros: no partition table, no file system."""
    with path.open("rb") as stream:
        return not any(stream.read(1 << 20))
