"""Small finished images made in a test: a FAT volume, an EFI stub, a whole disk, without any program."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import zstandard
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.support.erofs import EPOCH, IMAGE_UUID, directory, file, make_object, symlink

from bedplate.compose import cpio, gpt, uki
from bedplate.compose.erofs.linker import link
from bedplate.compose.gpt import DiskLayout
from bedplate.compose.verity import format_verity
from bedplate.model.tree import TreeEntry

SECTOR = 512
_CLUSTERS = 65600
_RESERVED = 32
_TABLE_SECTORS = -(-(_CLUSTERS + 2) * 4 // SECTOR)
FAT_BYTES = (_RESERVED + _TABLE_SECTORS + _CLUSTERS) * SECTOR
_END = 0x0FFFFFFF
OS_RELEASE = (
    b'ID=bedplate\nNAME="Bedplate Linux"\nVARIANT_ID=container\nIMAGE_ID=bedplate-container\nIMAGE_VERSION=1.0\n'
    b'BUILD_ID=0123\nPRETTY_NAME="Bedplate \\"Linux\\""\n'
)
PACKAGES = [
    {"name": "bash", "evr": "5.2-1", "arch": "x86_64", "source": "bash", "source_evr": "5.2-1"},
    {"name": "filesystem", "evr": "1.0-0", "arch": "noarch", "source": "filesystem", "source_evr": "1.0-0"},
]
SLOT = 4 << 20

Sign = Callable[[bytes], bytes]


@dataclass
class FatWriter:
    """A FAT32 volume with one table and clusters of a sector; ``table`` and ``clusters`` may be spoiled before use."""

    table: list[int] = field(default_factory=lambda: [0x0FFFFFF8, _END])
    clusters: list[bytes] = field(default_factory=lambda: [b"", b""])

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> FatWriter:
        """A volume of ``files`` by path."""
        tree: dict[str, object] = {}
        for path, data in files.items():
            *folders, name = path.split("/")
            here = tree
            for folder in folders:
                here = here.setdefault(folder, {})  # type: ignore[assignment]
            here[name] = data
        writer = cls()
        writer._reserve(1)
        writer._directory(tree, 2)
        return writer

    def _reserve(self, count: int) -> int:
        first = len(self.table)
        for number in range(count):
            self.table.append(_END if number + 1 == count else first + number + 1)
            self.clusters.append(bytes(SECTOR))
        return first

    def _directory(self, tree: Mapping[str, object], at: int) -> None:
        entries = b""
        for number, (name, what) in enumerate(tree.items()):
            data = what if isinstance(what, bytes) else b""
            first = self._reserve(max(1, -(-len(data) // SECTOR)))
            for piece in range(0, len(data), SECTOR):
                self.clusters[first + piece // SECTOR] = data[piece : piece + SECTOR].ljust(SECTOR, b"\0")
            attributes = 0x20 if isinstance(what, bytes) else 0x10
            entries += _names(name) + struct.pack(
                "<11sBB7xHHHHI",
                f"F{number}".ljust(11).encode(), attributes, 0, first >> 16, 0, 0x5C21, first & 0xFFFF, len(data),
            )  # fmt: skip
            if not isinstance(what, bytes):
                self._directory(what, first)  # type: ignore[arg-type]
        assert len(entries) <= SECTOR
        self.clusters[at] = entries.ljust(SECTOR, b"\0")

    def write(self, descriptor: int, offset: int) -> None:
        """Write the volume into a file."""
        boot = bytearray(SECTOR)
        boot[0:3] = b"\xeb\x58\x90"
        struct.pack_into("<HBHBHHBH", boot, 11, SECTOR, 1, _RESERVED, 1, 0, 0, 0xF8, 0)
        struct.pack_into("<II", boot, 32, FAT_BYTES // SECTOR, _TABLE_SECTORS)
        struct.pack_into("<I", boot, 44, 2)
        struct.pack_into("<I", boot, 67, 0x12345678)
        boot[510:] = b"\x55\xaa"
        os.pwrite(descriptor, bytes(boot), offset)
        os.pwrite(descriptor, struct.pack(f"<{len(self.table)}I", *self.table), offset + _RESERVED * SECTOR)
        os.pwrite(descriptor, b"".join(self.clusters[2:]), offset + (_RESERVED + _TABLE_SECTORS) * SECTOR)

    def bytes(self) -> bytes:
        """The volume, for a test that reads from memory."""
        descriptor = os.memfd_create("fat")
        try:
            os.truncate(descriptor, FAT_BYTES)
            self.write(descriptor, 0)
            return os.pread(descriptor, FAT_BYTES, 0)
        finally:
            os.close(descriptor)


def _names(name: str) -> bytes:
    """Long directory entries of a name, last part first."""
    text = name.encode("utf-16-le") + b"\0\0"
    text = text.ljust(-(-len(text) // 26) * 26, b"\xff")
    parts = [text[at : at + 26] for at in range(0, len(text), 26)]
    entries = b""
    for number in range(len(parts), 0, -1):
        part = parts[number - 1]
        order = number | (0x40 if number == len(parts) else 0)
        entries += struct.pack("<B10sBBB12sH4s", order, part[:10], 0x0F, 0, 0, part[10:22], 0, part[22:])
    return entries


def stub() -> bytes:
    """A PE32+ program with room for sections and one of its own, ``.sbat``."""
    header_size, own = 0x400, b"sbat,1\n"
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 112 + 16 * 8, 0x2022)
    optional = bytearray(112 + 16 * 8)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 32, 0x1000, 0x200)
    struct.pack_into("<II", optional, 56, 0x2000, header_size)
    struct.pack_into("<I", optional, 108, 16)
    section = struct.pack("<8sIIIIIIHHI", b".sbat", len(own), 0x1000, 0x200, header_size, 0, 0, 0, 0, 0x40000040)
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    return (dos + b"PE\0\0" + coff + bytes(optional) + section).ljust(header_size, b"\0") + own.ljust(0x200, b"\0")


def elf_program(text: bytes = b"") -> bytes:
    """The least that counts as a static 64-bit ELF program, with ``text`` in it."""
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400000, 64, 0, 0, 64, 56, 0, 0, 0, 0)
    )
    return head + text


def elf_library() -> bytes:
    """A shared library: position independent, no loader, no entry."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)


