"""Images that are cut short, damaged, contradictory or made to confuse. Each case is named after its hazard."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from tests.support.images import FAT_BYTES, OS_RELEASE, SECTOR, FatWriter, MadeImage, Recipe, make_image, stub

from bedplate.flows.images import FoundImage
from bedplate.flows.inspect import inspect_image, verify_image
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput, Level
from bedplate.verify.fat import FatVolume
from bedplate.verify.findings import Purpose

DISTRO = Path(__file__).resolve().parents[3] / "distro"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> MadeImage:
    return make_image(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def copy(sound: MadeImage, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(sound.disk, tmp_path / "disk.raw"))


def inspect(path: Path) -> None:
    inspect_image(FoundImage(path, None, None))


def errors(path: Path, tmp_path: Path) -> set[str]:
    workspace = Workspace(DISTRO, tmp_path / "cache", tmp_path / "keys", tmp_path / "out")
    verdict = verify_image(workspace, FoundImage(path, None, None), Purpose.DEVELOPMENT)
    return {finding.id for finding in verdict.findings if finding.level is Level.ERROR} - {"image.signature.missing"}


def poke(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        os.pwrite(stream.fileno(), data, at)


@pytest.mark.parametrize("size", [0, 100, 512, 1024, 1 << 20, 30 << 20])
def test_disk_cut_short(copy: Path, size: int) -> None:
    os.truncate(copy, size)
    with pytest.raises(BadInput) as caught:
        inspect(copy)
    assert str(copy) in caught.value.where


def test_something_that_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\n" * 1000)
    with pytest.raises(BadInput, match="not an image"):
        inspect(path)


def _rewrite_header(path: Path, at: int, value: bytes) -> None:
    """Change the GPT header and make its checksum fit again."""
    with path.open("r+b") as stream:
        header = bytearray(os.pread(stream.fileno(), 92, SECTOR))
        header[at : at + len(value)] = value
        header[16:20] = bytes(4)
        struct.pack_into("<I", header, 16, zlib.crc32(bytes(header)))
        os.pwrite(stream.fileno(), bytes(header), SECTOR)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (72, struct.pack("<Q", 1 << 60)),
        (80, struct.pack("<I", 0xFFFFFFFF)),
        (84, struct.pack("<I", 0)),
        (84, struct.pack("<I", 1 << 31)),
        (12, struct.pack("<I", 0)),
    ],
    ids=["table-beyond-the-end", "endless-entries", "entries-of-no-size", "entries-of-two-gib", "header-of-no-size"],
)
def test_partition_table_with_absurd_values(copy: Path, at: int, value: bytes) -> None:
    _rewrite_header(copy, at, value)
    with pytest.raises(BadInput):
        inspect(copy)


def test_partition_that_lies_outside_the_disk(copy: Path) -> None:
    with copy.open("r+b") as stream:
        table = bytearray(os.pread(stream.fileno(), 128 * 128, 2 * SECTOR))
        struct.pack_into("<Q", table, 128 + 40, 1 << 50)
        os.pwrite(stream.fileno(), bytes(table), 2 * SECTOR)
    _rewrite_header(copy, 88, struct.pack("<I", zlib.crc32(bytes(table))))
    with pytest.raises(BadInput, match="outside the disk"):
        inspect(copy)


def test_uki_without_root_hash(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", Recipe(command_line="quiet"))
    assert "image.roothash.missing" in errors(image.disk, tmp_path)


def test_uki_with_two_root_hashes(tmp_path: Path) -> None:
    line = f"roothash={'0' * 64} roothash={'1' * 64}"
    image = make_image(tmp_path / "image", Recipe(command_line=line))
    assert "image.uki.unreadable" in errors(image.disk, tmp_path)
    with pytest.raises(BadInput, match="two root hashes"):
        inspect(image.disk)


def test_root_hash_of_another_root(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", Recipe(root_hash="ab" * 32))
    assert errors(image.disk, tmp_path) == {
        "image.roothash.partition",
        "image.verity.roothash",
        "image.verity.mismatch",
    }


def test_a_byte_flipped_in_the_root(sound: MadeImage, copy: Path, tmp_path: Path) -> None:
    start = sound.layout.partitions[1].start
    content = sound.root.read_bytes()
    at = content.index(b"x" * 3000)
    poke(copy, start + at, b"\xff")
    found = errors(copy, tmp_path)
    assert {"image.verity.data", "image.verity.mismatch"} <= found
    assert "image.verity.tree" not in found


def test_a_byte_flipped_in_the_superblock_of_the_root(sound: MadeImage, copy: Path, tmp_path: Path) -> None:
    poke(copy, sound.layout.partitions[1].start + 1024 + 40, b"\xff\xff")
    assert {"image.verity.mismatch", "image.root.unreadable"} <= errors(copy, tmp_path)
    with pytest.raises(BadInput):
        inspect(copy)


def test_a_byte_flipped_in_the_verity_data(sound: MadeImage, copy: Path, tmp_path: Path) -> None:
    poke(copy, sound.layout.partitions[2].start + 4096 + 3, b"\xff")
    assert "image.verity.roothash" in errors(copy, tmp_path)


def test_verity_superblock_that_speaks_of_more_data_than_there_is(sound: MadeImage, copy: Path, tmp_path: Path) -> None:
    poke(copy, sound.layout.partitions[2].start + 72, struct.pack("<Q", 1 << 40))
    assert "image.verity.unreadable" in errors(copy, tmp_path)


def test_verity_data_wiped(sound: MadeImage, copy: Path, tmp_path: Path) -> None:
    poke(copy, sound.layout.partitions[2].start, bytes(sound.layout.partitions[2].size))
    assert {"image.verity.unreadable", "image.partition.empty"} <= errors(copy, tmp_path)


def test_data_in_a_slot_labelled_empty(sound: MadeImage, copy: Path, tmp_path: Path) -> None:
    poke(copy, sound.layout.partitions[3].start + (3 << 20), b"hidden")
    assert errors(copy, tmp_path) == {"image.slot.used"}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1]", b'[{"name": "x"}]', b'{"a": 1}', b'[{"name":"a","evr":"1","arch":"x","source":"a"}]x'],
)
def test_damaged_list_of_packages(tmp_path: Path, text: bytes) -> None:
    recipe = Recipe()
    recipe.files["/usr/share/bedplate/packages.json"] = text
    image = make_image(tmp_path / "image", recipe)
    assert errors(image.disk, tmp_path) == {"image.packages.unreadable"}


def test_list_that_names_a_package_twice(tmp_path: Path) -> None:
    recipe = Recipe()
    one = b'{"name":"a","evr":"1","arch":"x","source":"a"}'
    recipe.files["/usr/share/bedplate/packages.json"] = b"[" + one + b"," + one + b"]"
    image = make_image(tmp_path / "image", recipe)
    assert errors(image.disk, tmp_path) == {"image.packages.unreadable"}


def test_pcr_policy_of_another_image(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", Recipe(os_release=OS_RELEASE))
    data = image.disk.read_bytes()
    changed = data.replace(b"6.12.0-test", b"6.12.0-evil")
    image.disk.write_bytes(changed)
    assert "image.pcr.mismatch" in errors(image.disk, tmp_path)


def test_pcr_policy_with_a_forged_signature(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image")
    data = image.disk.read_bytes()
    at = data.index(b'"sig":"') + 20
    image.disk.write_bytes(data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :])
    assert "image.pcr.signature" in errors(image.disk, tmp_path)


def test_esp_without_a_loader_and_with_a_program_that_is_no_uki(tmp_path: Path) -> None:
    recipe = Recipe(esp={"EFI/Linux/other.efi": stub()})
    image = make_image(tmp_path / "image", recipe)
    assert "image.uki.unreadable" in errors(image.disk, tmp_path)


def test_esp_that_is_no_file_system(sound: MadeImage, copy: Path, tmp_path: Path) -> None:
    poke(copy, sound.layout.partitions[0].start, bytes(SECTOR))
    assert {"image.esp.unreadable", "image.uki.missing", "image.loader.missing"} <= errors(copy, tmp_path)


def open_fat(writer: FatWriter) -> FatVolume:
    data = writer.bytes()
    return FatVolume(lambda at, length: data[at : at + length], len(data), "esp")


def test_esp_file_whose_clusters_loop() -> None:
    writer = FatWriter.of({"a.efi": bytes(2000)})
    writer.table[6] = 3
    with pytest.raises(BadInput, match="loops"):
        open_fat(writer).files()


def test_esp_directory_that_holds_itself() -> None:
    writer = FatWriter.of({"EFI/x": b"x"})
    entry = bytearray(writer.clusters[3])
    struct.pack_into("<H", entry, 32 + 26, 3)
    entry[32 + 11] = 0x10
    writer.clusters[3] = bytes(entry)
    with pytest.raises(BadInput, match="loops"):
        open_fat(writer).files()


def test_esp_files_that_share_a_cluster() -> None:
    writer = FatWriter.of({"a": bytes(1000), "b": bytes(1000)})
    writer.table[5] = 4
    with pytest.raises(BadInput, match="crosses"):
        open_fat(writer).files()


def test_esp_file_longer_than_its_clusters() -> None:
    writer = FatWriter.of({"a": b"x"})
    entry = bytearray(writer.clusters[2])
    struct.pack_into("<I", entry, 32 + 28, 1 << 30)
    writer.clusters[2] = bytes(entry)
    with pytest.raises(BadInput, match="fewer than its size"):
        open_fat(writer).files()


@pytest.mark.parametrize("cluster", [0, 1, 70_000, 0x0FFFFFF7])
def test_esp_file_outside_the_volume(cluster: int) -> None:
    writer = FatWriter.of({"a": bytes(1000)})
    writer.table[3] = cluster
    with pytest.raises(BadInput, match="outside"):
        open_fat(writer).files()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (11, struct.pack("<H", 0)),
        (11, struct.pack("<H", 3)),
        (13, b"\0"),
        (14, b"\0\0"),
        (16, b"\xff"),
        (32, struct.pack("<I", 0xFFFFFFFF)),
        (32, struct.pack("<I", 10)),
        (32, struct.pack("<I", 5000)),
        (36, struct.pack("<I", 1)),
        (17, struct.pack("<H", 512)),
        (510, b"\0\0"),
    ],
)
def test_esp_with_an_impossible_shape(at: int, value: bytes) -> None:
    data = bytearray(FatWriter.of({"a": b"x"}).bytes())
    data[at : at + len(value)] = value
    with pytest.raises(BadInput):
        FatVolume(lambda start, length: bytes(data[start : start + length]), len(data), "esp")


def test_esp_cut_short() -> None:
    data = FatWriter.of({"a": b"x"}).bytes()[: FAT_BYTES // 2]
    with pytest.raises(BadInput):
        FatVolume(lambda at, length: data[at : at + length], len(data), "esp")


def test_esp_name_with_a_slash() -> None:
    with pytest.raises(BadInput, match="impossible file name"):
        open_fat(_with_name("a/b")).files()


def _with_name(name: str) -> FatWriter:
    writer = FatWriter.of({"a_b": b""})
    writer.clusters[2] = writer.clusters[2].replace("a_b".encode("utf-16-le"), name.encode("utf-16-le"))
    return writer
