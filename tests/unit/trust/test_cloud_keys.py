"""Keys in cloud services: AWS against moto's server, the others as far as their libraries are there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from moto.server import ThreadedMotoServer

from bedplate.model.errors import BadInput, BedplateError
from bedplate.trust.devices import open_device, register_device
from bedplate.trust.keys import KeyStore
from bedplate.trust.kms import KmsKey
from bedplate.trust.roles import Kind


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A key service on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def service(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine's settings for the key service."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    for scheme in ("awskms", "gcpkms", "azurekms"):
        register_device(scheme, KmsKey)
    return endpoint


def new_key(spec: str) -> str:
    made = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)
    return f"awskms:{made['KeyMetadata']['KeyId']}"


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P256"])
def test_a_key_in_a_service_signs(service: str, spec: str) -> None:
    device = open_device(new_key(spec))
    public, signature = device.public(), device.sign(b"manifest")
    # moto signs the digest as if it were the message, where the real service takes it as the digest it is.
    message = hashlib.sha256(b"manifest").digest()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    else:
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("role", ["boot", "pcr", "update", "release", "root"])
def test_a_service_that_signs_something_else_is_refused(service: str, tmp_path: Path, role: str) -> None:
    """As moto's does, see above."""
    keys = KeyStore(tmp_path / "keys")
    with pytest.raises(BedplateError, match=r"does not fit its public key|that its own key signed"):
        keys.add(role, new_key("RSA_2048"), Kind.RELEASE)
    assert keys.list() == []


def test_a_key_that_is_not_there(service: str, tmp_path: Path) -> None:
    with pytest.raises(BedplateError, match="the key service failed"):
        KeyStore(tmp_path / "keys").add("boot", "awskms:gone", Kind.RELEASE)


@pytest.mark.parametrize("uri", ["gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"])
def test_a_service_whose_library_is_missing_says_how_to_get_it(service: str, uri: str) -> None:
    with pytest.raises(BadInput, match=r"[Gg]oogle|cryptography") as caught:
        open_device(uri).public()
    assert "bedplate[gcpkms]" in caught.value.remedy


def test_a_vault_without_a_key(service: str) -> None:
    with pytest.raises(BadInput, match="not a key of a vault"):
        open_device("azurekms://vault").public()


def test_a_service_nobody_knows() -> None:
    with pytest.raises(BadInput, match="no keys under"):
        open_device("sorcery:key")
