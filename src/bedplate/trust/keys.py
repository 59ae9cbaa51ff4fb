"""The key store: a directory of keys by role, private to its owner, made on first use as development keys.

Layout: ``<role>/<id>/`` holds ``key.pem`` and ``cert.pem`` (and ``public.pem``), or ``key.pgp`` and ``cert.pgp``; for a
key that lies elsewhere a file ``uri`` stands in the place of the private key;
``<role>/active`` names the key in use, ``<role>/next`` the one that will follow it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bedplate.model.digest import identity, sha256
from bedplate.model.errors import BadInput, BedplateError
from bedplate.trust import certificates, openpgp, openpgp_rsa
from bedplate.trust.devices import StandInEcKey, StandInKey, open_device, require_rsa
from bedplate.trust.marks import DEVELOPMENT_TEXT, is_development, is_development_user_id
from bedplate.trust.roles import ALL_ROLES, ROLES, Form, Kind, Role, role
from bedplate.trust.signers import Signer, open_signer

_ACTIVE, _NEXT = "active", "next"


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key, without its private part.

    ``id`` is role and the start of the fingerprint; ``fingerprint`` is hex (X.509: SHA-256 of the certificate;
    OpenPGP: of the primary key); ``subject`` the certificate's subject or the user id; ``kind`` is read from the key
    material, never from a file name. ``next`` says that images trust this key already, because it will be in use.
    """

    id: str
    role: str
    kind: Kind
    fingerprint: str
    subject: str
    directory: Path
    active: bool
    next: bool = False


