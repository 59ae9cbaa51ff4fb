"""What two versions share lies in equal blocks, and hash trees name them: the ground of small updates."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

from tests.support.images import stub

from bedplate.compose import pe
from bedplate.compose.verity import BLOCK, format_verity, tree_of

KERNEL = stub() + random.Random(1).randbytes(40 * BLOCK)


def program(release: bytes, command_line: bytes) -> bytes:
    sections = [
        pe.Section(".osrel", release),
        pe.Section(".cmdline", command_line),
        pe.Section(".initrd", random.Random(2).randbytes(30 * BLOCK + 7)),
        pe.Section(".linux", KERNEL),
    ]
    return pe.add_sections(stub(), sections, "stub")


def blocks(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, len(data), BLOCK)]


def test_boot_images_of_two_versions_differ_in_the_blocks_of_what_changed_only() -> None:
    old = program(b"IMAGE_VERSION=1.0\n", b"quiet roothash=" + b"a" * 64)
    new = program(b"IMAGE_VERSION=1.0.20261121.1\n" + b"X=1\n" * 200, b"quiet roothash=" + b"b" * 64)
    there = set(blocks(old))
    assert len([block for block in blocks(new) if block not in there]) <= 3


def test_the_tree_of_bytes_is_that_of_the_same_file(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(300 * BLOCK)
    (tmp_path / "image").write_bytes(data)
    format_verity(tmp_path / "image", tmp_path / "hashes", salt=b"salt", uuid=UUID(int=7))
    assert tree_of(data, b"salt", UUID(int=7)) == (tmp_path / "hashes").read_bytes()


def test_a_last_block_that_is_not_full_counts_as_filled_with_zeros() -> None:
    data = random.Random(4).randbytes(5 * BLOCK - 100)
    assert tree_of(data, b"", UUID(int=0)) == tree_of(data + bytes(100), b"", UUID(int=0))
