"""What a key is for. A new kind of signed thing is one more entry in :data:`ROLES` when its public key is part of an
image, else in :data:`STORE_ROLES`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.errors import BadInput


class Kind(StrEnum):
    """Whether what a key signs may be given to others."""

    DEVELOPMENT = "development"
    RELEASE = "release"


class Form(StrEnum):
    """How the key lies on disk and what can be made of it: an RSA key with a certificate, an Ed25519 key with a
    certificate, or an OpenPGP key."""

    X509 = "x509"
    ED25519 = "ed25519"
    OPENPGP = "openpgp"


@dataclass(frozen=True, slots=True)
class Role:
    """One use of keys. ``id`` names its directory, ``title`` goes into the certificate or user id."""

    id: str
    title: str
    form: Form


ROLES: tuple[Role, ...] = (
    Role("boot", "Secure Boot key", Form.X509),
    Role("pcr", "PCR policy key", Form.X509),
    Role("packages", "package key", Form.OPENPGP),
    Role("update", "update key", Form.OPENPGP),
)
# Keys of the release store's metadata (TUF). Nodes never see them.
STORE_ROLES: tuple[Role, ...] = (
    Role("root", "store root key", Form.ED25519),
    Role("release", "release key", Form.ED25519),
    Role("online", "store freshness key", Form.ED25519),
)
ALL_ROLES: tuple[Role, ...] = (*ROLES, *STORE_ROLES)


def role(name: str) -> Role:
    """The role called ``name``.

    Raises:
        BadInput: there is none; the error lists the roles.
    """
    for candidate in ALL_ROLES:
        if candidate.id == name:
            return candidate
    known = ", ".join(sorted(candidate.id for candidate in ALL_ROLES))
    raise BadInput(f"no key role {name!r}", remedy=f"name one of: {known}")
