"""Writing the image: chunk by chunk, read again and compared; the partition table comes last, with new identifiers.

Until the table is there the disk boots nothing, so an installation that was broken off is seen and can be begun again.

Source: UEFI specification 2.10, chapter 5; ioctls of linux/fs.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import subprocess
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20
MAGIC = b"BEDPLATE"
_SECTOR = 512
_BLKZEROOUT, _BLKFLSBUF, _BLKRRPART = 0x127F, 0x1261, 0x125F
_HEADER = struct.Struct("<8sIIII4Q16sQIII")
_MAX_MANIFEST = 1 << 24

Say = Callable[[str], None]


class Failed(Exception):
    """The installation failed; the text says why, and what state the disk is in."""


@dataclass(frozen=True)
class Payload:
    """The image on the medium: its size in bytes, runs of chunks (first, count) that are not zeros, their SHA-256."""

    device: Path
    start: int
    length: int
    size: int
    runs: list[tuple[int, int]]
    sha256: str
    name: str


def open_payload(device: Path) -> Payload:
    """Read the payload's manifest.

    Raises:
        Failed: there is none, or it is damaged.
    """
    with device.open("rb") as stream:
        head = stream.read(16)
        length = int.from_bytes(head[8:16], "little")
        if head[:8] != MAGIC or not 0 < length < _MAX_MANIFEST:
            raise Failed("the medium holds no image; write it again")
        try:
            data = json.loads(stream.read(length))
            runs = [(int(first), int(count)) for first, count in data["runs"]]
            return Payload(
                device, 16 + length, int(data["length"]), int(data["size"]), runs, data["sha256"], data["name"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(f"the image's description on the medium is damaged ({error}); write it again") from error


def write_image(payload: Payload, disk: Path, size: int, say: Say) -> None:
    """Write the image to ``disk`` (``size`` bytes) and check it; the disk has a partition table when all is there.

    Raises:
        Failed: the medium is damaged, or the disk does not give back what was written.
    """
    with _opened(disk) as target:
        _zero(target, 0, CHUNK)
        _zero(target, size // CHUNK * CHUNK - CHUNK, size - (size // CHUNK * CHUNK - CHUNK))
        os.fsync(target)
        first = _copy(payload, target, say)
        os.fsync(target)
        with contextlib.suppress(OSError):
            fcntl.ioctl(target, _BLKFLSBUF)
        say("checking what was written")
        _check(payload, target, first)
        _write_tables(first, target, size)
        os.fsync(target)
        with contextlib.suppress(OSError):
            fcntl.ioctl(target, _BLKRRPART)


def forget(disk: Path) -> None:
    """Take the partition table away again: what is on the disk is not to be booted."""
    with contextlib.suppress(OSError), _opened(disk) as target:
        _zero(target, 0, CHUNK)
        os.fsync(target)


@contextlib.contextmanager
def _opened(disk: Path) -> Iterator[int]:
    try:
        target = os.open(disk, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(f"{disk} cannot be opened for writing: {error.strerror}; nothing was written") from error
    try:
        yield target
    finally:
        os.close(target)


def _copy(payload: Payload, target: int, say: Say) -> bytes:
    """Write all chunks but the first, which is given back."""
    digest, first, done = hashlib.sha256(), b"", 0
    total = sum(count for _, count in payload.runs)
    at = 0
    with payload.device.open("rb") as medium:
        medium.seek(payload.start)
        process = subprocess.Popen(["zstd", "-dc", "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        with _feeding(medium, payload.length, process):
            for start, count in payload.runs:
                _zero(target, at * CHUNK, (start - at) * CHUNK)
                for number in range(start, start + count):
                    data = process.stdout.read(CHUNK)
                    if len(data) != CHUNK:
                        raise Failed("the medium ends too early; write it again. The disk boots nothing")
                    digest.update(data)
                    if number:
                        _write(target, data, number * CHUNK)
                    else:
                        first = data
                    done += 1
                    if done % 64 == 0:
                        say(f"{100 * done // total} % written")
                at = start + count
            _zero(target, at * CHUNK, max(0, payload.size - at * CHUNK))
    if digest.hexdigest() != payload.sha256 or not first:
        raise Failed("the image on the medium is damaged; write it again. The disk boots nothing")
    return first


@contextlib.contextmanager
def _feeding(medium, length: int, process: subprocess.Popen[bytes]) -> Iterator[None]:  # type: ignore[no-untyped-def]
    import threading

    def feed() -> None:
        left = length
        with contextlib.suppress(BrokenPipeError), process.stdin:
            while left:
                data = medium.read(min(CHUNK, left))
                if not data:
                    break
                process.stdin.write(data)
                left -= len(data)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield
    finally:
        process.stdout.close()
        process.wait()
        thread.join()


def _write(target: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, at)
        view, at = view[written:], at + written


def _zero(target: int, at: int, length: int) -> None:
    if length <= 0:
        return
    try:
        fcntl.ioctl(target, _BLKZEROOUT, struct.pack("QQ", at, length))
    except OSError:
        blank = bytes(CHUNK)
        for start in range(at, at + length, CHUNK):
            _write(target, blank[: min(CHUNK, at + length - start)], start)


def _check(payload: Payload, target: int, first: bytes) -> None:
    digest = hashlib.sha256()
    for start, count in payload.runs:
        for number in range(start, start + count):
            digest.update(os.pread(target, CHUNK, number * CHUNK) if number else first)
    if digest.hexdigest() != payload.sha256:
        raise Failed("the disk does not give back what was written to it: it is broken. It boots nothing")


def _write_tables(first: bytes, target: int, size: int) -> None:
    """The image's partition table for a disk of ``size`` bytes, every identifier new; the second copy first."""
    fields = _HEADER.unpack_from(first, _SECTOR)
    count, entry_bytes = fields[11], fields[12]
    table = bytearray(first[2 * _SECTOR : 2 * _SECTOR + count * entry_bytes])
    for at in range(0, len(table), entry_bytes):
        if any(table[at : at + 16]):
            table[at + 16 : at + 32] = uuid.uuid4().bytes_le
    crc, disk, last = zlib.crc32(table), uuid.uuid4().bytes_le, size // _SECTOR - 1
    sectors = -(-len(table) // _SECTOR)

    def header(here: int, other: int, place: int) -> bytes:
        rest = (0, here, other, 2 + sectors, last - 1 - sectors, disk, place, count, entry_bytes, crc)
        own = zlib.crc32(_HEADER.pack(b"EFI PART", 0x10000, _HEADER.size, 0, *rest))
        return _HEADER.pack(b"EFI PART", 0x10000, _HEADER.size, own, *rest).ljust(_SECTOR, b"\0")

    _write(
        target,
        bytes(table).ljust(sectors * _SECTOR, b"\0") + header(last, 1, last - sectors),
        (last - sectors) * _SECTOR,
    )
    mbr = bytearray(first[:_SECTOR])
    struct.pack_into("<I", mbr, 446 + 12, min(last, 0xFFFFFFFF))
    new = bytes(mbr) + header(1, last, 2) + bytes(table)
    _write(target, new + first[len(new) :], 0)
