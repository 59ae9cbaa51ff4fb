"""The disk image: ESP with boot loader and UKI, slot A with root and verity data, slot B empty.

The table is written here and the partitions' bytes are copied inside the kernel into a sparse file; systemd-repart is
asked in a test whether it agrees with the layout. The ESP is made in its place by mkfs.vfat and mtools.

Source: Boot Loader Specification and its boot counting (``+LEFT-DONE`` in file names), Discoverable Partitions
Specification (root and verity partitions are found by the halves of the root hash), systemd-sysupdate's sysupdate.d(5)
(a free slot is labelled ``_empty``).
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from uuid import UUID, uuid5

from bedplate.compose import gpt
from bedplate.compose.erofs.copying import copy_range
from bedplate.compose.gpt import DiskLayout, Partition, read_gpt
from bedplate.model.errors import BadInput, BedplateError
from bedplate.toolchain.run import Toolbox

__all__ = ["DiskLayout", "DiskSpec", "Partition", "assemble_disk", "read_esp_file", "read_gpt"]

EMPTY_SLOT = "_empty"
ESP_LABEL = "esp"
MIN_ESP = 48 << 20  # FAT32 needs at least 65525 clusters: 33 MiB of one-sector clusters


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """One partition behind the ESP: ``content`` is what lies in it (``what`` in words), None for an empty one."""

    type: UUID
    uuid: UUID
    label: str
    size: int
    flags: int = 0
    content: Path | None = None
    what: str = ""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """What goes on a disk. Sizes are in bytes.

    ``slots`` are the partitions behind the ESP, see :func:`verified_slots` and :func:`single_root`. ``uki_name`` is the
    UKI's file name without counter and suffix. ``esp_files`` are further files of the ESP by path. ``seed`` gives all
    identifiers of the disk itself. ``free_bytes`` is left unpartitioned for what the first boot makes. ``epoch`` is the
    time of every file on the ESP.
    """

    seed: UUID
    epoch: int
    name: str
    slots: tuple[SlotSpec, ...]
    uki: Path
    uki_name: str
    boot_loader: Path
    loader_conf: str = "timeout 0\n"
    esp_bytes: int = 256 << 20
    free_bytes: int = 0
    tries: int = 3
    esp_files: Mapping[str, Path | bytes] = field(default_factory=dict)


def slot_uuids(root_hash: str) -> tuple[UUID, UUID]:
    """UUIDs of the root and the verity partition: first and last 128 bits of the root hash (hex)."""
    if len(root_hash) != 64:
        raise BadInput("a root hash has 64 hex digits", where=root_hash)
    return UUID(root_hash[:32]), UUID(root_hash[-32:])


def verified_slots(
    seed: UUID, label: str, root: Path, verity: Path, root_hash: str, root_bytes: int, verity_bytes: int
) -> tuple[SlotSpec, ...]:
    """Two slots of a verified root: A holds ``root`` and ``verity`` and is called ``label``, B is empty. Sizes in bytes
    are of each slot's partitions; they cannot grow later."""
    root_uuid, verity_uuid = slot_uuids(root_hash)
    read_only = gpt.FLAG_READ_ONLY
    return (
        SlotSpec(gpt.TYPE_ROOT_X86_64, root_uuid, label, root_bytes, read_only, root, "root file system"),
        SlotSpec(
            gpt.TYPE_ROOT_X86_64_VERITY, verity_uuid, f"{label}_verity", verity_bytes, read_only, verity, "verity data"
        ),
        SlotSpec(gpt.TYPE_ROOT_X86_64, uuid5(seed, "root-b"), EMPTY_SLOT, root_bytes),
        SlotSpec(gpt.TYPE_ROOT_X86_64_VERITY, uuid5(seed, "verity-b"), EMPTY_SLOT, verity_bytes),
    )


def single_root(seed: UUID, label: str, root: Path, root_bytes: int, room: int = 0) -> tuple[SlotSpec, ...]:
    """One writable root, last on the disk so that it can grow; ``root_bytes`` is the least it gets, ``room`` (bytes)
    what stays free behind the file system."""
    size = max(root.stat().st_size + room, root_bytes)
    return (SlotSpec(gpt.TYPE_ROOT_X86_64, uuid5(seed, "root"), label, size, gpt.FLAG_GROW, root, "root file system"),)


def plan_layout(spec: DiskSpec) -> DiskLayout:
    """The partitions of ``spec``: the ESP, then its slots.

    Raises:
        BadInput: an image is larger than its slot, or the ESP smaller than FAT32 allows.
    """
    for slot in spec.slots:
        size = slot.content.stat().st_size if slot.content is not None else 0
        if size > slot.size:
            raise BadInput(
                f"the {slot.what} has {size} bytes, its slot {slot.size}",
                where=str(slot.content),
                remedy="raise the slot size in the track's definition; installed machines keep the old size",
            )
    if spec.esp_bytes < MIN_ESP:
        raise BadInput(f"an ESP needs at least {MIN_ESP} bytes", where=spec.name)
    wanted = [
        (gpt.TYPE_ESP, uuid5(spec.seed, "esp"), ESP_LABEL, spec.esp_bytes, 0),
        *((slot.type, slot.uuid, slot.label, slot.size, slot.flags) for slot in spec.slots),
    ]
    return gpt.place(wanted, uuid5(spec.seed, "disk"), spec.free_bytes)


