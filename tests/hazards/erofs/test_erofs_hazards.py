"""Images and trees made to harm: each is refused with an error that names what is wrong, quickly and in bounds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.erofs import EPOCH, IMAGE_UUID, directory, file, link_files, make_object, symlink

from bedplate.compose.erofs import format
from bedplate.compose.erofs.linker import link
from bedplate.compose.erofs.reader import BadImage, ErofsImage
from bedplate.model.errors import BadInput, BedplateError


def _image(folder: Path) -> bytes:
    files = {"/a/compressed": b"bedplate" * 9000, "/a/flat": os.urandom(9000), "/b": b"small"}
    path, _ = link_files(folder, files, directory("/a"), directory("/a/deep"), symlink("/l", "a"))
    return path.read_bytes()


def _superblock(image: bytes, **changes: int) -> bytes:
    """The image with fields of its superblock changed and its checksum right again."""
    end = format.SUPERBLOCK_OFFSET + format.SUPERBLOCK_SIZE
    block = replace(format.Superblock.unpack(image[format.SUPERBLOCK_OFFSET : end]), **changes)  # type: ignore[arg-type]
    image = image[: format.SUPERBLOCK_OFFSET] + block.pack() + image[end:]
    checksum = format.superblock_checksum(image[: format.BLOCK])
    return image[: format.SUPERBLOCK_OFFSET] + replace(block, checksum=checksum).pack() + image[end:]


def _inode(image: bytes, folder: Path, path: str, **changes: int) -> bytes:
    """The image with fields of one inode changed."""
    (folder / "probe").write_bytes(image)
    with ErofsImage(folder / "probe") as opened:
        node = next(node for node in opened.walk() if node.path == path)
    at = node.nid * format.SLOT
    data = replace(node.inode, **changes).pack()  # type: ignore[arg-type]
    return _superblock(image[:at] + data + image[at + len(data) :])


def _redirected(image: bytes, folder: Path, name: bytes, target: str) -> bytes:
    """The image with the directory entry ``name`` pointing to the inode of ``target``."""
    (folder / "probe").write_bytes(image)
    with ErofsImage(folder / "probe") as opened:
        nodes = {node.path: node for node in opened.walk()}
    old, new = (nodes[path].nid.to_bytes(8, "little") for path in (os.fsdecode(name), target))
    changed = image.replace(old + image[(at := image.index(old)) + 8 : at + 12], new + image[at + 8 : at + 12])
    return _superblock(changed)


HAZARDS: dict[str, Callable[[bytes, Path], bytes]] = {
    "empty": lambda image, _: b"",
    "shorter than a block": lambda image, _: image[:2000],
    "truncated": lambda image, _: image[:-4096],
    "magic number overwritten": lambda image, _: image[:1024] + bytes(4) + image[1028:],
    "superblock flipped": lambda image, _: image[:1100] + bytes([image[1100] ^ 1]) + image[1101:],
    "unknown feature": lambda image, _: _superblock(image, incompat=0x80),
    "block size of 512 bytes": lambda image, _: _superblock(image, block_bits=9),
    "absurd block size": lambda image, _: _superblock(image, block_bits=255),
    "absurd block count": lambda image, _: _superblock(image, blocks=2**32 - 1),
    "root inode outside": lambda image, _: _superblock(image, root_nid=0xFFFF),
    "metadata outside": lambda image, _: _superblock(image, meta_block=2**32 - 1),
    "root is a file": lambda image, folder: _inode(image, folder, "/", mode=0o100755),
    "cyclic directory": lambda image, folder: _redirected(image, folder, b"/a/deep", "/a"),
    "directory by two paths": lambda image, folder: _redirected(image, folder, b"/l", "/a/deep"),
    "absurd directory size": lambda image, folder: _inode(image, folder, "/a", size=2**31),
    "directory of a few bytes": lambda image, folder: _inode(image, folder, "/a", size=5),
    "file of an exbibyte": lambda image, folder: _inode(image, folder, "/b", size=2**60, compact=False, mtime=0),
    "compressed file of a terabyte": lambda image, folder: _inode(image, folder, "/a/compressed", size=2**32 - 1),
    "file data outside": lambda image, folder: _inode(image, folder, "/a/flat", value=2**31),
    "absurd attribute count": lambda image, folder: _inode(image, folder, "/b", xattr_count=0xFFFF),
    "unknown layout of chunks": lambda image, folder: _inode(image, folder, "/b", layout=4, value=0xFFFF),
}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_harmful_image_is_refused(tmp_path: Path, hazard: str) -> None:
    path = tmp_path / "harmful"
    path.write_bytes(HAZARDS[hazard](_image(tmp_path), tmp_path))
    with pytest.raises(BadImage) as error, ErofsImage(path) as image:
        for node in image.walk():
            image.xattrs(node)
            image.read(node, 1 << 24)
    assert str(path) in str(error.value)
    assert error.value.remedy


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1024, 6 * 4096 - 1), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_metadata_with_random_bytes_is_read_or_refused(
    tmp_path: Path, changes: list[tuple[int, int]], sealed: bool
) -> None:
    reference = tmp_path / "reference"
    if not reference.exists():
        reference.write_bytes(_image(tmp_path))
    data = bytearray(reference.read_bytes())
    for at, value in changes:
        data[at] = value
    try:
        content = _superblock(bytes(data)) if sealed else bytes(data)
    except ValueError:
        content = bytes(data)  # the magic number itself was hit
    path = tmp_path / "random"
    path.write_bytes(content)
    try:
        with ErofsImage(path) as image:
            for node in image.walk():
                image.xattrs(node)
                image.read(node, 1 << 24)
    except BadImage as error:
        assert str(path) in str(error)


def test_directories_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = ""
    entries = []
    for _ in range(300):
        path += "/d"
        entries.append(directory(path))
    image, _ = link_files(tmp_path, {}, *entries)
    with pytest.raises(BadImage, match="nested more than"), ErofsImage(image) as opened:
        list(opened.walk())


def test_two_owners_of_one_path_are_both_named(tmp_path: Path) -> None:
    objects = {"g": make_object(tmp_path, "g", {"/usr": b"1"})}
    entries = [directory("/usr", owner="files:base"), file("/usr", b"1", owner="package:bash")]
    with pytest.raises(BadInput) as error:
        link(entries, objects, tmp_path / "i", uuid=IMAGE_UUID, epoch_time=EPOCH)
    assert "files:base" in str(error.value)
    assert "package:bash" in str(error.value)
    assert "/usr" in str(error.value)
    assert not (tmp_path / "i").exists()


def test_object_cut_short_while_linking_leaves_no_image(tmp_path: Path) -> None:
    content = os.urandom(4 * 4096)
    item = make_object(tmp_path, "g", {"/a": content})
    os.truncate(item.path, 4096)
    with pytest.raises(BedplateError, match="damaged"):
        link([file("/a", content)], {"g": item}, tmp_path / "i", uuid=IMAGE_UUID, epoch_time=EPOCH)
    assert list(tmp_path.iterdir()) == []  # nor the object: the next build makes it again
