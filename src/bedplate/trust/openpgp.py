"""OpenPGP Ed25519 keys and detached signatures that are the same bytes for the same key and data.

Signing libraries put the clock and a random salt into every signature, so a package signed twice differs. Here the
signature time is the key's creation time and nothing is random: Ed25519 itself is deterministic (RFC 8032).
Sources: RFC 9580 sections 4.2 (packets), 5.2 (version 4 signatures), 5.5 (keys); algorithm 22 is EdDSALegacy.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import pysequoia
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.model.errors import BadInput

_EDDSA = 22
_SHA512 = 10
_ED25519_OID = bytes.fromhex("092b06010401da470f01")
_SIGNATURE_TAG = 2
_BINARY_DOCUMENT = 0


@dataclass(frozen=True)
class OpenPgpKey:
    """A signing key with its public certificate.

    ``certificate`` is the binary transferable public key, ``fingerprint`` the primary key's in upper-case hex.
    """

    certificate: bytes
    fingerprint: str
    user_ids: tuple[str, ...]
    _seed: bytes
    _signing_fingerprint: bytes
    _created: int

    def sign(self, data: bytes) -> bytes:
        """A binary detached signature (one version 4 signature packet) over ``data``."""
        hashed = (
            _subpacket(2, struct.pack(">I", self._created))
            + _subpacket(33, b"\x04" + self._signing_fingerprint)
            + _subpacket(16, self._signing_fingerprint[-8:])
        )
        head = bytes([4, _BINARY_DOCUMENT, _EDDSA, _SHA512]) + struct.pack(">H", len(hashed)) + hashed
        digest = hashlib.sha512(data + head + b"\x04\xff" + struct.pack(">I", len(head))).digest()
        signature = Ed25519PrivateKey.from_private_bytes(self._seed).sign(digest)
        body = head + b"\x00\x00" + digest[:2] + _mpi(signature[:32]) + _mpi(signature[32:])
        return bytes([0xC0 | _SIGNATURE_TAG]) + _length(len(body)) + body


def generate(user_id: str) -> bytes:
    """A new secret key (binary transferable secret key, unprotected): Ed25519, version 4, without expiry."""
    return bytes(pysequoia.Tsk.generate(user_id=user_id, profile=pysequoia.Profile.RFC4880))


def load(secret: bytes, where: str) -> OpenPgpKey:
    """Read a secret key made by :func:`generate` (or any unprotected version 4 key with an Ed25519 signing key).

    Raises:
        BadInput: not such a key; ``where`` names its file.
    """
    try:
        tsk = pysequoia.Tsk.from_bytes(secret)
        packets = list(pysequoia.packet.PacketPile.from_bytes(secret))
    except Exception as error:
        raise BadInput(f"not an OpenPGP secret key ({error})", where=where) from error
    certificate = tsk.extract_certificate()
    users = tuple(str(user) for user in certificate.user_ids)
    signing = _signing_packet(packets)
    if signing is None:
        raise BadInput(
            "no unprotected Ed25519 key that may sign", where=where, remedy="make one: bedplate keys create packages"
        )
    body, fingerprint = signing
    return OpenPgpKey(
        certificate=bytes(certificate),
        fingerprint=certificate.fingerprint.upper(),
        user_ids=users,
        _seed=_seed(body, where),
        _signing_fingerprint=bytes.fromhex(fingerprint),
        _created=int.from_bytes(body[1:5], "big"),
    )


def describe(certificate: bytes, where: str) -> tuple[str, tuple[str, ...]]:
    """Fingerprint (upper-case hex) and user ids of a public certificate.

    Raises:
        BadInput: not an OpenPGP certificate.
    """
    try:
        found = pysequoia.Cert.from_bytes(certificate)
        users = tuple(str(user) for user in found.user_ids)
    except (RuntimeError, ValueError) as error:
        raise BadInput("not an OpenPGP certificate that its own key signed", where=where) from error
    return found.fingerprint.upper(), users


def _signing_packet(packets: list[pysequoia.packet.Packet]) -> tuple[bytes, str] | None:
    # A key packet is followed by the signatures that bind it; their key flags say what it may do. A subkey made for
    # signing is preferred to a primary key that may do everything.
    found: tuple[bytes, str] | None = None
    key: tuple[bytes, str] | None = None
    for packet in packets:
        if packet.tag in (pysequoia.packet.Tag.SecretKey, pysequoia.packet.Tag.SecretSubkey):
            body, fingerprint = bytes(packet.body), packet.fingerprint
            key = (body, fingerprint) if fingerprint and body[5:6] == bytes([_EDDSA]) else None
        elif packet.tag == pysequoia.packet.Tag.Signature and key is not None:
            flags = packet.key_flags
            if flags is not None and "signing" in str(flags):
                found = key
    return found


def _seed(body: bytes, where: str) -> bytes:
    after_oid = 6 + len(_ED25519_OID)
    bits = int.from_bytes(body[after_oid : after_oid + 2], "big")
    secret = after_oid + 2 + (bits + 7) // 8
    if body[6:after_oid] != _ED25519_OID or body[secret : secret + 1] != b"\x00":
        raise BadInput("the key is not an unprotected Ed25519 key", where=where)
    bits = int.from_bytes(body[secret + 1 : secret + 3], "big")
    return body[secret + 3 : secret + 3 + (bits + 7) // 8].rjust(32, b"\x00")


def _subpacket(kind: int, data: bytes) -> bytes:
    return bytes([len(data) + 1, kind]) + data


def _mpi(data: bytes) -> bytes:
    number = int.from_bytes(data, "big")
    return struct.pack(">H", number.bit_length()) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _length(size: int) -> bytes:
    return bytes([size]) if size < 192 else bytes([((size - 192) >> 8) + 192, (size - 192) & 0xFF])
