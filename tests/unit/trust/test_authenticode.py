"""Authenticode on programs signed by sbsign."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.errors import TrustError
from bedplate.model.pe import parse_pe
from bedplate.toolchain.run import Toolbox
from bedplate.trust.authenticode import require_signature, signatures
from bedplate.trust.keys import KeyStore

LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("trust") / "keys")


@pytest.fixture(scope="module")
def signed(toolbox: Toolbox, store: KeyStore, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    target: Path = tmp_path_factory.mktemp("signed") / "loader.efi"
    key, certificate = store.boot_key_paths()
    toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", target, toolbox.tree.path(LOADER))
    return target.read_bytes()


@pytest.mark.tools
def test_signature_by_sbsign_is_valid_and_marked(signed: bytes, store: KeyStore) -> None:
    (found,) = signatures(parse_pe(signed, "loader"))
    assert found.valid
    assert found.development
    assert found.fingerprint == store.ensure("boot").fingerprint
    assert require_signature(signed, [store.signer("boot").public], "loader") == found


@pytest.mark.tools
def test_unsigned_form_is_that_of_the_original(signed: bytes, toolbox: Toolbox) -> None:
    original = toolbox.tree.path(LOADER).read_bytes()
    assert parse_pe(signed, "signed").unsigned() == parse_pe(original, "original").unsigned()


@pytest.mark.tools
def test_sections_are_listed(signed: bytes) -> None:
    program = parse_pe(signed, "loader")
    assert ".sdmagic" in {section.name for section in program.sections}
    assert program.text(".sdmagic").startswith("#### LoaderInfo: systemd-boot")
    assert program.section(".cmdline") is None


@pytest.mark.tools
def test_unsigned_program_is_refused(toolbox: Toolbox, store: KeyStore) -> None:
    original = toolbox.tree.path(LOADER).read_bytes()
    assert signatures(parse_pe(original, "loader")) == []
    with pytest.raises(TrustError, match="not signed"):
        require_signature(original, [store.signer("boot").public], "loader")
