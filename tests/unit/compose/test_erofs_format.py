"""EROFS structures as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.compose.erofs import format
from bedplate.compose.erofs.clusters import (
    Head,
    Kind,
    MapHeader,
    compact_size,
    decode_compact,
    encode_compact,
    relocate_compact,
)

HEADER = MapHeader.unpack(bytes.fromhex("0000000007000300"))
FOUR_BYTE = MapHeader.unpack(bytes.fromhex("0000000006000300"))


def test_crc32c_of_a_published_vector() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, with the final inversion
    assert format.crc32c(bytes(32)) ^ 0xFFFFFFFF == 0x8A9136AA


def test_superblock_survives_the_round_trip() -> None:
    block = format.Superblock(
        37, 5, 9, 1_700_000_000, bytes(range(16)), compat=3, incompat=3, label=b"root", algorithms=8
    )
    assert len(block.pack()) == format.SUPERBLOCK_SIZE
    assert format.Superblock.unpack(block.pack()) == block


@given(
    st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**40), st.booleans()
)
def test_inode_survives_the_round_trip(mode: int, uid: int, nlink: int, size: int, compact: bool) -> None:
    if compact:
        inode = format.Inode(
            format.Layout.FLAT_INLINE, mode, size % 2**32, 7, 3, uid % 2**16, 0, nlink % 2**16, None, 0, 0, True
        )
    else:
        inode = format.Inode(format.Layout.COMPRESSED_COMPACT, mode, size, 7, 3, uid, 1, nlink, 12345, 4)
    assert format.Inode.unpack(inode.pack()) == inode


@given(st.sets(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & set(b"/\0")), max_size=200))
def test_directory_names_are_cut_into_sorted_blocks(names: set[bytes]) -> None:
    blocks = format.directory_blocks(names | {b".", b".."})
    read: list[bytes] = []
    for block in blocks:
        data = format.pack_directory_block(block, [(5, 1)] * len(block))
        assert len(data) <= format.BLOCK
        read += [name for name, nid, kind in format.unpack_directory_block(data.ljust(format.BLOCK, b"\0")) if nid == 5]
    assert read == sorted(names | {b".", b".."})


def test_attributes_survive_the_round_trip() -> None:
    xattrs = (("security.capability", bytes(20)), ("security.selinux", b"x:y:z\0"), ("user.", b""))
    area = format.pack_xattrs(xattrs)
    assert (
        len(area)
        == format.Inode.unpack(
            format.Inode(format.Layout.FLAT_PLAIN, 0o100644, 0, 0, 1, 0, 0, 1, 0, format.xattr_count(area)).pack()
        ).xattr_size
    )
    at, found = format.XATTR_HEADER, []
    while at < len(area):
        name, value, at = format.unpack_xattr(area, at)
        found.append((name, value))
    assert tuple(found) == xattrs


def test_attribute_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be stored"):
        format.pack_xattrs((("system.nfs4_acl", b""),))


@st.composite
def indexes(draw: st.DrawFn) -> tuple[list[Head], int]:
    """Heads of a file as a compressor makes them: runs of at least a block, physical clusters without gaps."""
    lengths = draw(st.lists(st.integers(format.BLOCK, 40 * format.BLOCK), min_size=1, max_size=40))
    heads: list[Head] = []
    at, block = 0, draw(st.integers(0, 2**30))
    for length in lengths:
        entries = (at + length) // format.BLOCK - at // format.BLOCK
        blocks = draw(st.integers(1, min(16, entries))) if entries > 1 else 1
        heads.append(
            Head(at // format.BLOCK, draw(st.sampled_from([Kind.PLAIN, Kind.HEAD1])), at % format.BLOCK, block, blocks)
        )
        at, block = at + length, block + blocks
    if at % format.BLOCK:
        heads.append(Head(at // format.BLOCK, Kind.PLAIN, at % format.BLOCK, block, 1))
    return heads, -(-at // format.BLOCK)


@given(indexes(), st.sampled_from([0, 8, 16, 24]), st.booleans())
def test_compression_index_survives_the_round_trip_at_every_alignment(
    made: tuple[list[Head], int], alignment: int, two_byte: bool
) -> None:
    heads, count = made
    data = encode_compact(heads, count, alignment, two_byte)
    assert len(data) == compact_size(count, alignment, two_byte)
    assert decode_compact(data, count, alignment, HEADER if two_byte else FOUR_BYTE) == heads


@given(indexes(), st.sampled_from([0, 8, 16, 24]), st.integers(0, 2**30))
def test_relocated_index_is_the_index_of_moved_data(made: tuple[list[Head], int], alignment: int, by: int) -> None:
    heads, count = made
    moved = [head._replace(block=head.block + by) for head in heads]
    data = relocate_compact(encode_compact(heads, count, alignment, True), count, alignment, True, by)
    assert data == encode_compact(moved, count, alignment, True)
