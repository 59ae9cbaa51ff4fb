"""Forms and file systems that someone else made: refused with words, never followed out of bounds."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bedplate.compose.formats.qcow2 import read_qcow2, write_qcow2
from bedplate.model.errors import BadInput
from bedplate.verify.ext4 import Ext4Image

BLOCK = 4096
EXTENTS, DIRECTORY = 0x80000, 0o040755


def _qcow2(tmp_path: Path) -> bytearray:
    (tmp_path / "disk").write_bytes(b"some text" * 100_000 + bytes(900_000 % 512 and 512 - 900_000 % 512))
    write_qcow2(tmp_path / "disk", tmp_path / "good")
    return bytearray((tmp_path / "good").read_bytes())


def _a_backing_file(data: bytearray) -> None:
    struct.pack_into(">Q", data, 8, 112)


def _zlib_clusters(data: bytearray) -> None:
    data[104] = 0


def _a_disk_of_exabytes(data: bytearray) -> None:
    struct.pack_into(">Q", data, 24, 1 << 62)


def _tables_behind_the_end(data: bytearray) -> None:
    struct.pack_into(">Q", data, 40, 1 << 40)


def _a_cluster_of_noise(data: bytearray) -> None:
    data[65536 + 20 : 65536 + 60] = b"\xff" * 40


def _cut_short(data: bytearray) -> None:
    del data[70_000:]


@pytest.mark.parametrize(
    "spoil",
    [_a_backing_file, _zlib_clusters, _a_disk_of_exabytes, _tables_behind_the_end, _a_cluster_of_noise, _cut_short],
)
def test_hostile_qcow2(spoil, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = _qcow2(tmp_path)
    spoil(data)
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(BadInput):
        read_qcow2(tmp_path / "bad", tmp_path / "out")


def _ext4(directory: bytes, incompat: int = 0x42, block: bytes = b"", size: int = BLOCK) -> bytearray:
    """A file system of 16 blocks with nothing but its root directory (inode 2), whose block is number 8."""
    data = bytearray(16 * BLOCK)
    fields = {0x00: 32, 0x04: 16, 0x14: 0, 0x18: 2, 0x28: 32, 0x60: incompat}
    for at, value in fields.items():
        struct.pack_into("<I", data, 1024 + at, value)
    struct.pack_into("<HxxH", data, 1024 + 0x38, 0xEF53, 1)
    struct.pack_into("<H", data, 1024 + 0x58, 256)
    struct.pack_into("<I", data, BLOCK + 8, 2)
    root = 2 * BLOCK + 256
    struct.pack_into("<HHI", data, root, DIRECTORY, 0, size)
    struct.pack_into("<I", data, root + 0x20, EXTENTS)
    extent = struct.pack("<HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, 1, 0, 8)
    data[root + 0x28 : root + 0x28 + 60] = (block or extent).ljust(60, b"\0")
    data[8 * BLOCK : 8 * BLOCK + len(directory)] = directory
    return data


def _entry(inode: int, name: bytes, length: int = 0) -> bytes:
    body = struct.pack("<IHBB", inode, length or BLOCK, len(name), 2) + name
    return body if length == 0 else body.ljust(length, b"\0")


def test_a_good_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(_ext4(_entry(2, b".")))
    with Ext4Image(tmp_path / "image") as image:
        assert [node.path for node in image.walk()] == ["/"]


HOSTILE = {
    "a-directory-that-holds-itself": _ext4(_entry(2, b"again")),
    "a-name-with-a-slash": _ext4(_entry(2, b"a/b")),
    "a-name-twice": _ext4(_entry(11, b"x", 16) + struct.pack("<IHBB", 11, BLOCK - 16, 1, 2) + b"x"),
    "an-entry-longer-than-its-block": _ext4(struct.pack("<IHBB", 2, 5000, 1, 2) + b"."),
    "an-entry-without-length": _ext4(struct.pack("<IHBB", 2, 4, 1, 2) + b"."),
    "an-inode-that-does-not-exist": _ext4(_entry(999_999, b"x")),
    "a-journal-to-be-replayed": _ext4(_entry(2, b"."), incompat=0x46),
    "encryption": _ext4(_entry(2, b"."), incompat=0x10042),
    "a-directory-of-a-terabyte": _ext4(_entry(2, b"."), size=0x7FFFFFFF),
    "an-extent-outside": _ext4(b"", block=struct.pack("<HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, 1, 0xFFFF, 8)),
    "an-extent-tree-that-is-its-own-leaf": _ext4(
        struct.pack("<HHHHIIHH", 0xF30A, 1, 4, 5, 0, 0, 8, 0),
        block=struct.pack("<HHHHIIIHH", 0xF30A, 1, 4, 5, 0, 0, 8, 0, 0),
    ),
    "more-extents-than-fit": _ext4(b"", block=struct.pack("<HHHH", 0xF30A, 60000, 4, 0)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ext4(name: str, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(HOSTILE[name])
    with pytest.raises(BadInput) as caught, Ext4Image(tmp_path / "image") as image:
        list(image.walk())
    assert caught.value.where
