"""OpenPGP: the one place where signed bytes from outside become :class:`VerifiedText`.

Implements verification of clear-signed text and detached signatures (RFC 9580) through Sequoia. Its standard policy
judges algorithms, expiry and revocation at the present time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pysequoia
from pysequoia.packet import PacketPile, Tag

from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput, TrustError

_KEY_TAGS = (Tag.PublicKey, Tag.PublicSubkey)
_SEAL = object()
_MAX_SIGNATURES = 64


class VerifiedText:
    """Bytes that a pinned key signed. Only this module makes one: whoever holds one need not ask again.

    ``data`` is what was signed (of a clear-signed file only the signed part), ``signers`` the primary fingerprints
    (lower-case hex) of the pinned keys with a valid signature, ``sha256`` the digest of the signed file as it was
    received, ``received`` that file.
    """

    __slots__ = ("data", "received", "sha256", "signers")

    def __init__(self, seal: object, data: bytes, received: bytes, signers: frozenset[str]) -> None:
        if seal is not _SEAL:
            raise TypeError("only bedplate.upstream.openpgp makes verified text")
        self.data = data
        self.received = received
        self.sha256 = sha256(received)
        self.signers = signers


@dataclass(frozen=True)
class Keyring:
    """The pinned certificates whose signature counts, and for messages which keys belong to each."""

    certs: tuple[pysequoia.Cert, ...]

    @classmethod
    def from_files(cls, files: Sequence[Path], fingerprints: Sequence[str]) -> Keyring:
        """Read certificates (binary or armoured); only those with a listed primary fingerprint are kept.

        Raises:
            BadInput: a file is missing or not a key, or a listed fingerprint is in no file.
        """
        wanted = {fingerprint.replace(" ", "").lower() for fingerprint in fingerprints}
        found: dict[str, pysequoia.Cert] = {}
        for path in files:
            try:
                certs = pysequoia.Cert.split_bytes(path.read_bytes())
            except FileNotFoundError:
                raise BadInput("no such key file", where=str(path), remedy="correct `keys` in distro.toml") from None
            except (RuntimeError, ValueError) as error:
                raise BadInput(f"not an OpenPGP key ({_first_line(error)})", where=str(path)) from error
            found.update({cert.fingerprint: cert for cert in certs if cert.fingerprint in wanted})
        if not wanted or wanted - found.keys():
            missing = ", ".join(sorted(wanted - found.keys())) or "any: none is listed"
            raise BadInput(
                f"the key files do not hold {missing}",
                where=", ".join(str(path) for path in files),
                remedy="add the key to distro/keys and its file to `keys`, or correct `fingerprints`",
            )
        return cls(tuple(found[fingerprint] for fingerprint in sorted(found)))

    def owner(self, key: str) -> pysequoia.Cert | None:
        """The certificate that a key (fingerprint or key id, hex) belongs to."""
        key = key.lower()
        for cert in self.certs:
            packets = [packet for packet in PacketPile.from_bytes(bytes(cert)) if packet.tag in _KEY_TAGS]
            if any((packet.fingerprint or "").endswith(key) or packet.key_id == key for packet in packets):
                return cert
        return None


def verify_clearsigned(signed: bytes, keyring: Keyring, where: str) -> VerifiedText:
    """Check a clear-signed file, such as a Debian archive's ``InRelease``.

    One valid signature by any certificate of ``keyring`` suffices; further unknown signatures do not hurt.

    Raises:
        TrustError: no such signature; the message says whether the keys are unknown, expired or revoked, or the
            signature is wrong. ``where`` is named in it.
    """
    asked: list[str] = []

    def store(keys: list[str]) -> list[pysequoia.Cert]:
        asked.extend(keys)
        return list(keyring.certs)

    if not signed.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        raise TrustError(
            "not a clear-signed file", where=where, remedy="the mirror may be broken or answer for another: try another"
        )
    data, signers = _verify(lambda: pysequoia.verify(signed, store), keyring, asked, where)
    return VerifiedText(_SEAL, data, signed, signers)


def verify_detached(data: bytes, signature: bytes, keyring: Keyring, where: str) -> VerifiedText:
    """Check ``data`` against a detached signature file, armoured or binary, which may hold several signatures.

    Raises:
        TrustError: as :func:`verify_clearsigned`.
    """
    asked: list[str] = []

    def store(keys: list[str]) -> list[pysequoia.Cert]:
        asked.extend(keys)
        return list(keyring.certs)

    try:
        packets = [bytes(packet) for packet in PacketPile.from_bytes(signature) if packet.tag == Tag.Signature]
        signatures = [pysequoia.Sig.from_bytes(packet) for packet in packets[:_MAX_SIGNATURES]]
    except (RuntimeError, ValueError) as error:
        raise TrustError(f"not an OpenPGP signature ({_first_line(error)})", where=where) from error
    failure = TrustError("the signature file holds no signature", where=where)
    for one in signatures:
        check = partial(pysequoia.verify, bytes=data, store=store, signature=one)
        try:
            _, signers = _verify(check, keyring, asked, where)
        except TrustError as error:
            failure = error
            continue
        return VerifiedText(_SEAL, data, data, signers)
    raise failure


def _verify(
    call: Callable[[], pysequoia.Decrypted], keyring: Keyring, asked: list[str], where: str
) -> tuple[bytes, frozenset[str]]:
    try:
        result = call()
    except (RuntimeError, ValueError) as error:
        raise TrustError(
            _why(keyring, asked) or f"bad signature ({_first_line(error)})",
            where=where,
            remedy="nothing of it was used; try another mirror, and if it is the same there, ask before you add keys",
        ) from error
    pinned = {cert.fingerprint for cert in keyring.certs}
    signers = frozenset(sig.certificate for sig in result.valid_sigs) & pinned
    if not signers:
        raise TrustError("no valid signature by a pinned key", where=where)
    return result.bytes or b"", signers


def _why(keyring: Keyring, asked: Sequence[str]) -> str:
    """What is wrong with the keys that signed, in words; empty when at least one of them is good."""
    reasons = []
    for key in dict.fromkeys(asked):
        cert = keyring.owner(key)
        if cert is None:
            reasons.append(f"{key} is not a pinned key")
        elif cert.is_revoked:
            reasons.append(f"key {cert.fingerprint} is revoked")
        elif cert.expiration is not None and cert.expiration < datetime.now(UTC):
            reasons.append(f"key {cert.fingerprint} expired on {cert.expiration:%Y-%m-%d}")
        else:
            return f"the signature by {cert.fingerprint} does not fit the content: it was altered or is damaged"
    return "; ".join(reasons)


def _first_line(error: Exception) -> str:
    # Sequoia's errors may carry a stack trace.
    return str(error).partition("\n")[0].strip()
