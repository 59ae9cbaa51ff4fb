"""Contents as the encoder stores them, read back by the reader."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.erofs import EPOCH, IMAGE_UUID, file

from bedplate.compose.erofs.encoder import CompressionOptions, Encoder
from bedplate.compose.erofs.linker import link
from bedplate.compose.erofs.objects import ObjectInput, ObjectStore
from bedplate.compose.erofs.reader import ErofsImage
from bedplate.model.errors import BadInput

# Small sizes bring all cases about: halved runs, plain runs, ends on and beside block borders.
SMALL = CompressionOptions(level=1, cluster=8192, extent=32768)


def _noise(seed: int, size: int) -> bytes:
    return b"".join(hashlib.sha256(f"{seed}/{at}".encode()).digest() for at in range(size // 32 + 1))[:size]


pieces = st.one_of(
    st.tuples(st.just(b"bedplate"), st.integers(0, 60_000)).map(lambda t: (t[0] * (t[1] // 8 + 1))[: t[1]]),
    st.tuples(st.integers(0, 5), st.integers(0, 40_000)).map(lambda t: _noise(*t)),
    st.sampled_from([1, 100, 4095, 4096, 4097, 8192, 32768, 32769]).map(bytes),
)


def _through(data: bytes, options: CompressionOptions) -> bytes:
    with TemporaryDirectory() as folder:
        store, out = ObjectStore(Path(folder)), Path(folder) / "image"
        objects = store.ensure([ObjectInput("g", len(data), lambda: iter([("/f", data)]))], options)
        link([file("/f", data)], objects, out, uuid=IMAGE_UUID, epoch_time=EPOCH)
        with ErofsImage(out) as image:
            return image.read(image.children(image.root)[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(pieces, max_size=5).map(b"".join))
def test_every_content_reads_back(data: bytes) -> None:
    assert _through(data, SMALL) == data


@settings(max_examples=60, deadline=None)
@given(st.lists(pieces, max_size=5).map(b"".join))
def test_stored_form_is_never_larger_and_the_same_every_time(data: bytes) -> None:
    encoded = Encoder(SMALL).encode(data)
    assert len(encoded.blocks) + len(encoded.tail) + len(encoded.index) <= len(data)
    assert encoded == Encoder(SMALL).encode(data)


def test_default_options_read_back() -> None:
    data = b"".join([bytes(500_000), _noise(1, 300_001), b"text " * 90_000, _noise(2, 77)])
    assert _through(data, CompressionOptions()) == data


def test_compressible_content_takes_little_room_and_noise_stays_flat() -> None:
    encoder = Encoder(CompressionOptions())
    assert len(encoder.encode(bytes(1 << 20)).blocks) == 6 * 4096  # one block for each run
    assert not encoder.encode(_noise(3, 1 << 20)).compressed


@pytest.mark.parametrize(
    "changes", [{"level": 0}, {"level": 23}, {"cluster": 5000}, {"cluster": 2 << 20}, {"extent": 0}]
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        CompressionOptions(**changes)
