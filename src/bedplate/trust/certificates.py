"""X.509 certificates that say what a key is for and of which kind it is: self-signed; RSA-2048 for firmware and PCR
policies, Ed25519 for the release store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bedplate.model.errors import TrustError
from bedplate.trust.marks import DEVELOPMENT_TEXT, KIND_EXTENSION, RELEASE_TEXT, kind_value
from bedplate.trust.roles import Form, Kind, Role

# The firmware does not look at the validity of a certificate in db; other readers do.
_VALID = timedelta(days=3650)


PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def generate(role: Role, kind: Kind, distribution: str, now: datetime | None = None) -> tuple[bytes, bytes]:
    """A new key of the role's form and a self-signed certificate for it, both PEM.

    Returns:
        The private key (PKCS#8, unencrypted) and the certificate.
    """
    key: PrivateKey
    if role.form is Form.ED25519:
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certify(key, role, kind, distribution, now)


def certify(key: PrivateKey, role: Role, kind: Kind, distribution: str, now: datetime | None = None) -> bytes:
    """A self-signed code-signing certificate (PEM) for a key, which may be a stand-in for one in a device."""
    start = (now or datetime.now(UTC)).replace(microsecond=0)
    mark = DEVELOPMENT_TEXT if kind is Kind.DEVELOPMENT else RELEASE_TEXT
    # A common name holds 64 characters at most (RFC 5280 appendix A.1); what is cut is never the mark.
    suffix = f" ({mark})"
    common = f"{distribution} {role.title}"[: 64 - len(suffix)] + suffix
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, mark),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.UnrecognizedExtension(KIND_EXTENSION, kind_value(kind)), critical=False)
    )
    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def require_self_signed(certificate: bytes, where: str) -> None:
    """Refuse a certificate (PEM) whose signature is not by its own key: a device that signs something else than it was
    given, or with another key than it showed.

    Raises:
        TrustError: the signature does not fit.
    """
    parsed = x509.load_pem_x509_certificate(certificate)
    try:
        parsed.verify_directly_issued_by(parsed)
    except (InvalidSignature, ValueError) as error:
        raise TrustError("what this key signs does not fit its public key; it was not added", where=where) from error


def public_pem(certificate: bytes) -> bytes:
    """The public key of a PEM certificate as a PEM SubjectPublicKeyInfo."""
    return (
        x509.load_pem_x509_certificate(certificate)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
