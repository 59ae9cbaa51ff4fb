"""Authenticode: who signed an EFI program, and whether the signature holds.

Sources: Microsoft's Authenticode PE specification; RFC 2315 (PKCS#7); UEFI specification 2.10 section 32.5. Only RSA
with SHA-256 is accepted, which is what firmware accepts for new signatures.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bedplate.model.digest import sha256
from bedplate.model.errors import TrustError
from bedplate.model.pe import PeFile, parse_pe
from bedplate.trust import der
from bedplate.trust.marks import is_development

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_PKCS_SIGNED_DATA = 2
_MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an EFI program.

    ``problem`` is empty when the signature is good for these bytes and the key in the enclosed certificate. What that
    certificate says of itself (``subject``, ``development``) counts only once it is a known one:
    :func:`require_signature`. ``certificate`` is PEM, empty when it could not be read.
    """

    subject: str
    fingerprint: str
    development: bool
    certificate: bytes
    problem: str

    @property
    def valid(self) -> bool:
        """Whether the bytes are those that were signed."""
        return not self.problem


def signatures(program: PeFile) -> list[Signature]:
    """All signatures of a program, in the order of its table; empty when it is not signed."""
    found: list[Signature] = []
    table = program.data[program.table_offset : program.table_offset + program.table_size]
    while table and len(found) < _MAX_SIGNATURES:
        size, kind = struct.unpack_from("<I2xH", table) if len(table) >= 8 else (0, 0)
        if not 8 <= size <= len(table):
            found.append(_bad("the signature table is damaged"))
            break
        found.append(_read(table[8:size], program) if kind == _PKCS_SIGNED_DATA else _bad("of an unknown kind"))
        table = table[size + -size % 8 :]
    return found


def require_signature(data: bytes, certificates: Sequence[bytes], where: str) -> Signature:
    """The valid signature of ``data`` by one of ``certificates`` (PEM).

    Raises:
        BadInput: not an EFI program.
        TrustError: unsigned, changed after it was signed, or signed by someone else only.
    """
    known = {x509.load_pem_x509_certificate(one).fingerprint(hashes.SHA256()).hex() for one in certificates}
    found = signatures(parse_pe(data, where))
    for signature in found:
        if signature.valid and signature.fingerprint in known:
            return signature
    if not found:
        raise TrustError("the program is not signed", where=where)
    problems = [one.problem or f"signed by {one.subject} ({one.fingerprint[:16]})" for one in found]
    raise TrustError(
        "no signature by a known key",
        where=where,
        details=problems,
        remedy="compare with: bedplate keys list; anything signed by another key must not be used",
    )


def unsigned_bytes(data: bytes, where: str = "EFI program") -> bytes:
    """A program as if never signed, see :meth:`bedplate.model.pe.PeFile.unsigned`.

    Raises:
        BadInput: not an EFI program.
    """
    return parse_pe(data, where).unsigned()


def _bad(problem: str) -> Signature:
    return Signature("", "", False, b"", problem)


def _read(blob: bytes, program: PeFile) -> Signature:
    try:
        parts = _SignedData.parse(blob)
        certificate = parts.signer_certificate()
        return Signature(
            subject=certificate.subject.rfc4514_string(),
            fingerprint=sha256(certificate.public_bytes(serialization.Encoding.DER)),
            development=is_development(certificate),
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            problem=parts.check(certificate, program.authenticode_digest()),
        )
    except (der.DerError, ValueError, TypeError, IndexError, UnsupportedAlgorithm) as error:
        return _bad(f"the signature is damaged ({error})")


@dataclass(frozen=True, slots=True)
class _SignedData:
    """The parts of a PKCS#7 SignedData with one signer."""

    content_type: str
    content: der.Element
    certificates: tuple[der.Element, ...]
    issuer: bytes
    serial: int
    digest_algorithm: str
    attributes: der.Element
    signature: bytes

    @classmethod
    def parse(cls, blob: bytes) -> _SignedData:
        outer = der.read(blob)[0].expect(der.SEQUENCE).children()
        if der.object_identifier(outer[0]) != _SIGNED_DATA:
            raise der.DerError("not PKCS#7 signed data")
        fields = outer[1].expect(der.CONTEXT_0).children()[0].expect(der.SEQUENCE).children()
        info = fields[2].expect(der.SEQUENCE).children()
        certificates = fields[3].expect(der.CONTEXT_0).children()
        signers = fields[-1].expect(der.SET).children()
        if len(signers) != 1:
            raise der.DerError(f"{len(signers)} signers")
        signer = signers[0].expect(der.SEQUENCE).children()
        issuer, serial = signer[1].expect(der.SEQUENCE).children()
        return cls(
            content_type=der.object_identifier(info[0]),
            content=info[1].expect(der.CONTEXT_0).children()[0].expect(der.SEQUENCE),
            certificates=tuple(certificates),
            issuer=issuer.encoding,
            serial=int.from_bytes(serial.expect(der.INTEGER).content, "big", signed=True),
            digest_algorithm=der.object_identifier(signer[2].children()[0]),
            attributes=signer[3].expect(der.CONTEXT_0),
            signature=signer[5].expect(der.OCTET_STRING).content,
        )

    def signer_certificate(self) -> x509.Certificate:
        for element in self.certificates:
            certificate = x509.load_der_x509_certificate(element.encoding)
            if certificate.serial_number == self.serial and certificate.issuer.public_bytes() == self.issuer:
                return certificate
        raise der.DerError("the signer's certificate is not enclosed")

    def check(self, certificate: x509.Certificate, digest: bytes) -> str:
        """Empty when everything holds, else what does not."""
        if self.content_type != _SPC_INDIRECT_DATA or self.digest_algorithm != _SHA256:
            return "not an Authenticode signature with SHA-256"
        attributes = self._attributes()
        # Each link of the chain: program -> digest in the content -> digest in the attributes -> signature.
        algorithm, value = self.content.children()[1].expect(der.SEQUENCE).children()
        if der.object_identifier(algorithm.children()[0]) != _SHA256:
            return "the digest of the program is not SHA-256"
        if value.expect(der.OCTET_STRING).content != digest:
            return "the program was changed after it was signed"
        if der.object_identifier(attributes[_CONTENT_TYPE]) != _SPC_INDIRECT_DATA:
            return "the signature is for another kind of content"
        if attributes[_MESSAGE_DIGEST].expect(der.OCTET_STRING).content != bytes.fromhex(sha256(self.content.content)):
            return "the signed digest is not that of the content"
        if certificate.issuer == certificate.subject:
            # Otherwise the enclosed certificate could be edited, its marks taken out, and still name the same key.
            try:
                certificate.verify_directly_issued_by(certificate)
            except InvalidSignature:
                return "the signer's certificate was changed"
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            return "not an RSA key"
        # The signature is over the attributes encoded as a SET, not with the tag they are stored under.
        signed = bytes([der.SET]) + self.attributes.encoding[1:]
        try:
            key.verify(self.signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return "the signature does not match the signer's key"
        return ""

    def _attributes(self) -> dict[str, der.Element]:
        found: dict[str, der.Element] = {}
        for attribute in self.attributes.children():
            name, values = attribute.expect(der.SEQUENCE).children()
            entries = values.expect(der.SET).children()
            if len(entries) == 1 and der.object_identifier(name) not in found:
                found[der.object_identifier(name)] = entries[0]
        if _CONTENT_TYPE not in found or _MESSAGE_DIGEST not in found:
            raise der.DerError("an attribute is missing")
        return found
