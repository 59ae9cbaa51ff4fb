"""Objects, images, hash trees and disks held against the programs everybody else uses."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

import pytest
from tests.support.erofs import EPOCH, IMAGE_UUID, directory, file, link_files, symlink

from bedplate.compose.disk import DiskSpec, assemble_disk, list_esp, read_esp_file, read_gpt, verified_slots
from bedplate.compose.erofs.linker import link
from bedplate.compose.erofs.objects import CompressionOptions, ErofsObject, ObjectInput, ObjectStore
from bedplate.compose.erofs.reader import ErofsImage
from bedplate.compose.verity import format_verity
from bedplate.model.errors import BadInput
from bedplate.model.tree import FromGroup, TreeEntry
from bedplate.toolchain.run import Toolbox, ToolError

pytestmark = pytest.mark.tools


def _text(seed: int, size: int) -> bytes:
    """Text that compresses by about half, the same on every run."""
    words = [hashlib.sha256(f"{seed}.{number}".encode()).hexdigest() for number in range(200)]
    line = " ".join(words[number * number % 200][: number % 60] for number in range(500)).encode()
    return (line * (size // len(line) + 1))[:size]


def _random(seed: int, size: int) -> bytes:
    out = b"".join(hashlib.sha256(f"{seed}/{number}".encode()).digest() for number in range(size // 32 + 1))
    return out[:size]


GROUPS: dict[str, dict[str, bytes]] = {
    "one": {"/a/text": _text(1, 300_000), "/a/random": _random(2, 50_001), "/a/empty": b"", "/a/small": b"hello\n"},
    "two": {"/b/mixed": _text(3, 70_000) + _random(4, 70_000) + _text(5, 90_000), "/b/copy": _text(1, 300_000)},
    "three": {f"/c/file{number}": _text(number, 700 * number) for number in range(40)},
    "none": {},
}


def _inputs(groups: Mapping[str, Mapping[str, bytes]]) -> list[ObjectInput]:
    def stream(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        yield from files.items()

    return [
        ObjectInput(key, sum(map(len, files.values())), lambda files=files: stream(files))  # type: ignore[misc]
        for key, files in groups.items()
    ]


def _entries() -> list[TreeEntry]:
    selinux = (("security.selinux", b"system_u:object_r:usr_t:s0\0"),)
    found = [directory(f"/{name}") for name in "abc"]
    found += [file(path, data, group) for group, files in GROUPS.items() for path, data in files.items()]
    found += [symlink("/link", "a/text"), directory("/d", uid=100_000, mtime=1)]
    data = GROUPS["one"]["/a/text"]
    found += [file("/d/marked", data, xattrs=selinux, mode=0o4755, content=FromGroup("one", "/a/text"))]
    found += [
        file("/d/again", data, xattrs=selinux, mode=0o4755, content=FromGroup("one", "/a/text"), hardlink="/d/marked")
    ]
    return found


@pytest.fixture
def objects(tmp_path: Path, toolbox: Toolbox) -> dict[str, ErofsObject]:
    return ObjectStore(tmp_path / "cache").ensure(_inputs(GROUPS))


def test_linked_image_passes_fsck_and_extracts_as_given(
    tmp_path: Path, toolbox: Toolbox, objects: dict[str, ErofsObject]
) -> None:
    image = tmp_path / "image"
    result = link(_entries(), objects, image, uuid=IMAGE_UUID, epoch_time=EPOCH, label="root")
    out = tmp_path / "out"
    toolbox.run("fsck.erofs", f"--extract={out}", "--no-preserve", image)
    for entry in _entries():
        path = out / entry.path[1:]
        if entry.content:
            assert path.read_bytes() == GROUPS[entry.content.group][entry.content.path], entry.path
        elif entry.target:
            assert str(path.readlink()) == entry.target
    assert (out / "d/marked").stat().st_ino == (out / "d/again").stat().st_ino
    facts = toolbox.run("dump.erofs", "-s", image).text
    assert f"{result.blocks}\n" in facts
    assert str(IMAGE_UUID) in facts
    shown = toolbox.run("dump.erofs", "--path=/d/marked", image).text
    assert "Links: 2" in shown
    assert "Access: 0755" in shown  # dump.erofs leaves out the set-id bits


def test_reader_agrees_with_what_was_linked(tmp_path: Path, objects: dict[str, ErofsObject]) -> None:
    link(_entries(), objects, tmp_path / "image", uuid=IMAGE_UUID, epoch_time=EPOCH)
    with ErofsImage(tmp_path / "image") as image:
        found = {node.path: image.read(node) for node in image.walk() if node.is_file}
    wanted = {entry.path: entry.content for entry in _entries() if entry.content}
    assert found == {path: GROUPS[content.group][content.path] for path, content in wanted.items()}


def test_object_depends_on_its_group_alone(tmp_path: Path, toolbox: Toolbox) -> None:
    options = CompressionOptions()
    together = ObjectStore(tmp_path / "together")
    apart = ObjectStore(tmp_path / "apart")
    together.ensure(_inputs(GROUPS), jobs=1)
    for group in reversed(_inputs(GROUPS)):
        apart.ensure([group], jobs=4)
    for key in GROUPS:
        assert together.path(key, options).read_bytes() == apart.path(key, options).read_bytes(), key


def test_known_object_is_not_made_again(tmp_path: Path, toolbox: Toolbox, objects: dict[str, ErofsObject]) -> None:
    def unread() -> Iterator[tuple[str, bytes]]:
        raise AssertionError("the group was read again")

    again = ObjectStore(tmp_path / "cache").ensure([ObjectInput(key, 0, unread) for key in GROUPS])
    assert again == objects


def test_damaged_object_is_made_again(tmp_path: Path, toolbox: Toolbox, objects: dict[str, ErofsObject]) -> None:
    path = objects["one"].path
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:5000], b"", whole[:-200] + b"x" + whole[-199:]):
        path.write_bytes(damaged)
        ObjectStore(tmp_path / "cache").ensure(_inputs(GROUPS))
        assert path.read_bytes() == whole


def test_content_stream_that_fails_leaves_no_object(tmp_path: Path, toolbox: Toolbox) -> None:
    def broken() -> Iterator[tuple[str, bytes]]:
        yield "/a", b"1"
        raise BadInput("damaged package")

    store = ObjectStore(tmp_path / "cache")
    with pytest.raises(BadInput, match="damaged package"):
        store.ensure([ObjectInput("key", 10, broken)])
    assert list((tmp_path / "cache").rglob("*")) == []


@pytest.mark.parametrize(
    "options",
    [
        "-zzstd,3 -C65536 -Eztailpacking,fragments,dedupe",
        "-zlz4hc -C16384 -Eall-fragments",
        "-zlz4 -Elegacy-compress",
        "-zlzma -C8192",
        "-zdeflate",
        "--chunksize=8192",
        "-Enoinline_data",
    ],
)
def test_reader_reads_every_kind_of_image(tmp_path: Path, toolbox: Toolbox, options: str) -> None:
    tree = tmp_path / "tree"
    wanted = {path: data for files in GROUPS.values() for path, data in files.items()}
    for path, data in wanted.items():
        target = tree / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        os.utime(target, (EPOCH, EPOCH))
    toolbox.run("mkfs.erofs", "--quiet", "-T1", *options.split(), tmp_path / "image", tree)
    with ErofsImage(tmp_path / "image") as image:
        assert {node.path: image.read(node) for node in image.walk() if node.is_file} == wanted


@pytest.mark.parametrize("blocks", [1, 2, 128, 129, 16385])
def test_hash_tree_is_byte_for_byte_that_of_veritysetup(tmp_path: Path, toolbox: Toolbox, blocks: int) -> None:
    image = tmp_path / "image"
    image.write_bytes(_random(blocks, 4096) * blocks)
    salt = hashlib.sha256(b"salt").digest()
    result = format_verity(image, tmp_path / "ours", salt=salt, uuid=IMAGE_UUID)
    toolbox.run("veritysetup", "format", image, tmp_path / "theirs", f"--salt={salt.hex()}", f"--uuid={IMAGE_UUID}")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert result.image_sha256 == hashlib.sha256(image.read_bytes()).hexdigest()
    toolbox.run("veritysetup", "verify", image, tmp_path / "ours", result.root_hash)
    data = image.read_bytes()
    image.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ToolError):
        toolbox.run("veritysetup", "verify", image, tmp_path / "ours", result.root_hash)


def _spec(tmp_path: Path) -> DiskSpec:
    image, _ = link_files(tmp_path, {"/hello": b"world"})
    result = format_verity(image, tmp_path / "verity", salt=b"s" * 32, uuid=IMAGE_UUID)
    (tmp_path / "uki").write_bytes(_random(7, 3 << 20))
    (tmp_path / "loader").write_bytes(_random(8, 100_000))
    slots = verified_slots(UUID(int=1), "container_7.1", image, tmp_path / "verity", result.root_hash, 8 << 20, 1 << 20)
    return DiskSpec(
        seed=UUID(int=1), epoch=EPOCH, name="container", slots=slots,
        uki=tmp_path / "uki", uki_name="container_7.1", boot_loader=tmp_path / "loader",
        esp_bytes=64 << 20, free_bytes=32 << 20,
        esp_files={"loader/keys/auto/db.auth": b"key"},
    )  # fmt: skip


def test_disk_holds_what_was_put_in_and_is_the_same_every_time(tmp_path: Path, toolbox: Toolbox) -> None:
    spec = _spec(tmp_path)
    layout = assemble_disk(spec, tmp_path / "disk", toolbox)
    started = time.time_ns()
    while time.time_ns() - started < 2_100_000_000:  # FAT counts time in steps of two seconds
        os.utime(spec.uki, (0, 0))
    assemble_disk(spec, tmp_path / "again", toolbox)
    data = (tmp_path / "disk").read_bytes()
    assert data == (tmp_path / "again").read_bytes()
    assert (tmp_path / "disk").stat().st_blocks * 512 < 8 << 20

    assert read_gpt(tmp_path / "disk") == layout
    for partition, slot in zip(layout.partitions[1:3], spec.slots[:2], strict=True):
        assert slot.content is not None
        content = slot.content.read_bytes()
        assert data[partition.start : partition.start + len(content)] == content
    assert [partition.label for partition in layout.partitions] == [
        "esp", "container_7.1", "container_7.1_verity", "_empty", "_empty",
    ]  # fmt: skip
    assert [name for name in list_esp(tmp_path / "disk", toolbox) if not name.endswith("/")] == [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/Linux/container_7.1+3-0.efi",
        "EFI/systemd/systemd-bootx64.efi",
        "loader/keys/auto/db.auth",
        "loader/loader.conf",
    ]
    inside = read_esp_file(tmp_path / "disk", "EFI/Linux/container_7.1+3-0.efi", toolbox)
    assert inside == spec.uki.read_bytes()


def test_disk_passes_the_checks_of_sfdisk_and_repart(tmp_path: Path, toolbox: Toolbox) -> None:
    assemble_disk(_spec(tmp_path), tmp_path / "disk", toolbox)
    assert "No errors detected" in toolbox.run("sfdisk", "--verify", tmp_path / "disk").text
    definitions = tmp_path / "repart.d"
    definitions.mkdir()
    kinds = ("esp", "root-x86-64", "root-x86-64-verity", "root-x86-64", "root-x86-64-verity", "var")
    for number, kind in enumerate(kinds):
        weight = 1000 if kind == "var" else 0
        (definitions / f"{number}0.conf").write_text(f"[Partition]\nType={kind}\nSizeMinBytes=1M\nWeight={weight}\n")
    shown = toolbox.run(
        "systemd-repart", "--dry-run=yes", "--empty=refuse", "--json=short", "--sector-size=512", "--offline=yes",
        f"--definitions={definitions}", tmp_path / "disk",
    ).text  # fmt: skip
    assert shown.count('"activity":"unchanged"') == 5
    assert shown.count('"activity":"create"') == 1


def test_image_larger_than_its_slot_is_refused_with_the_remedy(tmp_path: Path, toolbox: Toolbox) -> None:
    spec = _spec(tmp_path)
    assert spec.slots[0].content is not None
    spec.slots[0].content.write_bytes(bytes(9 << 20))
    with pytest.raises(BadInput, match="its slot") as error:
        assemble_disk(spec, tmp_path / "disk", toolbox)
    assert "slot size" in error.value.remedy
    assert not (tmp_path / "disk").exists()


def test_esp_too_small_for_its_files_is_an_error_and_leaves_no_disk(tmp_path: Path, toolbox: Toolbox) -> None:
    spec = _spec(tmp_path)
    spec.uki.write_bytes(_random(1, 4096) * (70 << 8))
    with pytest.raises(ToolError, match="mcopy"):
        assemble_disk(spec, tmp_path / "disk", toolbox)
    assert not (tmp_path / "disk").exists()