def assemble_disk(spec: DiskSpec, out: Path, toolbox: Toolbox) -> DiskLayout:
    """Write the disk image to ``out``, atomically; unused room is holes.

    Raises:
        BadInput: something does not fit, see :func:`plan_layout`.
        ToolError: mkfs.vfat or mtools failed, for instance because the ESP is too small for its files.
    """
    layout = plan_layout(spec)
    head, tail = gpt.write_tables(layout)
    esp, *behind = layout.partitions
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        disk = Path(folder) / "disk"
        with disk.open("xb") as stream:
            target = stream.fileno()
            os.truncate(target, layout.size)
            os.pwrite(target, head, 0)
            os.pwrite(target, tail, layout.size - len(tail))
            for slot, partition in zip(spec.slots, behind, strict=True):
                if slot.content is not None:
                    copy_data(slot.content, target, partition.start)
        _make_esp(spec, disk, esp, Path(folder), toolbox)
        disk.rename(out)
    return layout


def copy_data(source: Path, target: int, start: int) -> None:
    """Copy a file into the disk, its data only: what is a hole stays one."""
    with source.open("rb") as content:
        descriptor, size = content.fileno(), os.fstat(content.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return  # nothing but a hole up to the end
            hole = os.lseek(descriptor, at, os.SEEK_HOLE)
            copy_range(descriptor, at, target, start + at, hole - at)
            at = hole


def _make_esp(spec: DiskSpec, disk: Path, esp: Partition, folder: Path, toolbox: Toolbox) -> None:
    files: dict[str, Path | bytes] = {
        "EFI/BOOT/BOOTX64.EFI": spec.boot_loader,
        "EFI/systemd/systemd-bootx64.efi": spec.boot_loader,
        f"EFI/Linux/{spec.uki_name}+{spec.tries}-0.efi": spec.uki,
        "loader/loader.conf": spec.loader_conf.encode(),
        **spec.esp_files,
    }
    volume = uuid5(spec.seed, "esp-volume").hex[:8]
    toolbox.run(
        # The volume id stands behind --invariant, which would set a constant of its own.
        # One sector a cluster: firmware refuses a FAT32 of fewer than 65,525 clusters, and with --offset mkfs.vfat
        # chooses the cluster size by the whole disk.
        "mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", "-S", str(gpt.SECTOR), "--invariant", "-i", volume,
        f"--offset={esp.start // gpt.SECTOR}", disk, str(esp.size // 1024),
    )  # fmt: skip
    at = f"{disk}@@{esp.start}"
    # mtools takes times from here; it reads no configuration, so that nothing of the host's can change the bytes.
    env = {"SOURCE_DATE_EPOCH": str(spec.epoch), "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1"}
    folders = sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."})
    toolbox.run("mmd", "-i", at, *(f"::/{name}" for name in folders), env=env)
    by_folder: dict[str, list[Path]] = {}
    staged = folder / "esp"
    for name, content in sorted(files.items()):
        path = PurePosixPath(name)
        source = staged / name
        source.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            source.write_bytes(content)
        else:
            source.symlink_to(content.resolve())
        by_folder.setdefault(str(path.parent), []).append(source)
    for name, sources in by_folder.items():
        toolbox.run("mcopy", "-Q", "-i", at, *sources, f"::/{name}/", env=env)


def read_esp_file(disk: Path, name: str, toolbox: Toolbox) -> bytes:
    """The content of a file on the disk's ESP; ``name`` is its path without a leading slash.

    Raises:
        BedplateError: the disk has no ESP.
        ToolError: the file does not exist.
    """
    return toolbox.run("mtype", "-i", _esp_of(disk), f"::/{name}", env={"MTOOLSRC": os.devnull}).stdout


def list_esp(disk: Path, toolbox: Toolbox) -> list[str]:
    """Paths of all files and directories on the disk's ESP; directories end with a slash."""
    listing = toolbox.run("mdir", "-/", "-b", "-i", _esp_of(disk), "::/", env={"MTOOLSRC": os.devnull}).text
    return sorted(line.removeprefix("::/") for line in listing.splitlines() if line.strip())


def _esp_of(disk: Path) -> str:
    for partition in read_gpt(disk).partitions:
        if partition.type == gpt.TYPE_ESP:
            return f"{disk}@@{partition.start}"
    raise BedplateError("the disk has no EFI system partition", where=str(disk))
