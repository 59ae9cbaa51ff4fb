"""What a service needs to know of TPM 2.0: public areas, names, making a credential, checking a quote. Pure.

Sources: TCG TPM 2.0 Library, Part 1 (Names, Credential Protection, Secret Sharing, Key Derivation Function) and Part 2
(TPMT_PUBLIC, TPMS_ATTEST, TPMT_SIGNATURE). RSA endorsement keys of the default template (TCG EK Credential Profile,
template L-1); attestation keys RSA or ECC P-256.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256

from bedplate.model.errors import TrustError

_RSA, _ECC, _SHA256, _NULL = 0x0001, 0x0023, 0x000B, 0x0010
_RSASSA, _ECDSA, _ECDAA, _P256 = 0x0014, 0x0018, 0x001A, 0x0003
_GENERATED, _QUOTE = 0xFF544347, 0x8018
_FIXED_TPM, _FIXED_PARENT, _ORIGIN, _RESTRICTED, _DECRYPT, _SIGN = 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 17, 1 << 18
_ATTESTATION = _FIXED_TPM | _FIXED_PARENT | _ORIGIN | _RESTRICTED | _SIGN
_ENDORSEMENT = _FIXED_TPM | _FIXED_PARENT | _ORIGIN | _RESTRICTED | _DECRYPT
_MAX_KEY_BITS = 4096


@dataclass(frozen=True, slots=True)
class PublicArea:
    """A key of a TPM: its name (algorithm and digest of the public area), attributes and the key."""

    name: bytes
    attributes: int
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Quote:
    """What a TPM signed: the nonce it was given and the digest over the PCRs it was asked for."""

    nonce: bytes
    pcr_digest: bytes


class _Reader:
    """Big-endian fields out of a structure; running over its end is a :class:`TrustError`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise TrustError("a TPM structure is cut short")
        found = self.data[self.at : self.at + count]
        self.at += count
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        return self.take(self.number(2))

    def end(self) -> None:
        if self.at != len(self.data):
            raise TrustError("a TPM structure is longer than it says")


def read_attestation_key(public: bytes) -> PublicArea:
    """An attestation key from its TPM2B_PUBLIC.

    Raises:
        TrustError: not a public area, or not of a key that was made in a TPM, stays there and signs only its words.
    """
    return _require(_read_public(public), _ATTESTATION, "attestation")


def read_endorsement_key(public: bytes) -> PublicArea:
    """An RSA endorsement key from its TPM2B_PUBLIC.

    Raises:
        TrustError: not a public area, or not of a restricted decryption key that stays in its TPM.
    """
    found = _require(_read_public(public), _ENDORSEMENT, "endorsement")
    if not isinstance(found.key, rsa.RSAPublicKey):
        raise TrustError("only RSA endorsement keys are understood", remedy="use the default template L-1 (RSA 2048)")
    return found


def _require(found: PublicArea, attributes: int, what: str) -> PublicArea:
    if found.attributes & attributes != attributes:
        raise TrustError(f"this is not the kind of key a TPM uses for {what}")
    return found


def _read_public(public: bytes) -> PublicArea:
    outer = _Reader(public)
    area = outer.sized()
    outer.end()
    reader = _Reader(area)
    kind, name_algorithm, attributes = reader.number(2), reader.number(2), reader.number(4)
    if name_algorithm != _SHA256:
        raise TrustError("only keys named with SHA-256 are understood")
    reader.sized()
    key = _read_rsa(reader) if kind == _RSA else _read_ecc(reader) if kind == _ECC else None
    if key is None:
        raise TrustError("only RSA and ECC keys are understood")
    reader.end()
    return PublicArea(_SHA256.to_bytes(2, "big") + hashlib.sha256(area).digest(), attributes, key)


def _skip_symmetric(reader: _Reader) -> None:
    if reader.number(2) != _NULL:
        reader.take(4)


def _skip_scheme(reader: _Reader) -> None:
    scheme = reader.number(2)
    if scheme != _NULL:
        reader.take(4 if scheme == _ECDAA else 2)


