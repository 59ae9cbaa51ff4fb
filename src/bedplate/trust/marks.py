"""The mark inside a key that keeps development signatures apart from releases.

The mark is part of what is signed into the key itself (certificate subject and extension, OpenPGP user id), so copying
or renaming files cannot remove it.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from bedplate.trust.roles import Kind

DEVELOPMENT_TEXT = "DEVELOPMENT - not for release"
DEVELOPMENT_WORD = "DEVELOPMENT"
RELEASE_TEXT = "release"

# An arc below 2.25 is a UUID in decimal (ITU-T X.667): it needs no registration and cannot collide.
KIND_EXTENSION = x509.ObjectIdentifier("2.25.298446213077361512040163847022918536711")


def is_development(certificate: x509.Certificate) -> bool:
    """Whether an X.509 certificate carries any of the development marks.

    One mark is enough, and a damaged kind extension counts as one: doubt never makes a release.
    """
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME):
        for attribute in certificate.subject.get_attributes_for_oid(oid):
            if DEVELOPMENT_WORD in str(attribute.value).upper():
                return True
    try:
        extension = certificate.extensions.get_extension_for_oid(KIND_EXTENSION).value
    except x509.ExtensionNotFound:
        return False
    except ValueError:
        return True
    return not (isinstance(extension, x509.UnrecognizedExtension) and extension.value == kind_value(Kind.RELEASE))


def is_development_user_id(user_id: str) -> bool:
    """Whether an OpenPGP user id carries the development mark."""
    return DEVELOPMENT_WORD in user_id.upper()


def kind_value(kind: Kind) -> bytes:
    """The kind as a DER UTF8String: the value of :data:`KIND_EXTENSION`."""
    text = kind.value.encode()
    return bytes([0x0C, len(text)]) + text
