"""Keys that never leave their device or service: what they must be able to do, and signers for every role made of them.

A device signs bytes with an RSA or ECDSA key and says its public key; certificates, OpenPGP packets and Authenticode
signatures are put together around that here and beside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

from bedplate.model.errors import BadInput, BedplateError
from bedplate.trust import openpgp_rsa

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class DeviceKey(Protocol):
    """One private key in a device or a service."""

    def public(self) -> PublicKey:
        """Its public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """RSA: PKCS#1 v1.5 with SHA-256. ECDSA: DER, with SHA-256."""
        ...


DeviceOpener = Callable[[str], DeviceKey]
_DEVICES: dict[str, DeviceOpener] = {}


def register_device(scheme: str, opener: DeviceOpener) -> None:
    """Let ``opener`` open keys under ``scheme:`` URIs."""
    _DEVICES[scheme] = opener


def open_device(uri: str) -> DeviceKey:
    """The key a URI names. Nothing is asked of the device before it has to do something.

    Raises:
        BadInput: an unknown scheme, or a URI that lacks something.
    """
    scheme = urlsplit(uri).scheme
    opener = _DEVICES.get(scheme)
    if opener is None:
        known = ", ".join(f"{name}:" for name in sorted(_DEVICES))
        raise BadInput(f"no keys under {scheme or 'plain paths'!r} URIs", where=uri, remedy=f"use one of: {known}")
    return opener(uri)


class DeviceSigner:
    """A key in a device with the certificate made for it, see :class:`bedplate.trust.signers.Signer`."""

    def __init__(self, uri: str, certificate: bytes) -> None:
        self._uri = uri
        self._certificate = certificate

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def public(self) -> bytes:
        return self._certificate

    @property
    def key_file(self) -> Path | None:
        return None

    def sign(self, data: bytes) -> bytes:
        return open_device(self._uri).sign(data)


class DeviceOpenPgpSigner(DeviceSigner):
    """The same with an OpenPGP certificate; signs as OpenPGP does."""

    def sign(self, data: bytes) -> bytes:
        return openpgp_rsa.detached(self.public, data, open_device(self.uri).sign)


def require_rsa(key: DeviceKey, uri: str) -> rsa.RSAPublicKey:
    """The device's RSA key.

    Raises:
        BadInput: it is of another kind.
    """
    public = key.public()
    if not isinstance(public, rsa.RSAPublicKey):
        raise BadInput(
            "firmware, PCR policies and OpenPGP need an RSA key here", where=uri, remedy="make an RSA key of 2048 bits"
        )
    return public


class StandInKey(rsa.RSAPrivateKey):
    """A private key for certificate builders whose signatures come from a device."""

    def __init__(self, key: DeviceKey, uri: str) -> None:
        self._key = key
        self._public = require_rsa(key, uri)

    def sign(self, data: Any, padding: AsymmetricPadding, algorithm: Any) -> bytes:
        """Sign; only what every device can do is asked of it."""
        if not isinstance(padding, _PKCS1) or not isinstance(algorithm, hashes.SHA256):
            raise BedplateError("a key in a device signs with PKCS#1 v1.5 and SHA-256 only")
        return self._key.sign(bytes(data))

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> bytes:
        raise _stays()

    def private_numbers(self) -> rsa.RSAPrivateNumbers:
        raise _stays()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:
        raise _stays()

    def __copy__(self) -> StandInKey:
        return self

    def __deepcopy__(self, memo: Any) -> StandInKey:
        return self


class StandInEcKey(ec.EllipticCurvePrivateKey):
    """The same for an ECDSA key."""

    def __init__(self, key: DeviceKey) -> None:
        self._key = key
        self._public = cast(ec.EllipticCurvePublicKey, key.public())

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign; see :class:`StandInKey`."""
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise BedplateError("a key in a device signs with SHA-256 only")
        return self._key.sign(bytes(data))

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def exchange(self, algorithm: Any, peer_public_key: Any) -> bytes:
        raise _stays()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        raise _stays()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:
        raise _stays()

    def __copy__(self) -> StandInEcKey:
        return self

    def __deepcopy__(self, memo: Any) -> StandInEcKey:
        return self


_PKCS1 = padding.PKCS1v15


def public_of(data: bytes, where: str) -> PublicKey:
    """A public key from DER or PEM.

    Raises:
        BadInput: neither RSA nor ECDSA.
    """
    try:
        pem = data.lstrip().startswith(b"-----")
        public = serialization.load_pem_public_key(data) if pem else serialization.load_der_public_key(data)
    except ValueError as error:
        raise BadInput("the device gave no public key that can be read", where=where) from error
    if not isinstance(public, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        raise BadInput("only RSA and ECDSA keys of devices can be used", where=where)
    return public


def _stays() -> BedplateError:
    return BedplateError("the private key never leaves its device")
