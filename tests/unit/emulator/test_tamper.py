"""Tampered copies differ in what was asked for, and the original is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.emulator.tamper import (
    ESP,
    ROOT_VERITY_X86_64,
    ROOT_X86_64,
    copy_sparse,
    flip_in_root,
    flip_in_uki,
    flip_in_verity,
    partition,
    partitions,
    read_uki,
    replace_uki,
)
from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox

MIB = 1 << 20
LAYOUT = """label: gpt
start=2048, size=98304, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
start=100352, size=2048, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root
start=102400, size=2048, type=2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5, name=verity
"""


@pytest.fixture
def image(toolbox: Toolbox, tmp_path: Path) -> Path:
    disk, program = tmp_path / "disk.img", tmp_path / "program.efi"
    with disk.open("wb") as stream:
        stream.truncate(64 * MIB)
        stream.seek(100352 * 512)
        stream.write(b"r" * 8192)
    toolbox.run("sfdisk", "-q", disk, stdin=LAYOUT.encode())
    program.write_bytes(b"kernel" * 1000)
    esp = f"{disk}@@{MIB}"
    toolbox.run("mformat", "-i", esp, "-F", "-T", "98304", "::")
    toolbox.run("mmd", "-i", esp, "::/EFI", "::/EFI/Linux")
    toolbox.run("mcopy", "-i", esp, program, "::/EFI/Linux/host_1+3-0.efi")
    return disk


def differences(one: Path, other: Path) -> list[int]:
    a, b = one.read_bytes(), other.read_bytes()
    assert len(a) == len(b)
    return [
        place
        for block in range(0, len(a), MIB)
        if a[block : block + MIB] != b[block : block + MIB]
        for place in range(block, block + MIB)
        if a[place] != b[place]
    ]


@pytest.mark.tools
def test_partitions_are_found_by_type(image: Path) -> None:
    assert [(kind, label) for kind, label, _ in partitions(image)] == [
        (ESP, "esp"),
        (ROOT_X86_64, "root"),
        (ROOT_VERITY_X86_64, "verity"),
    ]


@pytest.mark.tools
def test_one_byte_of_the_root_differs(image: Path, tmp_path: Path) -> None:
    offset = flip_in_root(image, tmp_path / "copy.img")
    assert differences(image, tmp_path / "copy.img") == [offset]
    assert 0 <= offset - partition(image, ROOT_X86_64).offset < 4096


@pytest.mark.tools
def test_one_byte_of_the_verity_data_differs(image: Path, tmp_path: Path) -> None:
    offset = flip_in_verity(image, tmp_path / "copy.img")
    assert differences(image, tmp_path / "copy.img") == [offset]


@pytest.mark.tools
def test_one_byte_of_the_kernel_image_differs(image: Path, tmp_path: Path, toolbox: Toolbox) -> None:
    flip_in_uki(image, tmp_path / "copy.img", toolbox)
    before, after = read_uki(image, toolbox), read_uki(tmp_path / "copy.img", toolbox)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.tools
def test_kernel_image_is_replaced_under_its_name(image: Path, tmp_path: Path, toolbox: Toolbox) -> None:
    replace_uki(image, tmp_path / "copy.img", b"another", toolbox)
    assert read_uki(tmp_path / "copy.img", toolbox) == b"another"
    assert read_uki(image, toolbox) == b"kernel" * 1000


def test_copy_keeps_holes(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as stream:
        stream.seek(64 * MIB)
        stream.write(b"end")
        stream.truncate(128 * MIB)
    copy_sparse(sparse, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == sparse.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks * 512 < 8 * MIB


def test_image_without_partitions(tmp_path: Path) -> None:
    (tmp_path / "blank").write_bytes(bytes(4096))
    with pytest.raises(BadInput, match="no GUID partition table"):
        partitions(tmp_path / "blank")
