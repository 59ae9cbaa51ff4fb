"""Secure Boot signatures by keys that no program can read: Authenticode put together around a device's signature.

Sources: Microsoft's Authenticode PE specification; RFC 2315 (PKCS#7). There is no signing time in it, so the same key
and program give the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bedplate.model.errors import BadInput
from bedplate.model.pe import parse_pe

_SET, _SEQUENCE, _OCTETS, _NULL, _INTEGER, _OID, _BITS = 0x31, 0x30, 0x04, 0x05, 0x02, 0x06, 0x03
_EXPLICIT_0, _EXPLICIT_2, _IMPLICIT_0 = 0xA0, 0xA2, 0x80
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_RSA = "1.2.840.113549.1.1.1"
_REVISION, _PKCS_SIGNED_DATA = 0x0200, 2
_OBSOLETE = "<<<Obsolete>>>"


def sign_efi(program: bytes, certificate: bytes, sign: Callable[[bytes], bytes], where: str) -> bytes:
    """An unsigned EFI program with a signature attached.

    Args:
        certificate: PEM, of an RSA key.
        sign: PKCS#1 v1.5 with SHA-256 by that key.

    Raises:
        BadInput: not an EFI program, signed already, or not an RSA key.
    """
    parsed = parse_pe(program, where)
    if parsed.table_size:
        raise BadInput("the program is signed already", where=where)
    owner = x509.load_pem_x509_certificate(certificate)
    if not isinstance(owner.public_key(), rsa.RSAPublicKey):
        raise BadInput("firmware takes RSA keys only", where=where)
    body = bytearray(program) + bytes(-len(program) % 8)
    blob = _signed_data(parse_pe(bytes(body), where).authenticode_digest(), owner, sign)
    size = 8 + len(blob)
    padded = size + -size % 8
    struct.pack_into("<II", body, parsed.directory_offset, len(body), padded)
    whole = bytes(body) + struct.pack("<IHH", padded, _REVISION, _PKCS_SIGNED_DATA) + blob + bytes(padded - size)
    return _with_checksum(whole, parsed.checksum_offset)


def _signed_data(digest: bytes, owner: x509.Certificate, sign: Callable[[bytes], bytes]) -> bytes:
    algorithm = _tlv(_SEQUENCE, _oid(_SHA256), _tlv(_NULL))
    file = _tlv(_EXPLICIT_0, _tlv(_EXPLICIT_2, _tlv(_IMPLICIT_0, _OBSOLETE.encode("utf-16-be"))))
    image = _tlv(_SEQUENCE, _oid(_PE_IMAGE_DATA), _tlv(_SEQUENCE, _tlv(_BITS, b"\0"), file))
    content = image + _tlv(_SEQUENCE, algorithm, _tlv(_OCTETS, digest))
    attributes = b"".join(
        sorted(
            [
                _attribute(_CONTENT_TYPE, _oid(_INDIRECT_DATA)),
                _attribute(_MESSAGE_DIGEST, _tlv(_OCTETS, hashlib.sha256(content).digest())),
            ]
        )
    )
    signer = _tlv(
        _SEQUENCE,
        _integer(1),
        _tlv(_SEQUENCE, owner.issuer.public_bytes(), _integer(owner.serial_number)),
        algorithm,
        _tlv(_EXPLICIT_0, attributes),
        _tlv(_SEQUENCE, _oid(_RSA), _tlv(_NULL)),
        # What is signed carries the tag of a SET, not the one it is stored under (RFC 2315 section 9.3).
        _tlv(_OCTETS, sign(_tlv(_SET, attributes))),
    )
    data = _tlv(
        _SEQUENCE,
        _integer(1),
        _tlv(_SET, algorithm),
        _tlv(_SEQUENCE, _oid(_INDIRECT_DATA), _tlv(_EXPLICIT_0, _tlv(_SEQUENCE, content))),
        _tlv(_EXPLICIT_0, owner.public_bytes(serialization.Encoding.DER)),
        _tlv(_SET, signer),
    )
    return _tlv(_SEQUENCE, _oid(_SIGNED_DATA), _tlv(_EXPLICIT_0, data))


def _attribute(name: str, value: bytes) -> bytes:
    return _tlv(_SEQUENCE, _oid(name), _tlv(_SET, value))


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _integer(value: int) -> bytes:
    return _tlv(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(number) for number in dotted.split("."))
    encoded = bytearray([40 * first + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return _tlv(_OID, bytes(encoded))


def _with_checksum(program: bytes, offset: int) -> bytes:
    """The program with the checksum of its optional header: 16-bit words added with carry, then the size."""
    clear = program[:offset] + bytes(4) + program[offset + 4 :]
    total = sum(memoryview(clear + bytes(len(clear) % 2)).cast("H"))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return clear[:offset] + struct.pack("<I", total + len(clear)) + clear[offset + 4 :]
