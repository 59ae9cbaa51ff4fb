"""Reading the parts of a finished image where they lie: nothing is mounted, copied or unpacked."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bedplate.compose.disk import DiskLayout, Partition, read_gpt
from bedplate.compose.erofs.reader import ErofsImage
from bedplate.compose.formats.qcow2 import read_qcow2
from bedplate.compose.gpt import SECTOR, TYPE_ESP, TYPE_ROOT_X86_64, TYPE_ROOT_X86_64_VERITY
from bedplate.model.errors import BadInput
from bedplate.verify.ext4 import MAGIC as _EXT4_MAGIC
from bedplate.verify.ext4 import MAGIC_OFFSET as _EXT4_OFFSET
from bedplate.verify.fat import FatFile, FatVolume

UKI_FOLDER = "efi/linux/"
LOADERS = ("efi/boot/bootx64.efi", "efi/systemd/systemd-bootx64.efi")
_PIECE = 1 << 20
_MAX_PROGRAM = 1 << 30
_EROFS_MAGIC = (1024, b"\xe2\xe1\xf5\xe0")
_QCOW2_MAGIC = b"QFI\xfb"


def kind_of(path: Path) -> str:
    """``disk``, ``root`` (an EROFS or ext4 image), ``uki`` or ``qcow2``, by content.

    Raises:
        BadInput: none of them.
    """
    with path.open("rb") as stream:
        head = stream.read(2048)
    if head[512:520] == b"EFI PART":
        return "disk"
    if head[_EROFS_MAGIC[0] : _EROFS_MAGIC[0] + 4] == _EROFS_MAGIC[1]:
        return "root"
    if head[_EXT4_OFFSET : _EXT4_OFFSET + 2] == _EXT4_MAGIC:
        return "root"
    if head[:2] == b"MZ":
        return "uki"
    if head[:4] == _QCOW2_MAGIC:
        return "qcow2"
    raise BadInput(
        "not an image: no GUID partition table, no EROFS, no EFI program",
        where=str(path),
        remedy="name a disk image, a build's directory, a UKI or a root file system",
    )


def is_ext4(path: Path, offset: int) -> bool:
    """Whether an ext4 file system starts at ``offset`` (bytes) of a file."""
    with path.open("rb") as stream:
        stream.seek(offset + _EXT4_OFFSET)
        return stream.read(2) == _EXT4_MAGIC


@dataclass(frozen=True)
class OpenDisk:
    """A disk image, open for reading. Made by :func:`open_disk`."""

    path: Path
    descriptor: int
    layout: DiskLayout

    def read(self, partition: Partition, offset: int, length: int) -> bytes:
        """Bytes of a partition; fewer at its end."""
        return os.pread(self.descriptor, max(0, min(length, partition.size - offset)), partition.start + offset)

    def is_empty(self, partition: Partition) -> bool:
        """Whether no byte of a partition is set. Holes are not read."""
        return not any(data.strip(b"\0") for _, data in self.data(partition.start, partition.start + partition.size))

    def data(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of all pieces between two offsets that are not holes."""
        at = start
        while at < end:
            try:
                at = os.lseek(self.descriptor, at, os.SEEK_DATA)
                hole = min(end, os.lseek(self.descriptor, at, os.SEEK_HOLE))
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # a hole up to the end of the file
                raise
            while at < hole:
                data = os.pread(self.descriptor, min(_PIECE, hole - at), at)
                if not data:
                    return
                yield at, data
                at += len(data)

    def blank(self, start: int, end: int) -> bool:
        """Whether there is nothing but a hole between two offsets."""
        try:
            return os.lseek(self.descriptor, start, os.SEEK_DATA) >= end
        except OSError as error:
            if error.errno == errno.ENXIO:
                return True
            raise

    def first(self, kind: object, uuid: str = "") -> Partition | None:
        """The partition of a type whose UUID starts as ``uuid`` does, else the first of the type that is in use."""
        found = [part for part in self.layout.partitions if part.type == kind]
        for part in found:
            if uuid and part.uuid.hex == uuid:
                return part
        return next((part for part in found if not part.label.startswith("_")), None)

    @staticmethod
    def is_esp(partition: Partition) -> bool:
        """Whether a partition is an EFI system partition."""
        return partition.type == TYPE_ESP

    @cached_property
    def esp(self) -> FatVolume | None:
        """The EFI system partition, None without one.

        Raises:
            BadInput: it is not a FAT volume, or a damaged one.
        """
        part = self.first(TYPE_ESP)
        if part is None:
            return None
        return FatVolume(lambda at, length: self.read(part, at, length), part.size, f"{self.path}: ESP")

    @cached_property
    def esp_files(self) -> list[FatFile]:
        """Files and directories of the ESP, sorted by path."""
        return self.esp.files() if self.esp is not None else []

    def program(self, file: FatFile) -> bytes:
        """The content of a file of the ESP."""
        if self.esp is None or file.size > _MAX_PROGRAM:
            raise BadInput("a file larger than any EFI program", where=f"{self.path}: {file.path}")
        return self.esp.read(file)

    def loaders(self) -> list[FatFile]:
        """Boot loaders on the ESP: those the firmware starts."""
        return [file for file in self.esp_files if file.path.lower() in LOADERS]

    def ukis(self) -> list[FatFile]:
        """Unified kernel images on the ESP."""
        return [
            file
            for file in self.esp_files
            if file.path.lower().startswith(UKI_FOLDER) and file.path.lower().endswith(".efi")
        ]

    def root(self, root_hash: str = "") -> Partition | None:
        """The root partition the root hash names, else the first one in use."""
        return self.first(TYPE_ROOT_X86_64, root_hash[:32])

    def verity(self, root_hash: str = "") -> Partition | None:
        """The verity partition the root hash names, else the first one in use."""
        return self.first(TYPE_ROOT_X86_64_VERITY, root_hash[-32:])

    def erofs(self, partition: Partition) -> ErofsImage:
        """The file system of a partition.

        Raises:
            BadImage: it is not EROFS, or damaged.
        """
        return ErofsImage(self.path, partition.start, partition.size)


