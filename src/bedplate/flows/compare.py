"""Two disk images held against each other: every part apart from its signatures, and the disk as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bedplate.compose.erofs.compare import compare_images
from bedplate.compose.erofs.format import BLOCK
from bedplate.compose.gpt import Partition
from bedplate.compose.verity import VeritySuperblock
from bedplate.flows.disks import OpenDisk, compare_bytes, is_ext4
from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput
from bedplate.model.filesystem import FileSystem
from bedplate.model.pe import PeFile, parse_pe
from bedplate.verify.cpio import members, unpack_initrd
from bedplate.verify.differences import (
    ONLY_FIRST,
    ONLY_SECOND,
    PartResult,
    PathDifference,
    compare_properties,
    differing_blocks,
    member_properties,
    part_result,
    section_properties,
)
from bedplate.verify.ext4 import Ext4Image
from bedplate.verify.fat import FatFile

_PIECE = 1 << 20
_TEXTS = (".cmdline", ".osrel", ".uname", ".sbat", ".sdmagic")
_WORDS = {"only in first": ONLY_FIRST, "only in second": ONLY_SECOND}
_SIGNED_NOTE = "signatures hold the time of signing and are left out"


def compare_disks(first: OpenDisk, second: OpenDisk) -> list[PartResult]:
    """Root, verity data if there is any, initrd, UKI and boot loader without signatures, the ESP's files, and the disk.

    Raises:
        BadInput: a part of one of them is lacking or damaged.
    """
    ukis = _uki(first), _uki(second)
    return [
        _root(first, second),
        *_verity(first, second),
        _initrd(*ukis),
        _program("uki", *ukis),
        _program("loader", _loader(first), _loader(second)),
        _esp(first, second),
        _disk(first, second),
    ]


def _root(first: OpenDisk, second: OpenDisk) -> PartResult:
    parts = _required(first, first.root(), "root"), _required(second, second.root(), "root")
    if not all(is_ext4(disk.path, part.start) for disk, part in zip((first, second), parts, strict=True)):
        return _erofs_root(first, second, parts)
    with (
        Ext4Image(first.path, parts[0].start, parts[0].size) as one,
        Ext4Image(second.path, parts[1].start, parts[1].size) as two,
    ):
        digests = _digest(first, parts[0], one.total_bytes), _digest(second, parts[1], two.total_bytes)
        if digests[0] == digests[1]:
            return part_result("root", *digests)
        found = compare_properties(_file_properties(one), _file_properties(two))
    note = "" if found else "every path is the same: the bytes differ in how the file system is laid out"
    return part_result("root", *digests, found, note)


def _file_properties(system: FileSystem) -> dict[str, dict[str, str]]:
    result = {}
    for node in system.walk():
        row = {
            "mode": f"{node.mode:o}",
            "owner": f"{node.uid}:{node.gid}",
            "mtime": str(node.mtime),
            "attributes": ", ".join(f"{name}={value.hex()}" for name, value in system.xattrs(node)),
        }
        if not node.is_directory:
            digest = hashlib.sha256()
            for piece in system.stream(node):
                digest.update(piece)
            row |= {"size": str(node.size), "content": digest.hexdigest()}
        result[node.path] = row
    return result


def _erofs_root(first: OpenDisk, second: OpenDisk, parts: tuple[Partition, Partition]) -> PartResult:
    with first.erofs(parts[0]) as one, second.erofs(parts[1]) as two:
        sizes = one.superblock.blocks * BLOCK, two.superblock.blocks * BLOCK
        digests = _digest(first, parts[0], sizes[0]), _digest(second, parts[1], sizes[1])
        if digests[0] == digests[1]:
            return part_result("root", *digests)
        found = [
            PathDifference(one.path, _WORDS.get(one.what, one.what), one.first, one.second)
            for one in compare_images(one, two)
        ]
    note = "" if found else "every path is the same: the bytes differ in how the file system is laid out"
    return part_result("root", *digests, found, note)


def _verity(first: OpenDisk, second: OpenDisk) -> list[PartResult]:
    """Nothing to compare where neither disk has a verified root."""
    return [_hash_trees(first, second)] if first.verity() or second.verity() else []


def _hash_trees(first: OpenDisk, second: OpenDisk) -> PartResult:
    data = [_hash_data(disk) for disk in (first, second)]
    if data[0] == data[1]:
        return part_result("verity", sha256(data[0]), sha256(data[1]))
    blocks = [VeritySuperblock.unpack(one) for one in data]
    fields = [
        {"superblock": {name: str(getattr(block, name)) for name in ("uuid", "salt", "data_blocks", "algorithm")}}
        for block in blocks
    ]
    found = compare_properties(fields[0], fields[1])
    at, count = differing_blocks(data[0], data[1], BLOCK)
    return part_result("verity", sha256(data[0]), sha256(data[1]), found, f"{count} blocks differ, from block {at} on")


def _hash_data(disk: OpenDisk) -> bytes:
    """The whole verity partition: its slot is small, and what lies behind the tree counts too."""
    part = _required(disk, disk.verity(), "verity")
    return disk.read(part, 0, part.size)


def _initrd(first: PeFile, second: PeFile) -> PartResult:
    data = [program.section(".initrd") or b"" for program in (first, second)]
    digests = sha256(data[0]), sha256(data[1])
    if digests[0] == digests[1]:
        return part_result("initrd", *digests)
    lists = [member_properties(members(unpack_initrd(one, "initrd"), "initrd")) for one in data]
    found = compare_properties(lists[0], lists[1])
    note = "" if found else "every member is the same: the bytes differ in their order or compression"
    return part_result("initrd", *digests, found, note)


def _program(part: str, first: PeFile, second: PeFile) -> PartResult:
    bytes_ = first.unsigned(), second.unsigned()
    digests = sha256(bytes_[0]), sha256(bytes_[1])
    if digests[0] == digests[1]:
        return part_result(part, *digests, note=_SIGNED_NOTE)
    lists = [section_properties(_sections(program), _TEXTS) for program in (first, second)]
    found = compare_properties(lists[0], lists[1])
    note = "" if found else "every section is the same: the bytes differ in the headers"
    return part_result(part, *digests, found, note)


def _sections(program: PeFile) -> Iterator[tuple[str, bytes]]:
    for section in program.sections:
        yield section.name, program.data[section.offset : section.offset + section.size]


def _esp(first: OpenDisk, second: OpenDisk) -> PartResult:
    lists = [_esp_properties(disk) for disk in (first, second)]
    digests = [sha256(repr(sorted((path, sorted(p.items())) for path, p in one.items())).encode()) for one in lists]
    return part_result("esp", digests[0], digests[1], compare_properties(lists[0], lists[1]), _SIGNED_NOTE)


def _esp_properties(disk: OpenDisk) -> dict[str, dict[str, str]]:
    volume = disk.esp
    result: dict[str, dict[str, str]] = {"(volume)": {"id": f"{volume.volume_id:08x}" if volume else ""}}
    for file in disk.esp_files:
        date, time = file.modified >> 16, file.modified & 0xFFFF
        entry = {
            "attributes": f"{file.attributes:02x}",
            "modified": f"{1980 + (date >> 9)}-{date >> 5 & 15:02}-{date & 31:02} "
            f"{time >> 11:02}:{time >> 5 & 63:02}:{(time & 31) * 2:02}",
        }
        if not file.directory:
            data = disk.program(file)
            if _is_program(file):
                data = parse_pe(data, file.path).unsigned()
            entry |= {"size": str(len(data)), "content": sha256(data)}
        result[file.path] = entry
    return result


def _disk(first: OpenDisk, second: OpenDisk) -> PartResult:
    lists = [_layout_properties(disk) for disk in (first, second)]
    found = compare_properties(lists[0], lists[1])
    programs = [extent for disk in (first, second) for extent in _program_extents(disk)]
    compared = compare_bytes(first, second, programs)
    for start, end in compared.ranges:
        part = next((p for p in first.layout.partitions if p.start <= start < p.start + p.size), None)
        where = f"{part.label}, byte {start - part.start}" if part else f"byte {start} (outside partitions)"
        found.append(PathDifference(where, f"differs within {end - start} bytes"))
    return part_result("disk", compared.first_sha256, compared.second_sha256, found, _SIGNED_NOTE)


def _layout_properties(disk: OpenDisk) -> dict[str, dict[str, str]]:
    result = {"(disk)": {"uuid": str(disk.layout.uuid), "size": str(disk.layout.size)}}
    for number, part in enumerate(disk.layout.partitions, 1):
        result[f"partition {number}"] = {
            "label": part.label,
            "type": str(part.type),
            "uuid": str(part.uuid),
            "start": str(part.start),
            "size": str(part.size),
            "flags": f"{part.flags:#x}",
        }
    return result


def _program_extents(disk: OpenDisk) -> Iterator[tuple[int, int]]:
    """Where on the disk the programs lie: they were compared file by file, without their signatures."""
    esp = next((part for part in disk.layout.partitions if disk.is_esp(part)), None)
    for file in disk.esp_files:
        if esp is not None and _is_program(file):
            for start, length in file.extents:
                yield esp.start + start, esp.start + start + length


def _is_program(file: FatFile) -> bool:
    return file.path.lower().endswith(".efi")


def _uki(disk: OpenDisk) -> PeFile:
    files = disk.ukis()
    if len(files) != 1:
        raise BadInput(
            f"{len(files)} unified kernel images where one was expected",
            where=str(disk.path),
            remedy="compare a freshly built image, not one that has been updated",
        )
    return parse_pe(disk.program(files[0]), files[0].path)


def _loader(disk: OpenDisk) -> PeFile:
    files = disk.loaders()
    if not files:
        raise BadInput("the ESP has no boot loader", where=str(disk.path), remedy="build the image again")
    return parse_pe(disk.program(files[0]), files[0].path)


def _required(disk: OpenDisk, part: Partition | None, what: str) -> Partition:
    if part is None:
        raise BadInput(f"the disk has no {what} partition in use", where=str(disk.path), remedy="build it again")
    return part


def _digest(disk: OpenDisk, part: Partition, size: int) -> str:
    digest = hashlib.sha256()
    for at in range(0, size, _PIECE):
        digest.update(disk.read(part, at, min(_PIECE, size - at)))
    return digest.hexdigest()
