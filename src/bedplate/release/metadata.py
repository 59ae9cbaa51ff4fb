"""The store's signed metadata, by The Update Framework: making, changing, signing it. Pure but for the clock given.

Source: TUF specification 1.0 with python-tuf. Roles: ``root`` and ``targets`` (root keys) say which keys count and what
channels there are; one delegated role a channel (release keys) lists the channel's document; ``snapshot`` and
``timestamp`` (online keys) bind it all together and keep it fresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from securesystemslib.signer import Signer, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    TOP_LEVEL_ROLE_NAMES,
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from bedplate.model.definition.channels import Expiry
from bedplate.model.digest import canonical_json
from bedplate.model.errors import TrustError
from bedplate.release.channel import channel_target
from bedplate.release.policy import POLICY_TARGET, KeyState, Policy

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = Root.type, Targets.type, Snapshot.type, Timestamp.type
MAX_ROOT, MAX_TIMESTAMP, MAX_SNAPSHOT, MAX_TARGETS = 512_000, 16_384, 2_000_000, 5_000_000

SignedT = TypeVar("SignedT", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True)
class RoleKeys:
    """Keys of the top-level roles and how many of the root's must sign."""

    root: tuple[SSlibKey, ...]
    online: tuple[SSlibKey, ...]
    root_threshold: int = 1


def expiry_at(now: int, days: float) -> datetime:
    """When something signed at ``now`` (seconds since the epoch) and good for ``days`` expires."""
    return datetime.fromtimestamp(now, UTC).replace(microsecond=0) + timedelta(days=days)


def first_root(keys: RoleKeys, expiry: Expiry, now: int) -> Root:
    """The root of a new store."""
    root = Root(version=1, expires=expiry_at(now, expiry.root), consistent_snapshot=True)
    set_root_keys(root, keys)
    return root


def set_root_keys(root: Root, keys: RoleKeys) -> None:
    """Put ``keys``, and no others, in charge of the top-level roles."""
    for name in sorted(TOP_LEVEL_ROLE_NAMES):
        for keyid in list(root.roles[name].keyids):
            root.revoke_key(keyid, name)
        for key in keys.root if name in (ROOT, TARGETS) else keys.online:
            root.add_key(key, name)
        root.roles[name].threshold = keys.root_threshold if name in (ROOT, TARGETS) else 1


def make_targets(policy: Policy, version: int, expiry: Expiry, now: int) -> Targets:
    """The top-level targets: the policy, and a delegation for each channel."""
    states = (KeyState.ACTIVE, KeyState.NEXT)
    keys = {key.keyid: key for key in policy.manifest_keys()}
    signing = [key.id for key in policy.of_role("release", *states)]
    takes = {key.id: not key.development for key in policy.keys}
    roles = {}
    for rule in policy.channels:
        ids = [keyid for keyid in signing if rule.keys == "any" or takes[keyid]]
        roles[rule.name] = DelegatedRole(
            rule.name, ids, rule.threshold, terminating=True, paths=[channel_target(rule.name)]
        )
    used = {keyid for role in roles.values() for keyid in role.keyids}
    body = canonical_json(policy.to_json())
    return Targets(
        version=version,
        expires=expiry_at(now, expiry.root),
        targets={POLICY_TARGET: TargetFile.from_data(POLICY_TARGET, body, ["sha256"])},
        delegations=Delegations({keyid: keys[keyid] for keyid in sorted(used)}, roles),
    )


def make_channel(name: str, document: bytes, version: int, expiry: Expiry, now: int) -> Targets:
    """A channel's role: its document is the only target."""
    path = channel_target(name)
    return Targets(
        version=version,
        expires=expiry_at(now, expiry.channel),
        targets={path: TargetFile.from_data(path, document, ["sha256"])},
    )


def make_snapshot(versions: Mapping[str, int], version: int, expiry: Expiry, now: int) -> Snapshot:
    """The snapshot naming the version of ``targets`` and of each channel's role."""
    meta = {f"{name}.json": MetaFile(number) for name, number in sorted(versions.items())}
    return Snapshot(version=version, expires=expiry_at(now, expiry.snapshot), meta=meta)


def make_timestamp(snapshot: int, version: int, expiry: Expiry, now: int) -> Timestamp:
    """The timestamp naming the version of the snapshot."""
    return Timestamp(version=version, expires=expiry_at(now, expiry.timestamp), snapshot_meta=MetaFile(snapshot))


def sign(signed: SignedT, keyids: Iterable[str], signers: Sequence[Signer]) -> Metadata[SignedT]:
    """Metadata signed by those of ``signers`` whose keys are among ``keyids``."""
    metadata = Metadata(signed)
    add_signatures(metadata, keyids, signers)
    return metadata


def add_signatures(metadata: Metadata[Any], keyids: Iterable[str], signers: Sequence[Signer]) -> None:
    """Sign once more, keeping what signatures there are."""
    wanted = set(keyids)
    for signer in signers:
        if signer.public_key.keyid in wanted:
            metadata.sign(signer, append=True)


def encode(metadata: Metadata[Any]) -> bytes:
    """The metadata file's bytes."""
    return metadata.to_bytes(JSONSerializer(compact=True))


def decode(data: bytes, kind: type[SignedT], where: str) -> Metadata[SignedT]:
    """A metadata file, its signatures not looked at.

    Raises:
        TrustError: not metadata of this kind.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise TrustError("not the store's metadata; nothing of it was used", where=where) from error
    if not isinstance(metadata.signed, kind):
        raise TrustError(f"metadata of another kind ({metadata.signed.type})", where=where)
    return metadata


def missing_signatures(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> int:
    """How many signatures ``metadata`` lacks to count for ``role``; 0 when it has enough.

    Raises:
        TrustError: the delegator knows no such role.
    """
    try:
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except (ValueError, RepositoryError) as error:
        raise TrustError(f"no keys are appointed for {role}", where=role) from error
    return int(max(0, result.threshold - len(result.signed)))


def require_signed(delegator: Root | Targets, role: str, metadata: Metadata[Any], where: str) -> None:
    """Refuse metadata without enough signatures.

    Raises:
        TrustError: it lacks signatures.
    """
    if missing_signatures(delegator, role, metadata):
        raise TrustError(
            f"the metadata of {role} is not signed by enough keys that count; nothing of it was used", where=where
        )


def check_lengths_and_hashes(target: TargetFile, data: bytes, where: str) -> None:
    """Refuse bytes that are not the target's.

    Raises:
        TrustError: another length or digest.
    """
    try:
        target.verify_length_and_hashes(data)
    except RepositoryError as error:
        raise TrustError("these are not the bytes that were signed; nothing of them was used", where=where) from error
