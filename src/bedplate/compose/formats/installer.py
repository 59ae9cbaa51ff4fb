"""A medium that writes the system to a disk: the image's own root with the installer beside it, and the image, packed.

The medium boots by the same signed loader and a signed kernel image of its own, whose command line names the medium's
root and the installer's target. The image lies in a partition of its own: the chunks of the disk that are not zeros,
compressed, behind a description of where they belong.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from uuid import UUID, uuid5

import zstandard

from bedplate.compose import pe
from bedplate.compose.bootchain import LOADER_SIGNED, UKI_UNSIGNED
from bedplate.compose.disk import DiskSpec, SlotSpec, assemble_disk, copy_data
from bedplate.compose.erofs.copying import copy_range
from bedplate.compose.formats.base import FormatJob, InstallerFile, Origin
from bedplate.compose.gpt import FLAG_READ_ONLY, TYPE_ROOT_X86_64, align, read_gpt
from bedplate.compose.uki import STUB
from bedplate.model.digest import canonical_json
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.pe import parse_pe

CHUNK = 1 << 20
MAGIC = b"BEDPLATE"
ROOT_LABEL, PAYLOAD_LABEL = "bedplate-installer", "bedplate-payload"
TYPE_DATA = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
LEVEL = 6
_NAMESPACE = UUID("5d0f6a35-55a7-5c1a-9d35-0b5a3bbf4a21")
_THREADS = 2
# The installer writes to disks, mounts and makes files for another system: a policy made for servers would forbid it.
_OPTIONS = ("systemd.unit=bedplate-installer.target", "systemd.mask=systemd-repart.service", "enforcing=0")
_OF_THE_IMAGE = ("root=", "rootfstype=", "quiet")


class Installer:
    """See :class:`bedplate.compose.formats.base.Format`."""

    name = "installer"
    title = "a medium that writes the system to a disk"
    file = "installer.raw"
    origin = Origin.DISK
    owned_set = "installer"
    revision = 2

    def write(self, job: FormatJob, target: Path) -> None:
        """See the protocol.

        Raises:
            BadInput: the image's root is not one that an installer can be put beside.
        """
        with tempfile.TemporaryDirectory(prefix=".installer-", dir=target.parent) as scratch:
            folder = Path(scratch)
            root, payload, uki = folder / "root", folder / "payload", folder / "uki.efi"
            _root(job, root, folder)
            title = job.labels.get("PRETTY_NAME", job.name)
            write_payload(job.disk, payload, title if job.version in title.split() else f"{title} {job.version}")
            unsigned = folder / "uki.unsigned"
            unsigned.write_bytes(_uki(job))
            job.sign_efi(unsigned, uki)
            seed = uuid5(_NAMESPACE, f"{job.name}/{job.version}")
            slots = (
                SlotSpec(
                    TYPE_ROOT_X86_64, uuid5(seed, "root"), ROOT_LABEL, align(root.stat().st_size), 0, root, "live root"
                ),
                SlotSpec(
                    TYPE_DATA, uuid5(seed, "payload"), PAYLOAD_LABEL, align(payload.stat().st_size), FLAG_READ_ONLY,
                    payload, "packed image",
                ),
            )  # fmt: skip
            loader = job.disk.parent / LOADER_SIGNED
            spec = DiskSpec(seed, job.epoch, "installer", slots, uki, f"{job.name}-installer_{job.version}", loader)
            assemble_disk(spec, target, job.toolbox)


def _root(job: FormatJob, root: Path, folder: Path) -> None:
    """A copy of the image's root with the installer's files, written by debugfs(8)."""
    part = next((one for one in read_gpt(job.disk).partitions if one.type == TYPE_ROOT_X86_64), None)
    whole = job.disk.parent / "root.ext4"
    if part is None or not whole.is_file():
        raise BadInput(
            "an installer writes a system with a writable ext4 root",
            where=str(job.disk),
            remedy="build it of such a track, such as server; a verified image is written by copying its raw disk",
        )
    with root.open("xb") as out:
        os.truncate(out.fileno(), whole.stat().st_size)
        copy_data(whole, out.fileno(), 0)
    commands = folder / "commands"
    with job.root() as system:
        have = {node.path for node in system.walk()}
    commands.write_text("\n".join(_commands(job.installer, have)) + "\n")
    done = job.toolbox.run("debugfs", "-w", "-f", commands, root)
    wrong = [line for line in done.stderr.splitlines()[1:] if line.strip()]
    if wrong:
        raise BedplateError("debugfs did not put the installer on its medium", details=wrong[:8])


def _commands(files: Mapping[str, InstallerFile], have: set[str]) -> Iterator[str]:
    for path, file in sorted(files.items()):
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) not in have:
                have.add(str(parent))
                yield f"mkdir {parent}"
        if path in have:
            yield f"rm {path}"
        yield f"write {file.source} {path}"
        yield f"set_inode_field {path} mode 0{0o100000 | file.mode:o}"
        yield f"set_inode_field {path} uid 0"
        yield f"set_inode_field {path} gid 0"


def _uki(job: FormatJob) -> bytes:
    """The image's kernel and initrd with the medium's command line. Nothing is sealed to it: it has no PCR policy."""
    program = parse_pe((job.disk.parent / UKI_UNSIGNED).read_bytes(), UKI_UNSIGNED)
    kept = [word for word in program.text(".cmdline").split() if not word.startswith(_OF_THE_IMAGE)]
    line = " ".join([*kept, f"root=PARTLABEL={ROOT_LABEL}", "rootfstype=ext4", *_OPTIONS])
    sections = []
    for name in (".osrel", ".cmdline", ".uname", ".initrd", ".linux"):
        data = line.encode() if name == ".cmdline" else program.section(name)
        if data is None:
            raise BadInput(f"the kernel image has no section {name}", where=str(job.disk), remedy="build it again")
        sections.append(pe.Section(name, data))
    stub = job.toolbox.tree.path(STUB.lstrip("/")).read_bytes()
    return pe.add_sections(stub, sections, STUB)


def write_payload(disk: Path, target: Path, name: str) -> None:
    """Pack a raw disk: magic, length of the description (8 bytes, little endian), the description as JSON (``size`` of
    the disk, ``runs`` of chunks of 1 MiB that are not zeros, their SHA-256, ``length`` of what follows), the chunks
    compressed by zstd."""
    digest, runs, length = hashlib.sha256(), list[list[int]](), 0
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=_THREADS).compressobj()
    with tempfile.TemporaryFile(dir=target.parent) as packed:

        def put(data: bytes) -> None:
            nonlocal length
            packed.write(data)
            length += len(data)

        for number, data in chunks(disk):
            digest.update(data)
            put(compressor.compress(data))
            if runs and sum(runs[-1]) == number:
                runs[-1][1] += 1
            else:
                runs.append([number, 1])
        put(compressor.flush())
        packed.flush()
        head = canonical_json(
            {"length": length, "name": name, "runs": runs, "sha256": digest.hexdigest(), "size": disk.stat().st_size}
        )
        with target.open("xb") as out:
            out.write(MAGIC + len(head).to_bytes(8, "little") + head)
            out.flush()
            copy_range(packed.fileno(), 0, out.fileno(), 16 + len(head), length)


def chunks(disk: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each chunk that is not all zeros; holes are not read.

    Raises:
        BadInput: the disk is not made of whole chunks.
    """
    size = disk.stat().st_size
    if size % CHUNK or not size:
        raise BadInput("the disk has not a whole number of MiB", where=str(disk), remedy="build the image again")
    with disk.open("rb") as stream:
        at = 0
        while at < size:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA) // CHUNK * CHUNK
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            data = os.pread(stream.fileno(), CHUNK, at)
            if data.count(0) != CHUNK:
                yield at // CHUNK, data
            at += CHUNK