class KeyStore:
    """Keys below ``directory``, which is made with mode 0700 when it is not there.

    Args:
        directory: Where the keys lie.
        distribution: Name that goes into new keys.

    Raises:
        BadInput: the directory belongs to someone else or is open to others.
    """

    def __init__(self, directory: Path, distribution: str = "Bedplate") -> None:
        self.directory = directory
        self.distribution = distribution
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_private(directory)

    def create(self, role_name: str, kind: Kind = Kind.DEVELOPMENT) -> KeyInfo:
        """Make a new key for a role and put it in use.

        Raises:
            BadInput: there is no such role.
        """
        wanted = role(role_name)
        with self._lock():
            return self._create(wanted, kind)

    def add(self, role_name: str, uri: str, kind: Kind) -> KeyInfo:
        """Take a key that lies in a device or a service: it signs its own certificate, and is put in use.

        Args:
            uri: ``pkcs11:``, ``awskms:``, ``gcpkms:`` or ``azurekms:``.

        Raises:
            BadInput: no such role or key, or a kind of key the role cannot use.
            BedplateError: the device refused.
        """
        wanted = role(role_name)
        device = open_device(uri)
        files = {"uri": f"{uri}\n".encode()}
        if wanted.form is Form.OPENPGP:
            user = _user_id(self.distribution, wanted, kind)
            created = int(time.time())
            files["cert.pgp"] = openpgp_rsa.certificate(require_rsa(device, uri), user, created, device.sign)
            openpgp.describe(files["cert.pgp"], uri)
        else:
            public = device.public()
            if wanted.form is Form.X509 or not isinstance(public, ec.EllipticCurvePublicKey):
                stand_in: StandInKey | StandInEcKey = StandInKey(device, uri)
            else:
                stand_in = StandInEcKey(device)
            files["cert.pem"] = certificates.certify(stand_in, wanted, kind, self.distribution)
            files["public.pem"] = certificates.public_pem(files["cert.pem"])
            certificates.require_self_signed(files["cert.pem"], uri)
        with self._lock():
            return self._store(wanted, files, _ACTIVE)

    def prepare(self, role_name: str, kind: Kind | None = None) -> KeyInfo:
        """Make the key that will follow the one in use (of the same kind unless given) and announce it: images and
        stores made from now on trust both. :meth:`activate` puts it in use.

        Raises:
            BadInput: there is no such role.
        """
        wanted = role(role_name)
        with self._lock():
            active = self._active(wanted) or self._create(wanted, kind or Kind.DEVELOPMENT)
            made = self._create(wanted, kind or active.kind, _NEXT)
            return self.show(made.id)

    def next(self, role_name: str) -> KeyInfo | None:
        """The key that will follow the one in use, None when none is announced."""
        return next((info for info in self._of_role(role(role_name)) if info.next), None)

    def keyring(self, role_name: str) -> bytes:
        """OpenPGP: the public keys in use and announced for a role, one behind the other, as gpg reads a keyring.

        Raises:
            BadInput: the role has no OpenPGP keys.
        """
        wanted = role(role_name)
        if wanted.form is not Form.OPENPGP:
            raise BadInput(f"the role {wanted.id} has no OpenPGP keys")
        following = self.next(wanted.id)
        keys = [self.signer(wanted.id).public]
        if following is not None:
            keys.append(open_signer(following.directory.absolute().as_uri(), wanted).public)
        return b"".join(keys)

    def ensure(self, role_name: str) -> KeyInfo:
        """The key in use for a role; a development key is made when there is none."""
        wanted = role(role_name)
        with self._lock():
            return self._active(wanted) or self._create(wanted, Kind.DEVELOPMENT)

    def list(self) -> list[KeyInfo]:
        """All keys, sorted by id."""
        return sorted((info for entry in ALL_ROLES for info in self._of_role(entry)), key=lambda info: info.id)

    def show(self, key_id: str) -> KeyInfo:
        """The key called ``key_id``.

        Raises:
            BadInput: there is none; the error lists those there are.
        """
        known = self.list()
        for info in known:
            if info.id == key_id:
                return info
        names = ", ".join(info.id for info in known)
        raise BadInput(
            f"no key {key_id!r}",
            where=str(self.directory),
            remedy=f"name one of: {names}" if names else "make one: bedplate keys create ROLE",
        )

    def activate(self, key_id: str) -> KeyInfo:
        """Put a key in use for its role.

        Raises:
            BadInput: there is no such key.
        """
        with self._lock():
            info = self.show(key_id)
            self._point(info.role, _ACTIVE, info.id)
            if info.next:
                (self.directory / info.role / _NEXT).unlink(missing_ok=True)
            return self.show(key_id)

    def signer(self, role_name: str) -> Signer:
        """A signer with the key in use for a role, made on first use."""
        info = self.ensure(role_name)
        return open_signer(info.directory.absolute().as_uri(), role(role_name))

    def open(self, info: KeyInfo) -> Signer:
        """A signer with a key of this store, in use or not."""
        return open_signer(info.directory.absolute().as_uri(), role(info.role))

    def boot_key_paths(self) -> tuple[Path, Path]:
        """Private key and certificate (PEM files) that sign boot loaders and kernels."""
        directory = self.ensure("boot").directory
        return directory / "key.pem", directory / "cert.pem"

    def pcr_key_paths(self) -> tuple[Path, Path]:
        """Private key and public key (PEM files) that sign expected PCR values."""
        directory = self.ensure("pcr").directory
        return directory / "key.pem", directory / "public.pem"

    def public_digests(self) -> dict[str, str]:
        """Role -> SHA-256 of the public keys an image holds for it (made on first use): a build's inputs."""
        return {
            entry.id: sha256(self.keyring(entry.id) if entry.form is Form.OPENPGP else self.signer(entry.id).public)
            for entry in ROLES
        }

    def public_identity(self) -> str:
        """One digest over :meth:`public_digests`."""
        return identity(self.public_digests())

    def _create(self, wanted: Role, kind: Kind, pointer: str = _ACTIVE) -> KeyInfo:
        make = self._openpgp_files if wanted.form is Form.OPENPGP else self._x509_files
        return self._store(wanted, make(wanted, kind), pointer)

    def _store(self, wanted: Role, files: dict[str, bytes], pointer: str) -> KeyInfo:
        parent = self.directory / wanted.id
        parent.mkdir(mode=0o700, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        try:
            for name, data in files.items():
                _write_private(temporary / name, data)
            key_id = f"{wanted.id}-{self._fingerprint(wanted, temporary)[:16].lower()}"
            temporary.rename(parent / key_id)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._point(wanted.id, pointer, key_id)
        return self.show(key_id)

    def _x509_files(self, wanted: Role, kind: Kind) -> dict[str, bytes]:
        private, certificate = certificates.generate(wanted, kind, self.distribution)
        return {"key.pem": private, "cert.pem": certificate, "public.pem": certificates.public_pem(certificate)}

    def _openpgp_files(self, wanted: Role, kind: Kind) -> dict[str, bytes]:
        secret = openpgp.generate(_user_id(self.distribution, wanted, kind))
        return {"key.pgp": secret, "cert.pgp": openpgp.load(secret, wanted.id).certificate}

    def _fingerprint(self, entry: Role, directory: Path) -> str:
        return self._describe(entry, directory)[0]

    def _describe(self, entry: Role, directory: Path) -> tuple[str, str, Kind]:
        if entry.form is not Form.OPENPGP:
            path = directory / "cert.pem"
            try:
                certificate = x509.load_pem_x509_certificate(path.read_bytes())
            except (OSError, ValueError) as error:
                raise BadInput(f"not a certificate ({error})", where=str(path)) from error
            kind = Kind.DEVELOPMENT if is_development(certificate) else Kind.RELEASE
            return certificate.fingerprint(hashes.SHA256()).hex(), certificate.subject.rfc4514_string(), kind
        external = (directory / "uri").is_file()
        path = directory / ("cert.pgp" if external else "key.pgp")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(f"not a key ({error.strerror})", where=str(path)) from error
        if external:
            fingerprint, users = openpgp.describe(data, str(path))
        else:
            key = openpgp.load(data, str(path))
            fingerprint, users = key.fingerprint, key.user_ids
        marked = any(is_development_user_id(user) for user in users)
        return fingerprint, ", ".join(users), Kind.DEVELOPMENT if marked else Kind.RELEASE

    def _of_role(self, entry: Role) -> Iterator[KeyInfo]:
        parent = self.directory / entry.id
        if not parent.is_dir():
            return
        active, following = self._pointed(entry, _ACTIVE), self._pointed(entry, _NEXT)
        for directory in sorted(parent.iterdir()):
            if directory.is_dir() and directory.name.startswith(f"{entry.id}-"):
                fingerprint, subject, kind = self._describe(entry, directory)
                yield KeyInfo(
                    directory.name,
                    entry.id,
                    kind,
                    fingerprint,
                    subject,
                    directory,
                    active=directory.name == active,
                    next=directory.name == following,
                )

    def _pointed(self, entry: Role, pointer: str) -> str:
        try:
            return (self.directory / entry.id / pointer).read_text().strip()
        except FileNotFoundError:
            return ""

    def _active(self, entry: Role) -> KeyInfo | None:
        wanted = self._pointed(entry, _ACTIVE)
        return self.show(wanted) if wanted else None

    def _point(self, role_name: str, pointer: str, key_id: str) -> None:
        path = self.directory / role_name / pointer
        temporary = path.with_name(f".{pointer}.{os.getpid()}")
        _write_private(temporary, f"{key_id}\n".encode())
        temporary.rename(path)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # Held while a key is made, so that two first uses at once end with one key.
        descriptor = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @staticmethod
    def _check_private(directory: Path) -> None:
        status = directory.stat()
        if status.st_uid != os.geteuid():
            raise BadInput(
                f"the key directory belongs to user id {status.st_uid}",
                where=str(directory),
                remedy="use a directory of your own: BEDPLATE_KEYS=DIRECTORY",
            )
        if status.st_mode & 0o077:
            raise BadInput(
                f"others may look into the key directory (mode {status.st_mode & 0o777:04o})",
                where=str(directory),
                remedy=f"close it: chmod 700 {directory}",
            )


def _user_id(distribution: str, wanted: Role, kind: Kind) -> str:
    if kind is Kind.DEVELOPMENT:
        return f"{distribution} DEVELOPMENT {wanted.title} ({DEVELOPMENT_TEXT})"
    return f"{distribution} {wanted.title} (release)"


def _write_private(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise BedplateError(f"cannot write the key ({error.strerror})", where=str(path)) from error
