"""Caches that were damaged after they were written: each case is named after what happened to them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.support.erofs import EPOCH, IMAGE_UUID, file

from bedplate.compose.erofs.linker import link
from bedplate.compose.erofs.objects import DamagedObjectError, ErofsObject, ObjectInput, ObjectStore

DATA = b"".join(hashlib.sha256(bytes([number % 256])).digest() for number in range(3000))


def _objects(cache: Path) -> dict[str, ErofsObject]:
    return ObjectStore(cache).ensure([ObjectInput("g", len(DATA), lambda: iter([("/f", DATA)]))])


def flipped_bit(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 4]) + data[5001:]


def block_of_zeros(data: bytes) -> bytes:
    return bytes(4096) + data[4096:]


def swapped_blocks(data: bytes) -> bytes:
    return data[4096:8192] + data[:4096] + data[8192:]


@pytest.mark.parametrize("damage", [flipped_bit, block_of_zeros, swapped_blocks], ids=lambda damage: damage.__name__)
def test_damaged_object_gets_into_no_image_and_is_made_again(tmp_path: Path, damage: object) -> None:
    cache, out = tmp_path / "cache", tmp_path / "image"
    (made,) = _objects(cache).values()
    whole = made.path.read_bytes()
    made.path.write_bytes(damage(whole))  # type: ignore[operator]
    with pytest.raises(DamagedObjectError, match="damaged") as caught:
        link([file("/f", DATA)], _objects(cache), out, uuid=IMAGE_UUID, epoch_time=EPOCH)
    assert caught.value.where == str(made.path)
    assert caught.value.remedy
    assert not out.exists()
    assert list(tmp_path.glob(".image*")) == []
    link([file("/f", DATA)], _objects(cache), out, uuid=IMAGE_UUID, epoch_time=EPOCH)
    assert made.path.read_bytes() == whole
