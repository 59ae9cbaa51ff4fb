"""Fixed VHD as Azure takes it: the raw disk, a whole number of MiB, with a footer of 512 bytes behind it.

Source: Microsoft's Virtual Hard Disk Image Format Specification 1.0; Azure's demands on uploaded disks (fixed, virtual
size a multiple of 1 MiB).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from uuid import UUID, uuid5

from bedplate.compose.disk import copy_data
from bedplate.compose.formats.base import FormatJob, Origin
from bedplate.model.errors import BadInput

_NAMESPACE = UUID("c2a5a7f1-0a0b-5f0e-8d0f-2f5b1c6f7d11")
_MIB = 1 << 20
_EPOCH_2000 = 946684800
_FIXED = 2
_NO_HEADER = 0xFFFFFFFFFFFFFFFF
# The creator by which every reader takes the size from its field: for others some compute it from the geometry.
_CREATOR, _CREATOR_VERSION, _CREATOR_HOST = b"win ", 0x000A0000, b"Wi2k"
_MAX_CHS = 65535 * 16 * 255
FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")


class Vhd:
    """See :class:`bedplate.compose.formats.base.Format`."""

    name = "vhd"
    title = "Azure, Hyper-V (fixed size, whole MiB)"
    file = "disk.vhd"
    origin = Origin.DISK
    owned_set = ""
    revision = 1

    def write(self, job: FormatJob, target: Path) -> None:
        """See the protocol."""
        write_vhd(job.disk, target, job.epoch, uuid5(_NAMESPACE, f"{job.name}/{job.version}"))


def write_vhd(disk: Path, target: Path, epoch: int, uuid: UUID) -> None:
    """Write the raw image ``disk`` as a fixed VHD; holes stay holes.

    Raises:
        BadInput: the disk's size is not a multiple of 1 MiB.
    """
    size = disk.stat().st_size
    if size % _MIB or not size:
        raise BadInput("a VHD for Azure has a whole number of MiB", where=str(disk), remedy="build the image again")
    with target.open("xb") as out:
        os.truncate(out.fileno(), size)
        copy_data(disk, out.fileno(), 0)
        os.pwrite(out.fileno(), footer(size, epoch, uuid), size)


def footer(size: int, epoch: int, uuid: UUID) -> bytes:
    """The 512 bytes behind a fixed disk of ``size`` bytes."""
    geometry = _geometry(size // 512)
    fields = (
        b"conectix", 2, 0x00010000, _NO_HEADER, max(0, epoch - _EPOCH_2000), _CREATOR, _CREATOR_VERSION, _CREATOR_HOST,
        size, size, *geometry, _FIXED,
    )  # fmt: skip
    blank = FOOTER.pack(*fields, 0, uuid.bytes, 0)
    return FOOTER.pack(*fields, ~sum(blank) & 0xFFFFFFFF, uuid.bytes, 0)


def _geometry(sectors: int) -> tuple[int, int, int]:
    """Cylinders, heads, sectors per track: the specification's appendix."""
    sectors = min(sectors, _MAX_CHS)
    if sectors >= 65535 * 16 * 63:
        return sectors // 255 // 16, 16, 255
    track, rest = 17, sectors // 17
    heads = max(4, (rest + 1023) // 1024)
    if rest >= heads * 1024 or heads > 16:
        track, heads, rest = 31, 16, sectors // 31
    if rest >= heads * 1024:
        track, heads, rest = 63, 16, sectors // 63
    return rest // heads, heads, track
