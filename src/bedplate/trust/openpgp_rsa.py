"""OpenPGP certificates and detached signatures of RSA keys that lie in a device: the packets around its signatures.

Source: RFC 9580 sections 4.2, 5.2 (version 4 signatures), 5.5 (version 4 keys), 5.2.4 (what is hashed). As in
:mod:`bedplate.trust.openpgp` the signature time is the key's, so that the same data gives the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import rsa

from bedplate.model.errors import BadInput

Sign = Callable[[bytes], bytes]

_RSA = 1
_SHA256 = 8
_SIGNATURE, _PUBLIC_KEY, _USER_ID = 2, 6, 13
_BINARY, _POSITIVE = 0x00, 0x13
_CERTIFY_AND_SIGN = b"\x03"


def certificate(public: rsa.RSAPublicKey, user_id: str, created: int, sign: Sign) -> bytes:
    """A binary transferable public key with one user id, signed by itself.

    Args:
        created: Seconds since the epoch.
        sign: PKCS#1 v1.5 with SHA-256 over what it is given.
    """
    numbers = public.public_numbers()
    body = struct.pack(">BIB", 4, created, _RSA) + _number(numbers.n) + _number(numbers.e)
    name = user_id.encode()
    flags = bytes([2, 27]) + _CERTIFY_AND_SIGN
    covered = _key_prefix(body) + struct.pack(">BI", 0xB4, len(name)) + name
    binding = _signature(body, _POSITIVE, covered, flags, sign)
    return _packet(_PUBLIC_KEY, body) + _packet(_USER_ID, name) + binding


def detached(public: bytes, data: bytes, sign: Sign) -> bytes:
    """A binary detached signature over ``data`` by the primary key of a certificate made by :func:`certificate`."""
    return _signature(_key_body(public), _BINARY, data, b"", sign)


def _signature(key: bytes, kind: int, covered: bytes, further: bytes, sign: Sign) -> bytes:
    fingerprint = hashlib.sha1(_key_prefix(key), usedforsecurity=False).digest()
    hashed = (
        bytes([5, 2]) + key[1:5]
        + further
        + bytes([22, 33, 4]) + fingerprint
    )  # fmt: skip
    head = struct.pack(">BBBBH", 4, kind, _RSA, _SHA256, len(hashed)) + hashed
    message = covered + head + struct.pack(">BBI", 4, 0xFF, len(head))
    issuer = bytes([9, 16]) + fingerprint[-8:]
    body = (
        head
        + struct.pack(">H", len(issuer)) + issuer
        + hashlib.sha256(message).digest()[:2]
        + _number(int.from_bytes(sign(message), "big"))
    )  # fmt: skip
    return _packet(_SIGNATURE, body)


def _key_prefix(body: bytes) -> bytes:
    return struct.pack(">BH", 0x99, len(body)) + body


def _key_body(public: bytes) -> bytes:
    try:
        size, start = public[1], 2
        if size >= 192:
            size, start = ((size - 192) << 8) + public[2] + 192, 3
    except IndexError as error:
        raise BadInput("not an OpenPGP certificate of ours") from error
    body = public[start : start + size]
    if public[0] != 0xC0 | _PUBLIC_KEY or len(body) != size or body[5:6] != bytes([_RSA]):
        raise BadInput("not an OpenPGP certificate of ours")
    return body


def _number(value: int) -> bytes:
    return struct.pack(">H", value.bit_length()) + value.to_bytes((value.bit_length() + 7) // 8, "big")


def _packet(tag: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes([size]) if size < 192 else bytes([((size - 192) >> 8) + 192, (size - 192) & 0xFF])
    return bytes([0xC0 | tag]) + length + body