@dataclass
class Recipe:
    """What goes into a small image; a test changes what it is about."""

    files: dict[str, bytes] = field(
        default_factory=lambda: {
            "/usr/bin/bash": elf_program(b"x" * 5000),
            "/usr/bin/tool": b"#!/bin/sh\necho hi\n",
            "/usr/lib/os-release": OS_RELEASE,
            "/usr/share/bedplate/packages.json": json.dumps(PACKAGES).encode(),
        }
    )
    modes: dict[str, int] = field(default_factory=lambda: {"/usr/bin/bash": 0o755, "/usr/bin/tool": 0o755})
    xattrs: dict[str, tuple[tuple[str, bytes], ...]] = field(default_factory=dict)
    os_release: bytes = OS_RELEASE
    command_line: str | None = None
    root_hash: str | None = None
    initrd: dict[str, bytes] = field(default_factory=lambda: {"init": b"#!/bin/sh\n", "modules.sh": b"load x\n"})
    esp: dict[str, bytes] = field(default_factory=lambda: {"loader/loader.conf": b"timeout 0\n"})
    sign: Sign = bytes


@dataclass(frozen=True)
class MadeImage:
    """The disk and the parts it was made of."""

    disk: Path
    layout: DiskLayout
    root_hash: str
    uki: bytes
    root: Path


_PCR_KEY: list[rsa.RSAPrivateKey] = []


def pcr_key() -> rsa.RSAPrivateKey:
    """One key for all tests of a run."""
    if not _PCR_KEY:
        _PCR_KEY.append(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    return _PCR_KEY[0]


def make_uki(recipe: Recipe, root_hash: str) -> bytes:
    """The unsigned UKI of a recipe; the "kernel" is a stub."""
    key = pcr_key()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    entries = [cpio.file(path, data) for path, data in recipe.initrd.items()]
    initrd = zstandard.ZstdCompressor(level=3).compress(cpio.archive(entries))
    line = f"quiet roothash={root_hash}" if recipe.command_line is None else recipe.command_line
    made = uki.build_uki(
        stub(), stub(), initrd, recipe.os_release, "6.12.0-test", line, public,
        lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256()),
    )  # fmt: skip
    return made.data


def make_image(folder: Path, recipe: Recipe | None = None) -> MadeImage:
    """A disk of a recipe: ESP, root and verity of slot A, an empty slot B."""
    recipe = recipe or Recipe()
    folder.mkdir(parents=True, exist_ok=True)
    root, real_hash, verity = _root(folder, recipe)
    root_hash = recipe.root_hash or real_hash
    program = recipe.sign(make_uki(recipe, root_hash))
    loader = recipe.sign(stub())
    esp = {
        "EFI/BOOT/BOOTX64.EFI": loader,
        "EFI/Linux/bedplate-container_1.0+3-0.efi": program,
        **recipe.esp,
    }
    layout = gpt.place(
        [
            (gpt.TYPE_ESP, UUID(int=1), "esp", FAT_BYTES, 0),
            (gpt.TYPE_ROOT_X86_64, UUID(real_hash[:32]), "container_1.0", SLOT, gpt.FLAG_READ_ONLY),
            (gpt.TYPE_ROOT_X86_64_VERITY, UUID(real_hash[32:]), "container_1.0_verity", 1 << 20, gpt.FLAG_READ_ONLY),
            (gpt.TYPE_ROOT_X86_64, UUID(int=2), "_empty", SLOT, 0),
            (gpt.TYPE_ROOT_X86_64_VERITY, UUID(int=3), "_empty", 1 << 20, 0),
        ],
        UUID(int=9),
    )
    disk = folder / "disk.raw"
    head, tail = gpt.write_tables(layout)
    with disk.open("wb") as stream:
        target = stream.fileno()
        os.truncate(target, layout.size)
        os.pwrite(target, head, 0)
        os.pwrite(target, tail, layout.size - len(tail))
        FatWriter.of(esp).write(target, layout.partitions[0].start)
        os.pwrite(target, root.read_bytes(), layout.partitions[1].start)
        os.pwrite(target, verity.read_bytes(), layout.partitions[2].start)
    return MadeImage(disk, layout, real_hash, program, root)


def _root(folder: Path, recipe: Recipe) -> tuple[Path, str, Path]:
    folders = sorted({str(parent) for path in recipe.files for parent in Path(path).parents})
    entries: list[TreeEntry] = [directory(path) for path in folders]
    entries += [symlink("/bin", "usr/bin"), symlink("/usr/bin/sh", "bash")]
    for path, data in recipe.files.items():
        if path in recipe.modes or path in recipe.xattrs:
            entries.append(file(path, data, mode=recipe.modes.get(path, 0o644), xattrs=recipe.xattrs.get(path, ())))
        else:
            entries.append(file(path, data))
    root, verity = folder / "root.erofs", folder / "root.verity"
    objects = {"g": make_object(folder, "objects", recipe.files)}
    link(entries, objects, root, uuid=IMAGE_UUID, epoch_time=EPOCH)
    return root, format_verity(root, verity, salt=b"s" * 32, uuid=UUID(int=7)).root_hash, verity
