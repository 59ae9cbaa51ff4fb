"""Signers: what they sign verifies with other people's code, and is the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pysequoia
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bedplate.model.errors import BadInput
from bedplate.trust.keys import KeyStore
from bedplate.trust.roles import Role, role
from bedplate.trust.signers import FileX509Signer, Signer, open_signer, register


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


@pytest.mark.parametrize("data", [b"", b"x", b"some package header" * 1000])
def test_openpgp_signature_is_verified_by_sequoia(store: KeyStore, data: bytes) -> None:
    signer = store.signer("packages")
    certificate = pysequoia.Cert.from_bytes(signer.public)
    signature = pysequoia.Sig.from_bytes(signer.sign(data))
    assert pysequoia.verify(bytes=data, store=lambda _: [certificate], signature=signature).valid_sigs


def test_openpgp_signature_is_the_same_bytes_again(store: KeyStore) -> None:
    assert store.signer("packages").sign(b"data") == store.signer("packages").sign(b"data")


def test_public_part_holds_no_secret(store: KeyStore) -> None:
    tags = [str(packet.tag) for packet in pysequoia.packet.PacketPile.from_bytes(store.signer("packages").public)]
    assert "Tag.PublicKey" in tags
    assert not [tag for tag in tags if "Secret" in tag]
    assert b"PRIVATE" not in store.signer("boot").public


def test_x509_signature_verifies_with_the_certificate(store: KeyStore) -> None:
    signer = store.signer("pcr")
    assert isinstance(signer, FileX509Signer)
    key = signer.certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(signer.sign(b"policy"), b"policy", padding.PKCS1v15(), hashes.SHA256())


def test_another_scheme_can_be_added(store: KeyStore) -> None:
    inner = store.signer("packages")

    def opener(uri: str, wanted: Role) -> Signer:
        assert (uri, wanted.id) == ("test-token:slot=1", "packages")
        return inner

    register("test-token", opener)
    assert open_signer("test-token:slot=1", role("packages")) is inner


def test_unknown_scheme_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        open_signer("vault:key", role("boot"))
    assert "file:" in caught.value.remedy
