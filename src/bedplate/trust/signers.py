"""Signers by URI: something that signs for a role, wherever its private key is.

``file:`` is built in; a directory that holds ``uri`` instead of a private key leads to a device or a service
(:mod:`bedplate.trust.devices`), and nothing that signs needs to know which one it has. Programs that can only take a
private key from a file (sbsign) ask for :attr:`Signer.key_file`; for a signer without one there is
:func:`bedplate.trust.sign_efi.sign_efi`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from bedplate.model.errors import BadInput, BedplateError
from bedplate.trust import openpgp
from bedplate.trust.devices import DeviceOpenPgpSigner, DeviceSigner
from bedplate.trust.roles import Form, Role


class Signer(Protocol):
    """Signs data for one role."""

    @property
    def uri(self) -> str:
        """Where the private key is."""
        ...

    @property
    def public(self) -> bytes:
        """X.509: the certificate as PEM. OpenPGP: the binary transferable public key."""
        ...

    @property
    def key_file(self) -> Path | None:
        """The private key as a file, None where it never leaves its device."""
        ...

    def sign(self, data: bytes) -> bytes:
        """X.509: PKCS#1 v1.5 with SHA-256, raw. Ed25519: raw. OpenPGP: a binary detached signature."""
        ...


Opener = Callable[[str, Role], Signer]
_OPENERS: dict[str, Opener] = {}


def register(scheme: str, opener: Opener) -> None:
    """Let ``scheme:`` URIs be opened by ``opener``."""
    _OPENERS[scheme] = opener


def open_signer(uri: str, role: Role) -> Signer:
    """The signer a URI names.

    Raises:
        BadInput: an unknown scheme, or nothing usable at the place it names.
    """
    scheme = urlsplit(uri).scheme
    opener = _OPENERS.get(scheme)
    if opener is None:
        known = ", ".join(f"{name}:" for name in sorted(_OPENERS))
        raise BadInput(f"no signer for {scheme or 'a plain path'!r} URIs", where=uri, remedy=f"use one of: {known}")
    return opener(uri, role)


class FileX509Signer:
    """A PEM private key and a certificate beside it (``key.pem``, ``cert.pem``)."""

    def __init__(self, directory: Path) -> None:
        self.key_path = directory / "key.pem"
        self.certificate_path = directory / "cert.pem"
        self._certificate = read_key_file(self.certificate_path)

    @property
    def uri(self) -> str:
        return self.key_path.parent.as_uri()

    @property
    def public(self) -> bytes:
        return self._certificate

    @property
    def key_file(self) -> Path | None:
        return self.key_path

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate, parsed."""
        return x509.load_pem_x509_certificate(self._certificate)

    def sign(self, data: bytes) -> bytes:
        key = serialization.load_pem_private_key(read_key_file(self.key_path), None)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise BadInput("neither an RSA nor an Ed25519 key", where=str(self.key_path))
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


class FileOpenPgpSigner:
    """An unprotected OpenPGP secret key in a file (``key.pgp``)."""

    def __init__(self, directory: Path) -> None:
        self.key_path = directory / "key.pgp"
        self.key = openpgp.load(read_key_file(self.key_path), str(self.key_path))

    @property
    def uri(self) -> str:
        return self.key_path.parent.as_uri()

    @property
    def public(self) -> bytes:
        return self.key.certificate

    @property
    def key_file(self) -> Path | None:
        return self.key_path

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)


def read_key_file(path: Path) -> bytes:
    """The bytes of a key file.

    Raises:
        BedplateError: it cannot be read.
        BadInput: others can read or change it.
    """
    try:
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    except OSError as error:
        raise BedplateError(f"cannot read the key ({error.strerror})", where=str(path)) from error
    if mode & 0o077:
        raise BadInput(
            f"others may read this key (mode {mode:04o})",
            where=str(path),
            remedy=f"treat it as known to others and make a new one, or, if nobody could: chmod 600 {path}",
        )
    return data


def _open_file(uri: str, role: Role) -> Signer:
    directory = Path(unquote(urlsplit(uri).path))
    elsewhere = directory / "uri"
    if elsewhere.is_file():
        name = "cert.pgp" if role.form is Form.OPENPGP else "cert.pem"
        kind = DeviceOpenPgpSigner if role.form is Form.OPENPGP else DeviceSigner
        return kind(elsewhere.read_text().strip(), read_key_file(directory / name))
    return FileOpenPgpSigner(directory) if role.form is Form.OPENPGP else FileX509Signer(directory)


register("file", _open_file)
