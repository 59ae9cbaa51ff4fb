"""The signed manifest: a release's canonical JSON in a DSSE envelope.

Source: the Dead Simple Signing Envelope, version 1. Bytes become a :class:`~bedplate.model.release.Release` here only,
and only with enough signatures by keys that count.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import Key, Signer

from bedplate.model.digest import canonical_json
from bedplate.model.errors import BadInput, TrustError
from bedplate.model.release import Release, parse_release

PAYLOAD_TYPE = "application/vnd.bedplate.release+json"
MAX_MANIFEST = 1 << 20
MAX_ENVELOPE = 2 * MAX_MANIFEST


@dataclass(frozen=True)
class VerifiedRelease:
    """A release that enough keys vouch for: ``payload`` are the manifest's very bytes, ``keys`` ids of those keys."""

    release: Release
    payload: bytes
    keys: tuple[str, ...]


def sign_release(release: Release, signers: Sequence[Signer]) -> bytes:
    """The envelope of a release, signed by each of ``signers``."""
    envelope = Envelope(canonical_json(release.to_json()), PAYLOAD_TYPE, {})
    for signer in signers:
        envelope.sign(signer)
    return _format(envelope)


def add_signatures(data: bytes, signers: Sequence[Signer], where: str) -> bytes:
    """The same envelope with further signatures.

    Raises:
        BadInput: not an envelope.
    """
    envelope = parse_envelope(data, where)
    for signer in signers:
        envelope.sign(signer)
    return _format(envelope)


def parse_envelope(data: bytes, where: str) -> Envelope:
    """An envelope, its signatures not looked at.

    Raises:
        BadInput: not an envelope of a release manifest.
    """
    try:
        envelope = Envelope.from_dict(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise BadInput("not a signed release manifest", where=where) from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise BadInput(f"an envelope of something else ({str(envelope.payload_type)[:80]})", where=where)
    return envelope


def valid_signatures(envelope: Envelope, keys: Collection[Key]) -> tuple[str, ...]:
    """Ids of the keys among ``keys`` whose signature in the envelope is valid."""
    valid: list[str] = []
    for key in keys:
        try:
            envelope.verify([key], 1)
        except VerificationError:
            continue
        valid.append(key.keyid)
    return tuple(sorted(valid))


def verify_release(data: bytes, keys: Collection[Key], threshold: int, where: str) -> VerifiedRelease:
    """The release in an envelope.

    Args:
        keys: Public keys that count.
        threshold: How many of them must have signed.

    Raises:
        TrustError: too few valid signatures: edited, signed by strangers, or by keys that no longer count.
        BadInput: not an envelope, or signed but not a valid manifest.
    """
    envelope = parse_envelope(data, where)
    valid = valid_signatures(envelope, keys)
    if len(valid) < threshold:
        raise TrustError(
            f"the release manifest has {len(valid)} valid signatures, {threshold} are needed",
            where=where,
            remedy="let another holder of a release key sign it (bedplate release approve), unless it was edited",
        )
    return VerifiedRelease(read_payload(envelope.payload, where), envelope.payload, valid)


def read_payload(payload: bytes, where: str) -> Release:
    """The release in a manifest's bytes, which somebody else has verified.

    Raises:
        BadInput: not a manifest, or not in canonical form.
    """
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadInput("the release manifest is not JSON", where=where) from error
    release = parse_release(data, where)
    if canonical_json(release.to_json()) != payload:
        raise BadInput("the release manifest is not in its canonical form", where=where)
    return release


def _format(envelope: Envelope) -> bytes:
    return canonical_json(envelope.to_dict()) + b"\n"
