"""Damaged and hostile packages: each is refused with a plain error, and no more is read than the header allows."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.packages.rpm.container import open_container, padded
from bedplate.packages.rpm.header import Entry, Header, encode_header, int16s, int32s, string, strings
from bedplate.packages.rpm.metadata import describe
from bedplate.packages.rpm.payload import TRAILER, newc_header
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.sign import sign_rpm, verify_rpm
from bedplate.packages.rpm.tags import SigTag, Tag, Type
from bedplate.packages.rpm.writer import write_rpm
from support.packages import TestKey, contents_of, demo_spec, directory, regular, symlink, write_demo

Edit = Callable[[dict[int, Entry]], None]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A sound package."""
    return write_demo(tmp_path / "good.rpm").path


def forge(source: Path, out: Path, edit: Edit, payload: bytes | None = None) -> Path:
    """``source`` with an edited header (and another payload) and all digests made right again: what an attacker who
    can write any bytes would make."""
    container = open_container(source)
    if payload is None:
        payload = source.read_bytes()[container.payload_offset :]
    entries = container.header.entries()
    entries[Tag.PAYLOAD_DIGEST] = strings(hashlib.sha256(payload).hexdigest())
    edit(entries)
    header = encode_header(entries, Tag.REGION)
    signature = container.signature.entries()
    signature[SigTag.SHA256_HEADER] = string(hashlib.sha256(header).hexdigest())
    signature[SigTag.SIZE] = int32s(len(header) + len(payload))
    out.write_bytes(container.lead + padded(encode_header(signature, SigTag.REGION)) + header + payload)
    return out


def numbers(entries: dict[int, Entry], tag: Tag) -> list[int]:
    """The integers of ``tag``."""
    return [int(value) for value in entries[tag].value]


def texts(entries: dict[int, Entry], tag: Tag) -> list[str]:
    """The strings of ``tag``."""
    return [str(value) for value in entries[tag].value]


def read_all(path: Path) -> None:
    """Open and read everything."""
    RpmPackage.open(path).verify_payload()


