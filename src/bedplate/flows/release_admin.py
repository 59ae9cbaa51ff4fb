"""Keeping a release store: freshness, more signatures, rules, keys, garbage."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pysequoia
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root

from bedplate.flows.definition import read_definition
from bedplate.flows.keys import key_store
from bedplate.flows.release_publish import created_tracks
from bedplate.flows.release_store import StorePlace, clock, policy_key, reader, store_signers, writer
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput, TrustError
from bedplate.release import garbage
from bedplate.release import metadata as md
from bedplate.release.client import envelope_path
from bedplate.release.directory import DirectoryStore
from bedplate.release.envelope import MAX_ENVELOPE, add_signatures, parse_envelope, read_payload, valid_signatures
from bedplate.release.garbage import Garbage
from bedplate.release.keys import certificate_of, key_of
from bedplate.release.objects import Unchanged
from bedplate.release.policy import KeyState, Policy, PolicyKey
from bedplate.release.repository import Outcome, Repository
from bedplate.trust.keys import KeyStore
from bedplate.trust.marks import is_development, is_development_user_id
from bedplate.trust.roles import Form, role

_DAY = 86400
TOP_ROLES = ("root", "online")
_MIN_PREFIX = 8


def refresh(workspace: Workspace, place: StorePlace) -> int:
    """Renew snapshot and timestamp; gives when the store expires now (seconds since the epoch)."""
    repository = writer(workspace, read_definition(workspace), place)
    repository.refresh()
    place.note(repository.seen)
    return reader(place).refresh().expires


def configure(workspace: Workspace, place: StorePlace) -> Outcome:
    """Bring the store's channels and thresholds to what the definition says."""
    definition = read_definition(workspace)
    repository = writer(workspace, definition, place)
    threshold = definition.channels.thresholds.root

    def keys(root: Root) -> md.RoleKeys:
        return replace(top_keys(root), root_threshold=threshold)

    why = "follow distro/channels.toml"
    outcome = repository.change_policy(lambda policy: policy.with_channels(definition.channels), why)
    if not outcome.waiting:
        top = repository.change_top_keys(keys, why)
        outcome = top if top.changed else outcome
    place.note(repository.seen)
    return outcome


def approve(workspace: Workspace, place: StorePlace, subject: str) -> Outcome:
    """Sign a waiting change, or a release's manifest, with the keys at hand.

    Raises:
        BadInput: nothing of that name waits, or no key at hand may sign it.
    """
    definition = read_definition(workspace)
    repository = writer(workspace, definition, place)
    if created_tracks(place.objects, subject):
        return _approve_release(repository, place, subject, key_store(workspace, definition))
    outcome = repository.approve(subject)
    place.note(repository.seen)
    return outcome


def _approve_release(repository: Repository, place: StorePlace, version: str, keys: KeyStore) -> Outcome:
    policy = repository.state().policy
    counting = policy.manifest_keys()
    signers = [s for s in store_signers(keys, ["release"]) if s.public_key.keyid in {k.keyid for k in counting}]
    if not signers:
        raise BadInput("no release key at hand counts in this store", remedy="see who can: bedplate release keys list")
    missing: dict[str, int] = {}
    for track in created_tracks(place.objects, version):
        path = envelope_path(track, version)
        old = place.objects.get(path, MAX_ENVELOPE)
        envelope = parse_envelope(old.data, path)
        if read_payload(envelope.payload, path).key != (track, version):
            raise TrustError("the manifest is another release's", where=path)
        new = add_signatures(old.data, signers, path)
        place.objects.put(path, new, Unchanged(old.tag))
        count = policy.release_threshold - len(valid_signatures(parse_envelope(new, path), counting))
        if count > 0:
            missing[f"{track} {version}"] = count
    return Outcome(version, missing=missing)


def trust_key(workspace: Workspace, place: StorePlace, key: str, role_name: str, state: KeyState) -> Outcome:
    """Let the store know a key: one of the key store by its id, or a public key in a file.

    Args:
        key: Id of a key, or a file with a PEM or OpenPGP certificate.
        role_name: For a file: what the key is for.

    Raises:
        BadInput: no such key or file, or no role.
    """
    definition = read_definition(workspace)
    keys = key_store(workspace, definition)
    path = Path(key)
    entry = _from_file(path, role_name, state) if path.is_file() else policy_key(keys, keys.show(key), state, clock())
    repository = writer(workspace, definition, place)
    why = f"trust the {entry.role} key {entry.id[:16]} ({state.value})"
    if entry.role in TOP_ROLES:
        outcome = repository.change_top_keys(_with_top(entry.role, key_of(entry.public.encode())), why)
    else:
        outcome = repository.change_policy(lambda policy: policy.with_key(entry), why)
    place.note(repository.seen)
    return outcome


