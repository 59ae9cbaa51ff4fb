"""Whose TPM it is: an endorsement key's certificate up to a root the operator trusts. Pure.

Sources: TCG EK Credential Profile for TPM 2.0 (the certificate's shape, the key purpose 2.23.133.8.1), RFC 5280 for the
path. Revocation is not looked at: makers publish it, if at all, at addresses of the certificate's own choosing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier

from bedplate.model.errors import BadInput, TrustError
from bedplate.serve.tpm import PublicArea

_T = TypeVar("_T", bound=x509.ExtensionType)
MAX_CHAIN = 4
_EK = ObjectIdentifier("2.23.133.8.1")
# Critical extensions whose meaning is looked at here, or says nothing about the path.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


def read_roots(path: Path) -> tuple[x509.Certificate, ...]:
    """The roots of a PEM file, one behind the other.

    Raises:
        BadInput: it cannot be read, or holds none.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise BadInput(f"no certificates in PEM form: {error}", where=str(path)) from error


def check_endorsement(
    key: PublicArea,
    certificate: bytes,
    chain: Sequence[bytes],
    roots: Sequence[x509.Certificate],
    now: float,
) -> str:
    """Who vouches for an endorsement key: the subject of the root its certificate leads to.

    Args:
        certificate: The key's certificate (DER), as the TPM or its maker has it; ``chain`` those between it and a root.
        now: Seconds since the epoch.

    Raises:
        TrustError: there is no certificate, it is of another key, or it leads to none of the roots.
    """
    if not certificate:
        raise TrustError(
            "this service wants the endorsement key's certificate",
            remedy="send it as ek_certificate: tpm2_getekcertificate, or index 0x1c00002 of the TPM",
        )
    if len(chain) > MAX_CHAIN:
        raise TrustError(f"more than {MAX_CHAIN} certificates between the key's and a root")
    leaf, between = _load(certificate), [_load(one) for one in chain]
    if _public(leaf) != key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise TrustError("the certificate is of another key than the endorsement key")
    moment = datetime.fromtimestamp(now, UTC)
    _check_leaf(leaf)
    _check_each(leaf, moment)
    return _climb(leaf, between, roots, moment)


def _climb(
    leaf: x509.Certificate, between: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], moment: datetime
) -> str:
    """The subject of the root that the path ends at. Each certificate may stand in it once."""
    below, left = leaf, list(between)
    for depth in range(len(between) + 1):
        root = next((one for one in roots if _issued(below, one)), None)
        if root is not None:
            _check_issuer(root, depth, moment)
            return root.subject.rfc4514_string()
        issuer = next((one for one in left if _issued(below, one)), None)
        if issuer is None:
            break
        _check_issuer(issuer, depth, moment)
        left.remove(issuer)
        below = issuer
    raise TrustError("the endorsement key's certificate leads to none of the roots this service trusts")


def _issued(below: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_leaf(leaf: x509.Certificate) -> None:
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise TrustError("the endorsement key's certificate is one of an authority")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and _EK not in purposes:
        raise TrustError("the certificate is not for an endorsement key")


def _check_issuer(issuer: x509.Certificate, depth: int, moment: datetime) -> None:
    """``depth``: how many authorities stand below it in the path."""
    _check_each(issuer, moment)
    constraints = _extension(issuer, x509.BasicConstraints)
    usage = _extension(issuer, x509.KeyUsage)
    may = constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)
    if not may or (constraints is not None and constraints.path_length is not None and constraints.path_length < depth):
        raise TrustError(f"{issuer.subject.rfc4514_string()[:100]} may not vouch for this certificate")


def _check_each(certificate: x509.Certificate, moment: datetime) -> None:
    name = certificate.subject.rfc4514_string()[:100] or "the endorsement key's certificate"
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise TrustError(f"{name} is not valid now")
    try:
        unknown = [one.oid for one in certificate.extensions if one.critical and one.oid not in _UNDERSTOOD]
    except ValueError as error:
        raise TrustError(f"{name} has extensions that cannot be read") from error
    if unknown:
        raise TrustError(f"{name} has a critical extension that is not understood: {unknown[0].dotted_string}")


def _extension(certificate: x509.Certificate, kind: type[_T]) -> _T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise TrustError("a certificate has extensions that cannot be read") from error


def _load(data: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise TrustError("a certificate that is none (DER is wanted)") from error


def _public(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError) as error:
        raise TrustError("a certificate with a key that cannot be read") from error
