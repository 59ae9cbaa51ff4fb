"""Damaged and forged copies of an image, to see that they do not boot.

A copy shares what it can with the original (reflink where the file system has it, holes stay holes); the original is
never opened for writing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox

SECTOR = 512
# GUIDs of the Discoverable Partitions Specification, as they lie on disk (mixed endian).
ESP = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
ROOT_X86_64 = bytes.fromhex("e3bc684fcde8b14d96e7fbcaf984b709")
ROOT_VERITY_X86_64 = bytes.fromhex("ed57732cd2ebd946aec123d437ec2bf5")
_FICLONE = 0x40049409
_EROFS_SUPER_OFFSET = 1024
_VERITY_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Extent:
    """A partition: byte offset and size on the disk."""

    offset: int
    size: int


def partitions(image: Path) -> list[tuple[bytes, str, Extent]]:
    """Type GUID (as on disk), label and extent of each GPT partition, in table order (UEFI specification 5.3).

    Raises:
        BadInput: the image has no GUID partition table.
    """
    with image.open("rb") as stream:
        stream.seek(SECTOR)
        header = stream.read(92)
        if header[:8] != b"EFI PART" or len(header) < 92:
            raise BadInput("no GUID partition table", where=str(image))
        entries_at, count, size = struct.unpack_from("<QII", header, 72)
        if not 128 <= size <= 4096 or count > 1024:
            raise BadInput("a damaged GUID partition table", where=str(image))
        stream.seek(entries_at * SECTOR)
        table = stream.read(count * size)
    found = []
    for start in range(0, len(table) - size + 1, size):
        kind = table[start : start + 16]
        if any(kind):
            first, last = struct.unpack_from("<QQ", table, start + 32)
            label = table[start + 56 : start + 128].decode("utf-16-le", errors="replace").rstrip("\0")
            found.append((kind, label, Extent(first * SECTOR, (last - first + 1) * SECTOR)))
    return found


def partition(image: Path, kind: bytes) -> Extent:
    """The first partition of a type: the one of slot A.

    Raises:
        BadInput: there is none.
    """
    for found, _, extent in partitions(image):
        if found == kind:
            return extent
    raise BadInput("the image lacks this partition", where=f"{image}: type {kind.hex()}")


def copy_sparse(image: Path, target: Path) -> None:
    """Copy an image: a clone where the file system can, else only the data, leaving holes."""
    with image.open("rb") as source, target.open("wb") as sink:
        try:
            fcntl.ioctl(sink.fileno(), _FICLONE, source.fileno())
        except OSError:
            _copy_data(source.fileno(), sink.fileno())


def _copy_data(source: int, sink: int) -> None:
    end = os.fstat(source).st_size
    os.ftruncate(sink, end)
    position = 0
    while position < end:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError:
            return  # nothing but a hole up to the end
        position = os.lseek(source, start, os.SEEK_HOLE)
        while start < position:
            copied = os.copy_file_range(source, sink, position - start, start, start)
            if copied == 0:
                return
            start += copied


def flip_byte(image: Path, offset: int) -> None:
    """Invert one byte of a copy in place."""
    with image.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        if not byte:
            raise BadInput(f"offset {offset} lies behind the end", where=str(image))
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 0xFF]))


def flip_in_root(image: Path, target: Path) -> int:
    """A copy with one byte of the root file system changed, in its super block, which every mount reads.

    Returns:
        The byte offset on the disk.
    """
    offset = partition(image, ROOT_X86_64).offset + _EROFS_SUPER_OFFSET + 32
    return _flipped(image, target, offset)


def flip_in_verity(image: Path, target: Path) -> int:
    """A copy with one byte of the verity tree's top block changed, which opening the root reads.

    Returns:
        The byte offset on the disk.
    """
    # The tree follows the super block's block, its top level first (cryptsetup's verity format 1).
    return _flipped(image, target, partition(image, ROOT_VERITY_X86_64).offset + _VERITY_BLOCK)


def flip_in_uki(image: Path, target: Path, toolbox: Toolbox) -> int:
    """A copy with one byte in the middle of its unified kernel image changed.

    Returns:
        The byte offset within the kernel image.
    """
    with tempfile.TemporaryDirectory(prefix="bedplate-tamper-") as scratch:
        program, name = _take_uki(image, Path(scratch), toolbox)
        offset = program.stat().st_size // 2
        flip_byte(program, offset)
        copy_sparse(image, target)
        _put_uki(target, program, name, toolbox)
    return offset


def replace_uki(image: Path, target: Path, program: bytes, toolbox: Toolbox) -> None:
    """A copy whose unified kernel image is ``program``."""
    with tempfile.TemporaryDirectory(prefix="bedplate-tamper-") as scratch:
        _, name = _take_uki(image, Path(scratch), toolbox)
        forged = Path(scratch) / "forged.efi"
        forged.write_bytes(program)
        copy_sparse(image, target)
        _put_uki(target, forged, name, toolbox)


def read_uki(image: Path, toolbox: Toolbox) -> bytes:
    """The first unified kernel image on the EFI system partition."""
    with tempfile.TemporaryDirectory(prefix="bedplate-tamper-") as scratch:
        return _take_uki(image, Path(scratch), toolbox)[0].read_bytes()


def sign_foreign(program: bytes, key: Path, certificate: Path, toolbox: Toolbox) -> bytes:
    """An unsigned EFI program, signed with a key the machine does not know (PEM files)."""
    with tempfile.TemporaryDirectory(prefix="bedplate-tamper-") as scratch:
        plain, signed = Path(scratch) / "plain.efi", Path(scratch) / "signed.efi"
        plain.write_bytes(program)
        toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", signed, plain)
        return signed.read_bytes()


def _flipped(image: Path, target: Path, offset: int) -> int:
    copy_sparse(image, target)
    flip_byte(target, offset)
    return offset


def _mtools_image(image: Path) -> str:
    return f"{image}@@{partition(image, ESP).offset}"


def _take_uki(image: Path, scratch: Path, toolbox: Toolbox) -> tuple[Path, str]:
    listing = toolbox.run("mdir", "-b", "-i", _mtools_image(image), "::/EFI/Linux").text.split()
    names = sorted(line.rpartition("/")[2] for line in listing if line.lower().endswith(".efi"))
    if not names:
        raise BadInput("no unified kernel image in /EFI/Linux", where=str(image))
    program = scratch / "taken.efi"
    toolbox.run("mcopy", "-n", "-i", _mtools_image(image), f"::/EFI/Linux/{names[0]}", program)
    return program, names[0]


def _put_uki(image: Path, program: Path, name: str, toolbox: Toolbox) -> None:
    staged = program.with_name(name)
    if staged != program:
        shutil.copyfile(program, staged)
    toolbox.run("mcopy", "-o", "-D", "o", "-i", _mtools_image(image), staged, f"::/EFI/Linux/{name}")