def test_corrupt_header_every_flipped_byte_is_noticed(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    container = open_container(good)
    start = container.payload_offset - len(container.header.blob)
    target = tmp_path / "bad.rpm"
    for position in range(start, container.payload_offset, 37):
        target.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        with pytest.raises(BadInput):
            RpmPackage.open(target)


def test_truncated_package_at_any_length(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    target = tmp_path / "bad.rpm"
    for length in [*range(0, len(data), 61), len(data) - 1]:
        target.write_bytes(data[:length])
        with pytest.raises(BadInput):
            read_all(target)


def test_truncated_payload_with_sizes_made_to_fit(good: Path, tmp_path: Path) -> None:
    payload = good.read_bytes()[open_container(good).payload_offset :]
    with pytest.raises(BadInput, match="payload"):
        read_all(forge(good, tmp_path / "bad.rpm", lambda entries: None, payload[: len(payload) // 2]))


def test_flipped_byte_in_payload(good: Path, tmp_path: Path) -> None:
    data = bytearray(good.read_bytes())
    data[-9] ^= 1
    target = tmp_path / "bad.rpm"
    target.write_bytes(data)
    with pytest.raises(BadInput):
        read_all(target)


def test_data_appended_to_payload(good: Path, tmp_path: Path) -> None:
    target = tmp_path / "bad.rpm"
    target.write_bytes(good.read_bytes() + b"more")
    with pytest.raises(BadInput, match="longer or shorter"):
        RpmPackage.open(target)


def _set_text(tag: Tag, number: int, value: str) -> Edit:
    def edit(entries: dict[int, Entry]) -> None:
        values = texts(entries, tag)
        values[number] = value
        entries[tag] = strings(*values)

    return edit


def _set_mode(mode: int) -> Edit:
    def edit(entries: dict[int, Entry]) -> None:
        values = numbers(entries, Tag.FILE_MODES)
        values[0] = mode
        entries[Tag.FILE_MODES] = int16s(*values)

    return edit


@pytest.mark.parametrize("name", ["../../etc/", "/etc/../../", "/usr//bin/", "etc/", "/usr/./bin/"])
def test_path_traversal_in_directory_name(good: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="unsafe path"):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", _set_text(Tag.DIRNAMES, 0, name)))


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "."])
def test_path_traversal_in_base_name(good: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="unsafe"):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", _set_text(Tag.BASENAMES, 0, name)))


@pytest.mark.parametrize(
    ("mode", "what"),
    [(0o020666, "character device"), (0o060660, "block device"), (0o010644, "pipe"), (0o140755, "socket")],
)
def test_device_node(good: Path, tmp_path: Path, mode: int, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", _set_mode(mode)))


@pytest.mark.parametrize("target", ["../../../etc/shadow", "../../../../x"])
def test_link_out_of_the_tree(tmp_path: Path, target: str) -> None:
    written = write_demo(tmp_path / "bad.rpm", files=(symlink("/usr/bin/x", target),))
    with pytest.raises(BadInput, match="out of the tree"):
        RpmPackage.open(written.path)


def test_file_below_its_own_symbolic_link(tmp_path: Path) -> None:
    files = (symlink("/usr/lib/trap", "/etc"), directory("/usr/lib/trap/sub"), regular("/usr/lib/trap/sub/x", b""))
    written = write_rpm(demo_spec(files=files), contents_of({"/usr/lib/trap/sub/x": b""}), tmp_path / "bad.rpm")
    with pytest.raises(BadInput, match="no directory"):
        RpmPackage.open(written.path)


def test_two_files_with_one_path(good: Path, tmp_path: Path) -> None:
    names = texts(open_container(good).header.entries(), Tag.BASENAMES)
    with pytest.raises(BadInput, match="one path"):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", _set_text(Tag.BASENAMES, 2, names[1])))


def test_directory_index_out_of_range(good: Path, tmp_path: Path) -> None:
    def edit(entries: dict[int, Entry]) -> None:
        values = numbers(entries, Tag.DIR_INDEXES)
        entries[Tag.DIR_INDEXES] = int32s(*values[:-1], 4_000_000_000)

    with pytest.raises(BadInput, match="do not fit"):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", edit))


def test_lists_of_different_lengths(good: Path, tmp_path: Path) -> None:
    def edit(entries: dict[int, Entry]) -> None:
        entries[Tag.FILE_MODES] = int16s(*numbers(entries, Tag.FILE_MODES)[:-1])

    with pytest.raises(BadInput, match="one value for each file"):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", edit))


def test_installed_size_beyond_all_reason(good: Path, tmp_path: Path) -> None:
    def edit(entries: dict[int, Entry]) -> None:
        entries[Tag.FILE_SIZES] = int32s(*(0xFFFFFFFF for _ in numbers(entries, Tag.FILE_SIZES)))

    with pytest.raises(BadInput, match=r"differ|more than"):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", edit))


def _bomb() -> bytes:
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256))
    return data + packer.flush()


def test_decompression_bomb(good: Path, tmp_path: Path) -> None:
    container = open_container(good)
    head = zstandard.ZstdDecompressor().decompressobj().decompress(good.read_bytes()[container.payload_offset :])
    bomb = zstandard.ZstdCompressor().compress(head) + _bomb()
    with pytest.raises(BadInput, match=r"larger than its header|after the end"):
        read_all(forge(good, tmp_path / "bad.rpm", lambda entries: None, bomb))


def test_decompression_bomb_within_a_member(tmp_path: Path) -> None:
    written = write_rpm(
        demo_spec(files=(regular("/srv/x", b"0123456789"),)), contents_of({"/srv/x": b"0123456789"}), tmp_path / "s.rpm"
    )
    member = newc_header(b"./srv/x", inode=1, mode=0o100644, links=1, size=1 << 30)
    payload = zstandard.ZstdCompressor().compress(member + bytes(64 << 20))
    with pytest.raises(BadInput, match="differs in size"):
        read_all(forge(written.path, tmp_path / "bad.rpm", lambda entries: None, payload))


@pytest.mark.parametrize("name", [b"./../../etc/shadow", b"./etc/unknown", b"/etc/demo.conf\0x"])
def test_member_the_header_does_not_know(good: Path, tmp_path: Path, name: bytes) -> None:
    archive = newc_header(name, mode=0o100644, size=1) + b"x\0\0\0" + newc_header(TRAILER.encode())
    with pytest.raises(BadInput, match="does not know"):
        read_all(forge(good, tmp_path / "bad.rpm", lambda entries: None, zstandard.compress(archive)))


def test_payload_that_lacks_files(good: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not in the payload"):
        read_all(
            forge(good, tmp_path / "bad.rpm", lambda entries: None, zstandard.compress(newc_header(TRAILER.encode())))
        )


def test_member_twice(tmp_path: Path) -> None:
    spec = demo_spec(files=(regular("/srv/x", b"abcd"),))
    written = write_rpm(spec, contents_of({"/srv/x": b"abcd"}), tmp_path / "s.rpm")
    member = newc_header(b"./srv/x", inode=1, mode=0o100644, size=4) + b"abcd"
    with pytest.raises(BadInput, match="twice"):
        read_all(forge(written.path, tmp_path / "bad.rpm", lambda entries: None, zstandard.compress(member + member)))


def test_file_with_another_digest_is_never_given(good: Path, tmp_path: Path) -> None:
    def edit(entries: dict[int, Entry]) -> None:
        values = texts(entries, Tag.FILE_DIGESTS)
        entries[Tag.FILE_DIGESTS] = strings(*(value and "0" * 64 for value in values))

    package = RpmPackage.open(forge(good, tmp_path / "bad.rpm", edit))
    given_out = []
    with pytest.raises(BadInput, match="digest"):
        for entry, _ in package.read(lambda path: True):
            given_out.append(entry.path)
    assert given_out == []


def test_payload_with_another_digest(good: Path, tmp_path: Path) -> None:
    def edit(entries: dict[int, Entry]) -> None:
        entries[Tag.PAYLOAD_DIGEST] = strings("0" * 64)

    with pytest.raises(BadInput, match="payload does not have the digest"):
        read_all(forge(good, tmp_path / "bad.rpm", edit))


def test_damaged_payload_is_never_signed(good: Path, tmp_path: Path) -> None:
    data = bytearray(good.read_bytes())
    data[-9] ^= 1
    good.write_bytes(data)
    with pytest.raises(BadInput, match="payload"):
        sign_rpm(good, tmp_path / "signed.rpm", TestKey.generate())
    assert not (tmp_path / "signed.rpm").exists()


def test_unsigned_package_is_not_trusted(good: Path) -> None:
    with pytest.raises(TrustError, match="not signed"):
        verify_rpm(good, [TestKey.generate().certificate])


def test_foreign_signature(good: Path, tmp_path: Path) -> None:
    sign_rpm(good, tmp_path / "signed.rpm", TestKey.generate())
    with pytest.raises(TrustError, match="trusted here"):
        verify_rpm(tmp_path / "signed.rpm", [TestKey.generate().certificate])


def test_edited_header_under_a_signature(good: Path, tmp_path: Path) -> None:
    key = TestKey.generate()
    sign_rpm(good, tmp_path / "signed.rpm", key)
    forged = forge(tmp_path / "signed.rpm", tmp_path / "bad.rpm", _set_mode(0o106755))
    RpmPackage.open(forged).verify_payload()
    with pytest.raises(TrustError, match="changed after it was signed"):
        verify_rpm(forged, [key.certificate])


def test_swapped_payload_under_a_signature(good: Path, tmp_path: Path) -> None:
    key = TestKey.generate()
    sign_rpm(good, tmp_path / "signed.rpm", key)
    other = write_demo(tmp_path / "other.rpm", files=()).path
    container, foreign = open_container(tmp_path / "signed.rpm"), open_container(other)
    signature = container.signature.entries()
    payload = other.read_bytes()[foreign.payload_offset :]
    signature[SigTag.SIZE] = int32s(len(container.header.blob) + len(payload))
    swapped = tmp_path / "bad.rpm"
    swapped.write_bytes(
        container.lead + padded(encode_header(signature, SigTag.REGION)) + container.header.blob + payload
    )
    with pytest.raises(BadInput, match="payload does not have the digest"):
        verify_rpm(swapped, [key.certificate])


def test_signature_of_another_package(good: Path, tmp_path: Path) -> None:
    key = TestKey.generate()
    other = write_demo(tmp_path / "other.rpm", summary="Another").path
    sign_rpm(other, tmp_path / "other-signed.rpm", key)
    stolen = open_container(tmp_path / "other-signed.rpm").signature.entries()
    container = open_container(good)
    kept = {**container.signature.entries(), SigTag.DSA_HEADER: stolen[SigTag.DSA_HEADER]}
    target = tmp_path / "bad.rpm"
    target.write_bytes(
        container.lead
        + padded(encode_header(kept, SigTag.REGION))
        + good.read_bytes()[container.payload_offset - len(container.header.blob) :]
    )
    with pytest.raises(TrustError):
        verify_rpm(target, [key.certificate])


def test_signer_that_gives_rubbish(good: Path, tmp_path: Path) -> None:
    class Rubbish:
        def sign(self, data: bytes) -> bytes:
            return b"not a signature"

    with pytest.raises(BedplateError, match="no OpenPGP signature"):
        sign_rpm(good, tmp_path / "signed.rpm", Rubbish())
    assert not (tmp_path / "signed.rpm").exists()


def test_source_package_is_refused(good: Path, tmp_path: Path) -> None:
    def edit(entries: dict[int, Entry]) -> None:
        del entries[Tag.SOURCE_RPM]

    with pytest.raises(BadInput, match="source package"):
        RpmPackage.open(forge(good, tmp_path / "bad.rpm", edit))


_INDEX = struct.Struct(">IIII")


@pytest.mark.parametrize(
    "entry",
    [
        (1000, 6, 0xFFFFFFFF, 1),
        (1000, 6, 5, 0xFFFFFFFF),
        (1000, 4, 1, 1),
        (1000, 4, 0, 0),
        (1000, 4, 0, 0x40000001),
        (1000, 99, 0, 1),
        (1, 6, 0, 1),
        (1000, 6, 0, 2),
    ],
    ids=["offset", "count", "alignment", "empty", "overflow", "type", "low-tag", "two-strings"],
)
def test_index_entry_that_lies(entry: tuple[int, int, int, int]) -> None:
    blob = bytearray(encode_header({1000: string("name"), 1001: int32s(1)}, Tag.REGION))
    blob[32:48] = _INDEX.pack(*entry)
    with pytest.raises(BadInput):
        Header(bytes(blob), Tag.REGION, "x")


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_fuzzed_header_is_read_or_refused(data: st.DataObject) -> None:
    entries = {
        1000: string("name"),
        1028: int32s(1, 2, 3),
        1030: int16s(1, 2),
        1049: strings("a", "b", ""),
        5009: Entry(Type.INT64, (1 << 40,)),
    }
    blob = bytearray(encode_header(entries, Tag.REGION))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = Header(bytes(blob), Tag.REGION, "fuzz")
    except BadInput:
        return
    for tag in header:
        header.entry(tag)
    assert encode_header(header.entries(), Tag.REGION)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.integers(100, 6000),
        st.one_of(
            st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=5).map(lambda values: int16s(*values)),
            st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5).map(lambda values: int32s(*values)),
            st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1, max_size=5).map(
                lambda values: strings(*values)
            ),
            st.binary(min_size=1, max_size=40).map(lambda value: Entry(Type.BIN, value)),
        ),
        max_size=12,
    )
)
def test_any_header_comes_back(entries: dict[int, Entry]) -> None:
    header = Header(encode_header(entries, Tag.REGION), Tag.REGION, "x")
    assert header.entries() == entries
    assert encode_header(header.entries(), Tag.REGION) == header.blob


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fuzzed_package_with_digests_made_right_is_read_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        source = write_demo(Path(name) / "good.rpm").path
        container = open_container(source)
        archive = bytearray(zstandard.decompress(source.read_bytes()[container.payload_offset :]))
        tag = data.draw(st.sampled_from(sorted(container.header)))
        entry = container.header.entry(tag)

        def edit(entries: dict[int, Entry]) -> None:
            if isinstance(entry.value, tuple) and entry.type in (Type.INT16, Type.INT32):
                values = [int(one) for one in entry.value]
                values[data.draw(st.integers(0, len(values) - 1))] = data.draw(st.sampled_from([0, 1, 255, 65535]))
                entries[tag] = Entry(entry.type, tuple(values))
            elif isinstance(entry.value, tuple):
                words = [str(one) for one in entry.value]
                hostile = st.sampled_from(["", "..", "/", "x" * 5000, "(", "a\nb"])
                words[data.draw(st.integers(0, len(words) - 1))] = data.draw(hostile)
                entries[tag] = Entry(entry.type, tuple(words))
            else:
                del entries[tag]

        for _ in range(data.draw(st.integers(0, 2))):
            archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.sampled_from(b"0f19 /\0\xff"))
        forged = forge(source, Path(name) / "bad.rpm", edit, zstandard.compress(bytes(archive)))
        try:
            package = RpmPackage.open(forged)
            describe(package, "0" * 64, "x.rpm")
            for entry_, content in package.read(lambda path: True):
                assert hashlib.sha256(content).hexdigest() == entry_.sha256
        except BadInput:
            return
