"""Checking dm-verity: does the stored hash tree bind every block of an image to the root hash?

Written apart from the code that makes such trees, so that one does not hide the other's mistakes.

Source: the kernel's Documentation/admin-guide/device-mapper/verity.rst, version 1 of the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

BLOCK = 4096
MAX_LEVELS = 8
_DIGEST = 32
_PER_BLOCK = BLOCK // _DIGEST
_PIECE = 1024
_SHOWN = 16

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class TreeCheck:
    """Result of :func:`check_tree`.

    ``root_hash`` (hex) is recomputed from the data alone, ``stored_root_hash`` is that of the tree as it is stored.
    ``bad_data`` are the first data blocks whose digest is not the stored one, ``bad_tree`` the first blocks of the
    stored tree (the superblock is block 0) whose digest is not the one stored above them; the counts are of all.
    """

    root_hash: str
    stored_root_hash: str
    hash_bytes: int
    bad_data: tuple[int, ...] = ()
    bad_data_count: int = 0
    bad_tree: tuple[int, ...] = ()
    bad_tree_count: int = 0


def check_tree(read_data: Read, data_blocks: int, read_hash: Read, salt: bytes) -> TreeCheck:
    """Hash all data and compare it with the stored tree.

    Args:
        read_data: Gives (offset, length) of the image; fewer bytes at its end.
        data_blocks: How many blocks of 4096 bytes are protected; at least 1.
        read_hash: Gives (offset, length) of the hash data, superblock first.
        salt: Hashed before each block.

    Raises:
        ValueError: the image or the hash data is shorter than that, or no image of this size can be protected.
    """
    counts = level_blocks(data_blocks)
    # On disk the top level comes first; the leaves, level 0, come last.
    starts = {level: 1 + sum(counts[level + 1 :]) for level in range(len(counts))}
    digests, bad_data, bad_data_count = _leaves(read_data, data_blocks, read_hash, salt, starts.get(0))
    stored_root = digests
    bad_tree: list[int] = []
    for level, count in enumerate(counts):
        digests = _hashes(digests + bytes(-len(digests) % BLOCK), salt)
        # What is stored is checked against itself: a changed data block must not count as damage of the whole tree.
        stored_root = _hashes(_whole(read_hash, starts[level] * BLOCK, count * BLOCK, "hash tree"), salt)
        if level + 1 < len(counts):
            above = _whole(read_hash, starts[level + 1] * BLOCK, count * _DIGEST, "hash tree")
            bad_tree += [starts[level] + number for number in _differing(stored_root, above)]
    return TreeCheck(
        root_hash=digests.hex(),
        stored_root_hash=stored_root.hex(),
        hash_bytes=(1 + sum(counts)) * BLOCK,
        bad_data=tuple(bad_data),
        bad_data_count=bad_data_count,
        bad_tree=tuple(bad_tree[:_SHOWN]),
        bad_tree_count=len(bad_tree),
    )


def level_blocks(data_blocks: int) -> list[int]:
    """Blocks of each level of the tree, leaves first; none when there is a single data block.

    Raises:
        ValueError: no data, or more levels than the kernel allows here.
    """
    if data_blocks < 1:
        raise ValueError("no data blocks")
    counts: list[int] = []
    left = data_blocks
    while left > 1:
        left = -(-left // _PER_BLOCK)
        counts.append(left)
        if len(counts) > MAX_LEVELS:
            raise ValueError("more data than a hash tree can hold")
    return counts


def _leaves(
    read_data: Read, data_blocks: int, read_hash: Read, salt: bytes, leaves_at: int | None
) -> tuple[bytes, list[int], int]:
    """Digests of all data blocks, and which of them are not the stored ones."""
    digests: list[bytes] = []
    bad: list[int] = []
    bad_count = 0
    for first in range(0, data_blocks, _PIECE):
        count = min(_PIECE, data_blocks - first)
        piece = _hashes(_whole(read_data, first * BLOCK, count * BLOCK, "image"), salt)
        digests.append(piece)
        if leaves_at is None:
            continue
        stored = _whole(read_hash, leaves_at * BLOCK + first * _DIGEST, count * _DIGEST, "hash tree")
        wrong = [first + number for number in _differing(stored, piece)]
        bad_count += len(wrong)
        bad += wrong[: max(0, _SHOWN - len(bad))]
    return b"".join(digests), bad, bad_count


def _differing(one: bytes, two: bytes) -> list[int]:
    """Numbers of the digests that are not alike."""
    if one == two:
        return []
    return [at // _DIGEST for at in range(0, len(one), _DIGEST) if one[at : at + _DIGEST] != two[at : at + _DIGEST]]


def _hashes(data: bytes, salt: bytes) -> bytes:
    return b"".join(hashlib.sha256(salt + data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK))


def _whole(read: Read, offset: int, length: int, what: str) -> bytes:
    data = read(offset, length)
    if len(data) != length:
        raise ValueError(f"the {what} is cut short")
    return data
