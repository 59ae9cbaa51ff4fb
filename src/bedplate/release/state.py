"""Reading a store's metadata for somebody who is about to change it: every signature checked, freshness not.

An operator must be able to renew metadata that has expired; readers use :mod:`bedplate.release.client`, which follows
the whole client workflow of the specification.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from bedplate.model.errors import TrustError
from bedplate.release import metadata as md
from bedplate.release.channel import ChannelDocument, channel_target, parse_channel
from bedplate.release.objects import NotFound, ObjectStore, blob_path
from bedplate.release.policy import POLICY_TARGET, Policy, parse_policy

MAX_ROOTS = 1024


@dataclass
class StoreState:
    """A store's current metadata. ``timestamp_tag`` names the timestamp that was read, for a conditional write."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    timestamp_tag: str
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    channels: dict[str, Metadata[Targets]]
    policy: Policy
    documents: dict[str, ChannelDocument]


def metadata_path(role: str, version: int | None = None) -> str:
    """Where a role's metadata lies."""
    return f"metadata/{role}.json" if version is None else f"metadata/{version}.{role}.json"


def root_chain(store: ObjectStore, trusted: bytes) -> list[Metadata[Root]]:
    """All roots from the trusted one to the newest, each signed by the one before it and by itself.

    Raises:
        TrustError: a root in the chain is not signed by enough keys of the one before.
    """
    first = md.decode(trusted, Root, "trusted root")
    md.require_signed(first.signed, md.ROOT, first, "trusted root")
    chain = [first]
    for _ in range(MAX_ROOTS):
        version = chain[-1].signed.version + 1
        path = metadata_path(md.ROOT, version)
        try:
            data = store.get(path, md.MAX_ROOT).data
        except NotFound:
            return chain
        following = md.decode(data, Root, path)
        md.require_signed(chain[-1].signed, md.ROOT, following, path)
        md.require_signed(following.signed, md.ROOT, following, path)
        if following.signed.version != version:
            raise TrustError(f"says it is version {following.signed.version}", where=path)
        chain.append(following)
    raise TrustError(f"more than {MAX_ROOTS} versions of the root", where=store.url)


def load_state(store: ObjectStore, trusted: bytes, freshness_root: Root | None = None) -> StoreState:
    """The store's state.

    Args:
        trusted: A root that is trusted already (metadata bytes).
        freshness_root: The root whose keys signed timestamp, snapshot and targets, where it is not the newest, see
            :meth:`bedplate.release.repository.Repository.sign_again`.

    Raises:
        NotFound: there is no store, or it was never finished.
        TrustError: anything is not signed as it must be.
    """
    chain = root_chain(store, trusted)
    root = freshness_root or chain[-1].signed
    stamp = store.get(metadata_path(md.TIMESTAMP), md.MAX_TIMESTAMP)
    timestamp = md.decode(stamp.data, Timestamp, md.TIMESTAMP)
    md.require_signed(root, md.TIMESTAMP, timestamp, md.TIMESTAMP)
    number = timestamp.signed.snapshot_meta.version
    snapshot = _read(store, md.SNAPSHOT, number, Snapshot, md.MAX_SNAPSHOT)
    md.require_signed(root, md.SNAPSHOT, snapshot, md.SNAPSHOT)
    versions = {name.removesuffix(".json"): meta.version for name, meta in snapshot.signed.meta.items()}
    targets = _read(store, md.TARGETS, versions.get(md.TARGETS, 0), Targets, md.MAX_TARGETS)
    md.require_signed(root, md.TARGETS, targets, md.TARGETS)
    policy = parse_policy(json.loads(_target(store, targets.signed, POLICY_TARGET)), POLICY_TARGET)
    channels, documents = {}, {}
    for rule in policy.channels:
        name = rule.name
        if name not in versions:
            continue  # appointed, but nothing was ever published
        channels[name] = _read(store, name, versions[name], Targets, md.MAX_TARGETS)
        md.require_signed(targets.signed, name, channels[name], name)
        body = json.loads(_target(store, channels[name].signed, channel_target(name)))
        documents[name] = parse_channel(body, name, channel_target(name))
    return StoreState(chain[-1], timestamp, stamp.tag, snapshot, targets, channels, policy, documents)


def _read(store: ObjectStore, role: str, version: int, kind: type[md.SignedT], limit: int) -> Metadata[md.SignedT]:
    path = metadata_path(role, version)
    found = md.decode(store.get(path, limit).data, kind, path)
    if found.signed.version != version:
        raise TrustError(f"says it is version {found.signed.version}", where=path)
    return found


def _target(store: ObjectStore, targets: Targets, path: str) -> bytes:
    target = targets.targets.get(path)
    if target is None or "sha256" not in target.hashes:
        raise TrustError("the signed metadata does not name it", where=path)
    data = store.get(blob_path(target.hashes["sha256"]), target.length).data
    md.check_lengths_and_hashes(target, data, path)
    return data