def set_key_state(workspace: Workspace, place: StorePlace, key_id: str, state: KeyState) -> Outcome:
    """Retire or revoke a key. A key of the store's own metadata (root, online) counts no more either way.

    Raises:
        BadInput: the store knows no such key, or it is the last one of a role that must sign.
    """
    repository = writer(workspace, read_definition(workspace), place)
    root = repository.state().root.signed
    found = [
        (name, keyid)
        for name in TOP_ROLES
        for keyid in root.roles[_top_role(name)].keyids
        if len(key_id) >= _MIN_PREFIX and keyid.startswith(key_id)
    ]
    if found:
        top, key_id = found[0]
        why = f"{state.value} the {top} key {key_id[:16]}"
        outcome = repository.change_top_keys(_without_top(top, key_id), why)
    else:

        def change(policy: Policy) -> Policy:
            known = policy.find(key_id)
            return policy if known.state is state else policy.with_key(replace(known, state=state, since=clock()))

        outcome = repository.change_policy(change, f"{state.value} the key {key_id[:16]}")
    place.note(repository.seen)
    return outcome


def list_keys(place: StorePlace) -> list[PolicyKey]:
    """Every key the store knows, those of its own metadata first."""
    view = reader(place).refresh()
    root = md.decode((place.pins / "seen" / "root.json").read_bytes(), Root, "root").signed
    top = []
    for name in TOP_ROLES:
        for keyid in root.roles[_top_role(name)].keyids:
            certificate = certificate_of(root.keys[keyid])
            development = not certificate or is_development(x509.load_pem_x509_certificate(certificate))
            top.append(PolicyKey(name, keyid, KeyState.ACTIVE, development, certificate.decode(), 0))
    return [*top, *view.policy.keys]


def top_keys(root: Root) -> md.RoleKeys:
    """The keys of the top-level roles as a root has them."""

    def of(name: str) -> tuple[SSlibKey, ...]:
        return tuple(key for keyid in root.roles[name].keyids if isinstance(key := root.keys[keyid], SSlibKey))

    return md.RoleKeys(of(md.ROOT), of(md.TIMESTAMP), root.roles[md.ROOT].threshold)


def collect(workspace: Workspace, place: StorePlace, *, dry_run: bool = False) -> Garbage:
    """Remove releases no channel carries and nobody made in the grace period, and what killed writers left. What a
    channel carries or carried stays.

    Raises:
        TrustError: the store or a published release cannot be believed; then nothing is removed.
    """
    definition = read_definition(workspace)
    repository = writer(workspace, definition, place)
    state = repository.state()
    before = clock() - definition.channels.grace_days * _DAY
    needed = garbage.needed_paths(place.objects, state, repository.waiting(), before)
    objects = (info for folder in garbage.FOLDERS for info in place.objects.list(folder))
    found = garbage.plan(objects, needed, before)
    if not dry_run:
        for path in found.paths:
            place.objects.delete(path)
        if isinstance(place.objects, DirectoryStore):
            place.objects.sweep(clock() - _DAY)
    return found


def _top_role(name: str) -> str:
    return md.ROOT if name == "root" else md.TIMESTAMP


def _with_top(name: str, key: SSlibKey) -> Callable[[Root], md.RoleKeys]:
    def keys(root: Root) -> md.RoleKeys:
        top = top_keys(root)
        field = getattr(top, name)
        if any(one.keyid == key.keyid for one in field):
            return top
        if any(one.keyval == key.keyval for one in field):
            raise BadInput(f"this {name} key is known under another certificate")
        return replace(top, root=(*field, key)) if name == "root" else replace(top, online=(*field, key))

    return keys


def _without_top(name: str, keyid: str) -> Callable[[Root], md.RoleKeys]:
    def keys(root: Root) -> md.RoleKeys:
        top = top_keys(root)
        left = tuple(one for one in getattr(top, name) if one.keyid != keyid)
        if len(left) < (top.root_threshold if name == "root" else 1):
            raise BadInput(
                f"without this key too few {name} keys are left",
                remedy="add its successor first: bedplate release keys trust KEY",
            )
        return replace(top, root=left) if name == "root" else replace(top, online=left)

    return keys


def _from_file(path: Path, role_name: str, state: KeyState) -> PolicyKey:
    wanted = role(role_name)
    data = path.read_bytes()
    if wanted.form is Form.OPENPGP:
        certificate = _certificate(data, path)
        development = any(is_development_user_id(str(user)) for user in certificate.user_ids)
        public = base64.b64encode(bytes(certificate)).decode()
        return PolicyKey(wanted.id, certificate.fingerprint.lower(), state, development, public, clock())
    try:
        parsed = x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise BadInput("not a certificate", where=str(path)) from error
    fingerprint = parsed.fingerprint(hashes.SHA256()).hex()
    return PolicyKey(wanted.id, fingerprint, state, is_development(parsed), data.decode(), clock())


def _certificate(data: bytes, path: Path) -> pysequoia.Cert:
    try:
        return pysequoia.Cert.from_bytes(data)
    except (RuntimeError, ValueError) as error:
        raise BadInput("not an OpenPGP certificate", where=str(path)) from error