def _read_rsa(reader: _Reader) -> rsa.RSAPublicKey:
    _skip_symmetric(reader)
    _skip_scheme(reader)
    bits, exponent, modulus = reader.number(2), reader.number(4), reader.sized()
    if not 2048 <= bits <= _MAX_KEY_BITS or len(modulus) * 8 != bits:
        raise TrustError("an RSA key of an odd size")
    try:
        return rsa.RSAPublicNumbers(exponent or 65537, int.from_bytes(modulus, "big")).public_key()
    except ValueError as error:
        raise TrustError("an RSA key that is none") from error


def _read_ecc(reader: _Reader) -> ec.EllipticCurvePublicKey:
    _skip_symmetric(reader)
    _skip_scheme(reader)
    curve = reader.number(2)
    _skip_scheme(reader)
    x, y = reader.sized(), reader.sized()
    if curve != _P256:
        raise TrustError("only the curve P-256 is understood")
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        return numbers.public_key()
    except ValueError as error:
        raise TrustError("a point that is not on its curve") from error


def make_credential(endorsement: PublicArea, name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Wrap ``secret`` (at most 32 bytes) so that only the TPM of ``endorsement`` can open it, and only while it holds
    the key ``name``: TPM2_MakeCredential. Returns TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
    """
    assert isinstance(endorsement.key, rsa.RSAPublicKey)
    seed = secrets.token_bytes(32)
    wrapped = endorsement.key.encrypt(seed, padding.OAEP(padding.MGF1(SHA256()), SHA256(), b"IDENTITY\x00"))
    cipher = Cipher(algorithms.AES128(_kdfa(seed, b"STORAGE", name, 128)), CFB(b"\x00" * 16)).encryptor()
    inner = cipher.update(_sized(secret)) + cipher.finalize()
    outer = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 256), inner + name, "sha256")
    return _sized(_sized(outer) + inner), _sized(wrapped)


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    # One round of HMAC-SHA256 is enough for all that is asked of it here.
    content = (1).to_bytes(4, "big") + label + b"\x00" + context + bits.to_bytes(4, "big")
    return hmac.digest(key, content, "sha256")[: bits // 8]


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def check_quote(key: PublicArea, attest: bytes, signature: bytes) -> Quote:
    """What the TPM says in a quote, once its signature was found good.

    Args:
        key: The attestation key.
        attest: TPMS_ATTEST; ``signature`` TPMT_SIGNATURE over it, with SHA-256.

    Raises:
        TrustError: the signature is not good, or what it signs is no quote.
    """
    try:
        _check_signature(key.key, attest, signature)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm) as error:
        raise TrustError("the quote is not signed by this attestation key") from error
    reader = _Reader(attest)
    if reader.number(4) != _GENERATED or reader.number(2) != _QUOTE:
        raise TrustError("this is not a quote made in a TPM")
    reader.sized()
    nonce = reader.sized()
    # Clock (8), resets and restarts (4 and 4), whether they are safe (1), firmware version (8).
    reader.take(25)
    for _ in range(min(reader.number(4), 16)):
        reader.take(2)
        reader.take(reader.number(1))
    digest = reader.sized()
    reader.end()
    return Quote(nonce, digest)


def _check_signature(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, attest: bytes, signature: bytes) -> None:
    reader = _Reader(signature)
    algorithm, digest = reader.number(2), reader.number(2)
    if digest != _SHA256:
        raise TrustError("only quotes over SHA-256 are understood")
    if isinstance(key, rsa.RSAPublicKey) and algorithm == _RSASSA:
        key.verify(reader.sized(), attest, padding.PKCS1v15(), SHA256())
    elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == _ECDSA:
        r, s = reader.sized(), reader.sized()
        pair = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        key.verify(pair, attest, ec.ECDSA(SHA256()))
    else:
        raise TrustError("a signature of a kind that does not belong to the key")
    reader.end()
