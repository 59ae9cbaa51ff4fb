"""A key directory that others could read, write or have damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.errors import BadInput, BedplateError
from bedplate.trust.keys import KeyStore
from bedplate.trust.roles import Kind


def test_key_directory_open_to_others(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o755)
    with pytest.raises(BadInput, match="others may look") as caught:
        KeyStore(directory)
    assert "chmod 700" in caught.value.remedy


def test_private_key_readable_by_others(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    (store.ensure("packages").directory / "key.pgp").chmod(0o644)
    with pytest.raises(BadInput, match="others may read"):
        store.signer("packages")


def test_key_file_cut_short(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    path = store.ensure("packages").directory / "key.pgp"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadInput, match=r"not an OpenPGP secret key|no unprotected"):
        store.signer("packages")


def test_certificate_replaced_by_garbage(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    (store.ensure("boot").directory / "cert.pem").write_text("garbage")
    with pytest.raises(BadInput, match="not a certificate"):
        store.list()


def test_active_names_a_key_that_is_gone(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    store.ensure("packages")
    (store.directory / "packages" / "active").write_text("packages-0000000000000000\n")
    # Never quietly a new key: whoever pinned the old one must hear of it.
    with pytest.raises(BadInput, match="no key"):
        store.ensure("packages")


def test_development_key_renamed_to_look_like_a_release(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    info = store.ensure("boot")
    info.directory.rename(info.directory.with_name("boot-release"))
    assert [found.kind for found in store.list()] == [Kind.DEVELOPMENT]


def test_left_over_of_a_killed_creation(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    half = store.directory / "boot" / ".new-killed"
    half.mkdir(parents=True)
    (half / "key.pem").write_text("half a key")
    assert store.list() == []
    assert store.ensure("boot").active


def test_private_key_missing(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    (store.ensure("boot").directory / "key.pem").unlink()
    with pytest.raises(BedplateError, match="cannot read the key"):
        store.signer("boot").sign(b"data")
