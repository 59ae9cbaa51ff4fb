"""OpenPGP signatures of packages: over the main header, which holds the digest of the payload.

A header signature is the one rpm checks for every package it reads, and it can be checked without reading the payload.
Signing drops signatures that were there and adds one; everything else stays byte for byte, and so does the digest of
the unsigned form. Sources: rpm ``docs/manual/format_v4.md``, ``docs/manual/signatures_digests.md``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pysequoia

from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.packages.atomic import replacing
from bedplate.packages.rpm.container import COPY_SIZE, REMEDY, Container, open_container, padded
from bedplate.packages.rpm.header import Header, binary, encode_header
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.tags import SIGNATURE_TAGS, HashAlgorithm, SigTag, Tag

_RSA = (1, 3)
_ALGORITHM_OFFSET = 2


class Signer(Protocol):
    """Something that holds an OpenPGP key."""

    def sign(self, data: bytes) -> bytes:
        """A binary detached OpenPGP signature, version 4, of ``data``."""
        ...


@dataclass(frozen=True, slots=True)
class SignedRpm:
    """A package as signed: ``sha256`` and ``size`` in bytes of the signed file."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class VerifiedRpm:
    """A package whose signature and payload digest were checked. ``fingerprint`` is the signing certificate's, hex."""

    package: RpmPackage
    fingerprint: str


def sign_rpm(source: Path, out: Path, signer: Signer) -> SignedRpm:
    """Write the package ``source`` with a signature to ``out`` (which may be ``source``: it is replaced as a whole).

    Raises:
        BadInput: ``source`` is not a sound package: one whose payload lacks its digest is never signed.
        BedplateError: ``out`` cannot be written, or the signer gave something that is no signature.
    """
    container = open_container(source)
    where = source.name
    header = container.header
    signature = signer.sign(header.blob)
    entries = {tag: entry for tag, entry in container.signature.entries().items() if tag not in SIGNATURE_TAGS}
    entries[_signature_tag(signature, where)] = binary(signature)
    head = container.lead + padded(encode_header(entries, SigTag.REGION)) + header.blob
    digest = hashlib.sha256(head)
    with replacing(out) as stream:
        stream.write(head)

        def copy(block: bytes) -> None:
            digest.update(block)
            stream.write(block)

        _check_payload(container, where, copy)
    return SignedRpm(out, digest.hexdigest(), len(head) + container.size - container.payload_offset)


def sign_rpms(work: Iterable[tuple[Path, Path]], signer: Signer, workers: int = 4) -> list[SignedRpm]:
    """:func:`sign_rpm` for many ``(source, out)`` pairs at once, in their order. ``signer`` must bear several threads.

    Most of the time goes into waiting for the disk, so more ``workers`` than processors are of use.

    Raises:
        BedplateError: as :func:`sign_rpm`, for the first pair that fails; pairs done before are in place.
    """
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda pair: sign_rpm(pair[0], pair[1], signer), work))


def verify_rpm(path: Path, certificates: Sequence[bytes]) -> VerifiedRpm:
    """Check that ``path`` is signed by one of ``certificates`` and whole.

    Args:
        certificates: OpenPGP public keys, binary or armoured.

    Raises:
        TrustError: no signature, none by these keys, or one that does not hold.
        BadInput: not a sound package.
    """
    container = open_container(path)
    where = path.name
    signatures = _signatures(container.signature)
    if not signatures:
        raise TrustError("the package is not signed", where=where, remedy="take it from a signed repository")
    fingerprint = _verify_any(container.header.blob, signatures, certificates, where)
    if not container.header.texts(Tag.PAYLOAD_DIGEST):
        raise TrustError("the signature does not cover the payload", where=where, remedy="use a newer build of it")
    _check_payload(container, where, lambda block: None)
    return VerifiedRpm(RpmPackage(container), fingerprint)


def _signature_tag(signature: bytes, where: str) -> SigTag:
    """Where rpm looks for this signature: its tags go by the key's algorithm, RSA or any other."""
    try:
        parsed = pysequoia.Sig.from_bytes(signature)
        version = parsed.version
    except Exception as error:
        raise BedplateError(f"the signer gave no OpenPGP signature ({error})", where=where) from error
    if version != 4:
        raise BedplateError(f"the signer gave a version {version} signature; rpm 4 reads version 4", where=where)
    return SigTag.RSA_HEADER if _algorithm(signature) in _RSA else SigTag.DSA_HEADER


def _algorithm(packet: bytes) -> int:
    """Public-key algorithm of a version 4 signature packet (RFC 9580, 4.2 and 5.2.3)."""
    if packet[0] & 0x40:
        length = 2 if packet[1] < 192 else 3 if packet[1] < 224 else 6
    else:
        length = 1 + (1, 2, 4, 0)[packet[0] & 3]
    return packet[length + _ALGORITHM_OFFSET]


def _signatures(header: Header) -> list[bytes]:
    found = [header.data(tag) for tag in (SigTag.DSA_HEADER, SigTag.RSA_HEADER) if tag in header]
    try:
        found += [base64.b64decode(text, validate=True) for text in header.texts(SigTag.OPENPGP)]
    except ValueError as error:
        raise BadInput("a signature is damaged", remedy=REMEDY) from error
    return found


def _verify_any(data: bytes, signatures: Sequence[bytes], certificates: Sequence[bytes], where: str) -> str:
    try:
        keys = [pysequoia.Cert.from_bytes(certificate) for certificate in certificates]
    except Exception as error:
        raise BadInput(f"not an OpenPGP certificate ({error})", where=where) from error
    reasons = []
    for signature in signatures:
        try:
            result = pysequoia.verify(bytes=data, store=lambda ids: keys, signature=pysequoia.Sig.from_bytes(signature))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in the verifier, the signature is not valid
            # The first line is the reason; the library adds a stack trace of its own.
            reasons.append((str(error).splitlines() or [type(error).__name__])[0])
            continue
        if result.valid_sigs:
            return str(result.valid_sigs[0].certificate)
        reasons.append("no valid signature")
    raise TrustError(
        "not signed by a key that is trusted here, or changed after it was signed",
        where=where,
        remedy="get it again from its repository; if the repository has a new key, pin that key first",
        details=reasons,
    )


def _check_payload(container: Container, where: str, each: Callable[[bytes], None]) -> None:
    header = container.header
    digest = hashlib.sha256()
    with container.path.open("rb") as stream:
        stream.seek(container.payload_offset)
        while block := stream.read(COPY_SIZE):
            digest.update(block)
            each(block)
    known = header.texts(Tag.PAYLOAD_DIGEST)
    if not known or header.number(Tag.PAYLOAD_DIGEST_ALGORITHM, HashAlgorithm.SHA256) != HashAlgorithm.SHA256:
        raise BadInput("the header holds no SHA-256 digest of the payload", where=where, remedy=REMEDY)
    if digest.hexdigest() != known[0]:
        raise BadInput("the payload does not have the digest it must have", where=where, remedy=REMEDY)
