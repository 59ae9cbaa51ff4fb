"""FAT volumes: names, contents, and what mkfs.vfat and mtools make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.images import FAT_BYTES, FatWriter

from bedplate.toolchain.run import Toolbox
from bedplate.verify.fat import FatVolume


def open_bytes(data: bytes) -> FatVolume:
    return FatVolume(lambda at, length: data[at : at + length], len(data), "esp")


def test_files_are_found_by_their_long_names() -> None:
    content = {
        "EFI/Linux/bedplate-container_1.0+3-0.efi": os.urandom(5000),
        "loader/loader.conf": b"timeout 0\n",
        "e": b"",
    }
    volume = open_bytes(FatWriter.of(content).bytes())
    found = {file.path: volume.read(file) for file in volume.files() if not file.directory}
    assert found == content
    assert {file.path for file in volume.files() if file.directory} == {"EFI", "EFI/Linux", "loader"}


def test_extents_cover_a_file_in_order() -> None:
    writer = FatWriter.of({"a.efi": b"A" * 512 + b"B" * 512 + b"C" * 100})
    first = writer.clusters.index(b"A" * 512)
    spare = len(writer.table)
    # Move the middle to the end: a file in two pieces on the disk is one in the reader.
    writer.clusters.append(writer.clusters[first + 1])
    writer.table.append(first + 2)
    writer.table[first] = spare
    volume = open_bytes(writer.bytes())
    (file,) = volume.files()
    assert volume.read(file) == b"A" * 512 + b"B" * 512 + b"C" * 100
    assert len(file.extents) == 3


@pytest.mark.tools
def test_volume_of_the_real_tools(tmp_path: Path, toolbox: Toolbox) -> None:
    image, big = tmp_path / "esp", tmp_path / "A Long Name With Späces.efi"
    big.write_bytes(os.urandom(200_000))
    with image.open("wb") as stream:
        stream.truncate(FAT_BYTES * 2)
    toolbox.run("mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", "-i", "0badcafe", image)
    toolbox.run("mmd", "-i", image, "::/EFI", "::/EFI/Linux", "::/lower")
    toolbox.run("mcopy", "-i", image, big, "::/EFI/Linux/")
    toolbox.run("mcopy", "-i", image, big, "::/lower/readme.txt")
    volume = open_bytes(image.read_bytes())
    files = {file.path: file for file in volume.files() if not file.directory}
    assert set(files) == {f"EFI/Linux/{big.name}", "lower/readme.txt"}
    assert all(volume.read(file) == big.read_bytes() for file in files.values())
    assert volume.volume_id == 0x0BADCAFE
