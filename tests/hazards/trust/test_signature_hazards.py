"""EFI programs whose signature lies, and files that are no programs at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.model.errors import BadInput, TrustError
from bedplate.model.pe import parse_pe
from bedplate.toolchain.run import Toolbox
from bedplate.trust.authenticode import require_signature, signatures
from bedplate.trust.keys import KeyStore

LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("own") / "keys")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("foreign") / "keys")


def sign(toolbox: Toolbox, store: KeyStore, directory: Path) -> bytes:
    target = directory / "signed.efi"
    key, certificate = store.boot_key_paths()
    toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", target, toolbox.tree.path(LOADER))
    return target.read_bytes()


@pytest.mark.tools
def test_program_signed_by_a_foreign_key(toolbox: Toolbox, store: KeyStore, foreign: KeyStore, tmp_path: Path) -> None:
    program = sign(toolbox, foreign, tmp_path)
    assert signatures(parse_pe(program, "loader"))[0].valid
    with pytest.raises(TrustError, match="no signature by a known key"):
        require_signature(program, [store.signer("boot").public], "loader")


@pytest.mark.tools
@pytest.mark.parametrize("place", [".text", ".sdmagic", "header", "certificate table"])
def test_program_changed_after_signing(toolbox: Toolbox, store: KeyStore, tmp_path: Path, place: str) -> None:
    program = parse_pe(sign(toolbox, store, tmp_path), "loader")
    offsets = {section.name: section.offset + 4 for section in program.sections}
    offsets |= {"header": 0x48, "certificate table": program.table_offset + program.table_size - 40}
    damaged = bytearray(program.data)
    damaged[offsets[place]] ^= 1
    with pytest.raises(TrustError, match="no signature by a known key"):
        require_signature(bytes(damaged), [store.signer("boot").public], "loader")


@pytest.mark.tools
def test_signature_of_another_program(toolbox: Toolbox, store: KeyStore, tmp_path: Path) -> None:
    donor = parse_pe(sign(toolbox, store, tmp_path), "loader")
    changed = bytearray(donor.unsigned())
    changed[donor.sections[0].offset] ^= 1
    table = donor.data[donor.table_offset :]
    struct.pack_into("<II", changed, donor.directory_offset, len(changed), len(table))
    with pytest.raises(TrustError) as caught:
        require_signature(bytes(changed) + table, [store.signer("boot").public], "loader")
    assert "the program was changed after it was signed" in caught.value.details


@pytest.mark.tools
def test_bytes_hidden_behind_the_signature(toolbox: Toolbox, store: KeyStore, tmp_path: Path) -> None:
    program = sign(toolbox, store, tmp_path) + b"hidden"
    with pytest.raises(BadInput, match="not at the end"):
        require_signature(program, [store.signer("boot").public], "loader")


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF" + bytes(100), b"MZ" + bytes(200), b"MZ" + b"\xff" * 4096])
def test_file_that_is_no_program(data: bytes) -> None:
    with pytest.raises(BadInput, match="not an EFI program"):
        parse_pe(data, "file")


@pytest.mark.tools
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_certificate_table_with_random_damage(
    toolbox: Toolbox, store: KeyStore, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = _SIGNED.setdefault("loader", b"") or sign(toolbox, store, tmp_path_factory.mktemp("fuzz"))
    _SIGNED["loader"] = whole
    program = parse_pe(whole, "loader")
    position = data.draw(st.integers(program.table_offset + 8, len(whole) - 1))
    value = data.draw(st.integers(0, 255))
    damaged = whole[:position] + bytes([value]) + whole[position + 1 :]
    # Whatever is done to the table, nobody but the true signer comes out of it as known, with the mark still on.
    own = store.signer("boot").public
    try:
        found = require_signature(damaged, [own], "loader")
    except TrustError as refused:
        assert refused.details
    else:
        assert (found.certificate, found.development) == (own, True)


_SIGNED: dict[str, bytes] = {}
