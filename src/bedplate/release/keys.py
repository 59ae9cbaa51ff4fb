"""Keys of the store's metadata as securesystemslib and python-tuf know them, made from the certificates that carry a
key's role and kind."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from securesystemslib.signer import Key, Signature, Signer, SSlibKey

from bedplate.model.errors import BadInput

# The TUF specification lets keys carry further fields.
CERTIFICATE = "x-bedplate-certificate"


def key_of(certificate: bytes, where: str = "certificate") -> SSlibKey:
    """The public key in a PEM certificate. Its id is the certificate's SHA-256 fingerprint, so that a certificate with
    another mark is another key.

    Raises:
        BadInput: not a certificate, or of a kind that cannot sign here.
    """
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        public = parsed.public_key()
    except ValueError as error:
        raise BadInput("not a certificate", where=where) from error
    keyid = parsed.fingerprint(hashes.SHA256()).hex()
    if isinstance(public, ed25519.Ed25519PublicKey):
        scheme = "ed25519"
    elif isinstance(public, rsa.RSAPublicKey):
        scheme = "rsa-pkcs1v15-sha256"
    elif isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        scheme = "ecdsa-sha2-nistp256"
    else:
        raise BadInput("a release key is Ed25519, RSA or ECDSA over P-256", where=where)
    key = SSlibKey.from_crypto(public, keyid, scheme)
    key.unrecognized_fields[CERTIFICATE] = certificate.decode()
    return key


def certificate_of(key: Key) -> bytes:
    """The certificate a key was made from, PEM; empty when it does not hold the one that its id names."""
    text = str(key.unrecognized_fields.get(CERTIFICATE, ""))
    try:
        same = text and x509.load_pem_x509_certificate(text.encode()).fingerprint(hashes.SHA256()).hex() == key.keyid
    except ValueError:
        return b""
    return text.encode() if same else b""


class StoreSigner(Signer):
    """Signs metadata and manifests with whatever makes raw signatures for a certificate's key: a file, a token, a
    service. RSA: PKCS#1 v1.5 with SHA-256; ECDSA: DER, SHA-256."""

    def __init__(self, certificate: bytes, sign: Callable[[bytes], bytes]) -> None:
        self.certificate = certificate
        self._key = key_of(certificate)
        self._sign = sign

    @property
    def public_key(self) -> Key:
        return self._key

    def sign(self, payload: bytes) -> Signature:
        return Signature(self._key.keyid, self._sign(payload).hex())

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: object = None) -> StoreSigner:
        """Not used: signers are opened by role and URI in ``bedplate.trust``."""
        raise NotImplementedError
