"""Hash trees made by the one and checked by the other."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest

from bedplate.compose.verity import format_verity
from bedplate.verify.hashtree import BLOCK, TreeCheck, check_tree, level_blocks

SALT = b"salt"


def made(folder: Path, blocks: int) -> tuple[bytearray, bytearray, str]:
    data = os.urandom(blocks * BLOCK)
    image, tree = folder / "image", folder / "tree"
    image.write_bytes(data)
    result = format_verity(image, tree, salt=SALT, uuid=UUID(int=1))
    return bytearray(data), bytearray(tree.read_bytes()), result.root_hash


def check(data: bytes, tree: bytes) -> TreeCheck:
    return check_tree(
        lambda at, length: bytes(data[at : at + length]),
        len(data) // BLOCK,
        lambda at, length: bytes(tree[at : at + length]),
        SALT,
    )


@pytest.mark.parametrize("blocks", [1, 2, 128, 129, 300])
def test_a_sound_tree(tmp_path: Path, blocks: int) -> None:
    data, tree, root_hash = made(tmp_path, blocks)
    found = check(data, tree)
    assert found == TreeCheck(root_hash, root_hash, len(tree))


def test_a_changed_block_is_named(tmp_path: Path) -> None:
    data, tree, root_hash = made(tmp_path, 300)
    data[170 * BLOCK + 5] ^= 1
    found = check(data, tree)
    assert found.bad_data == (170,)
    assert found.bad_tree_count == 0
    assert found.stored_root_hash == root_hash != found.root_hash


def test_a_changed_tree_is_named(tmp_path: Path) -> None:
    data, tree, root_hash = made(tmp_path, 300)
    tree[2 * BLOCK] ^= 1  # the first leaf: superblock, top level, leaves
    found = check(data, tree)
    assert found.bad_tree == (2,)
    assert found.bad_data == (0,)
    assert found.root_hash == root_hash


def test_a_changed_top_gives_another_root_hash(tmp_path: Path) -> None:
    data, tree, root_hash = made(tmp_path, 300)
    tree[BLOCK + 100 * 32] ^= 1  # behind the digests in use: only the root hash covers it
    found = check(data, tree)
    assert found.stored_root_hash != root_hash
    assert found.root_hash == root_hash


def test_many_changed_blocks_are_counted_and_some_named(tmp_path: Path) -> None:
    data, tree, _ = made(tmp_path, 300)
    found = check(bytes(len(data)), tree)
    assert found.bad_data_count == 300
    assert len(found.bad_data) == 16


def test_a_tree_cut_short(tmp_path: Path) -> None:
    data, tree, _ = made(tmp_path, 300)
    with pytest.raises(ValueError, match="cut short"):
        check(data, tree[:-BLOCK])


def test_levels() -> None:
    assert level_blocks(1) == []
    assert level_blocks(128) == [1]
    assert level_blocks(129) == [2, 1]
    with pytest.raises(ValueError, match="no data"):
        level_blocks(0)