@contextmanager
def open_disk(path: Path) -> Iterator[OpenDisk]:
    """Open a disk image for reading.

    Raises:
        BadInput: no or a damaged partition table, or an image cut short.
    """
    layout = read_gpt(path)
    end = max((part.start + part.size for part in layout.partitions), default=0)
    if layout.size < end:
        raise BadInput("the disk image is cut short", where=str(path), remedy="build or fetch the image again")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield OpenDisk(path, descriptor, layout)
    finally:
        os.close(descriptor)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A QCOW2 image as a raw one with holes, as long as the context lasts.

    Raises:
        BadInput: not one that Bedplate made, or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="bedplate-") as scratch:
        plain = Path(scratch) / path.name
        read_qcow2(path, plain)
        yield plain


@dataclass(frozen=True, slots=True)
class BytesCompared:
    """Hex SHA-256 of what was compared of each disk, and the ranges (start, end) that differ: whole sectors, at most a
    MiB each."""

    first_sha256: str
    second_sha256: str
    ranges: tuple[tuple[int, int], ...]


def compare_bytes(first: OpenDisk, second: OpenDisk, left_out: list[tuple[int, int]]) -> BytesCompared:
    """Compare two disks byte by byte; what both lack (holes) counts as zeros and is not read.

    Args:
        left_out: Ranges that are not compared, from start to end.
    """
    digests = hashlib.sha256(), hashlib.sha256()
    ranges = []
    for start, end in _outside(left_out, max(first.layout.size, second.layout.size)):
        for at in range(start, end, _PIECE):
            stop = min(at + _PIECE, end)
            if first.blank(at, stop) and second.blank(at, stop):
                continue
            pieces = [os.pread(disk.descriptor, stop - at, at).ljust(stop - at, b"\0") for disk in (first, second)]
            for digest, piece in zip(digests, pieces, strict=True):
                digest.update(at.to_bytes(8, "little") + piece)
            if pieces[0] != pieces[1]:
                wrong = [
                    n for n in range(0, stop - at, SECTOR) if pieces[0][n : n + SECTOR] != pieces[1][n : n + SECTOR]
                ]
                ranges.append((at + wrong[0], min(stop, at + wrong[-1] + SECTOR)))
    return BytesCompared(digests[0].hexdigest(), digests[1].hexdigest(), tuple(ranges))


def _outside(left_out: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in sorted(left_out):
        if start > at:
            yield at, min(start, size)
        at = max(at, end)
    if at < size:
        yield at, size
