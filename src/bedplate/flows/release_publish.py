"""Putting releases into channels and taking them out again."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pysequoia
from cryptography import x509

from bedplate.flows.definition import read_definition
from bedplate.flows.release_store import StorePlace, clock, writer
from bedplate.flows.workspace import Workspace
from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput, TrustError
from bedplate.model.pe import parse_pe
from bedplate.model.release import ArtefactKind, Release, require_track
from bedplate.model.version import require_version
from bedplate.release.channel import ChannelDocument, Entry, check_manifest_keys, publish, withdraw
from bedplate.release.client import read_blob, read_manifest
from bedplate.release.create import sums_text
from bedplate.release.keys import certificate_of
from bedplate.release.objects import ObjectStore, blob_path
from bedplate.release.policy import Policy
from bedplate.release.repository import Outcome, Repository
from bedplate.release.state import StoreState
from bedplate.trust.authenticode import require_signature
from bedplate.trust.marks import is_development
from bedplate.upstream.openpgp import Keyring, verify_detached


def publish_release(
    workspace: Workspace, place: StorePlace, version: str, channel: str, tracks: Sequence[str]
) -> Outcome:
    """Put a release, of the named tracks or of all it was created for, into a channel.

    Its signatures are checked once more on the bytes in the store, against the keys of the store's policy.

    Raises:
        BadInput: there is no such release or channel, or the channel's rules do not allow it.
        TrustError: a signature is missing, wrong, or by a key the channel does not take.
    """
    repository = _writer(workspace, place)
    require_version(version)
    wanted = [require_track(track) for track in tracks] or created_tracks(place.objects, version)
    if not wanted:
        raise BadInput(
            f"no release {version} was created here", where=place.objects.url, remedy="bedplate release list"
        )
    looked_at: dict[str, str] = {}

    def change(state: StoreState) -> ChannelDocument:
        rule = state.policy.channel(channel)
        document = state.documents.get(channel, ChannelDocument(channel))
        before = state.documents.get(rule.after) if rule.after else None
        if rule.keys == "release":
            _require_release_root(state)
        for track in wanted:
            verified = read_manifest(place.objects, state.policy, track, version)
            check_manifest_keys(verified.keys, state.policy, rule.keys, f"{track} {version}")
            digest = sha256(verified.payload)
            if looked_at.get(track) != digest:
                check_bytes(place.objects, verified.release, state.policy)
                looked_at[track] = digest
            entry = Entry(track, version, digest, len(verified.payload), clock())
            document = publish(document, verified.release, entry, state.policy, before)
        return document

    outcome = repository.change_channel(channel, change, f"publish {', '.join(wanted)} {version} in {channel}")
    place.note(repository.seen)
    return outcome


def promote(
    workspace: Workspace, place: StorePlace, source: str, target: str, tracks: Sequence[str]
) -> tuple[str, Outcome]:
    """Publish in ``target`` what is newest in ``source``; gives its version.

    Raises:
        BadInput: there is nothing to promote, or the tracks' newest versions differ and none was named.
    """
    state = _writer(workspace, place).state()
    state.policy.channel(target)
    rule = state.policy.channel(source)
    document = state.documents.get(source, ChannelDocument(source))
    view = document.channel(rule, 0, 0)
    names = list(tracks) or sorted({entry.track for entry in document.entries})
    newest = {track: view.newest(track) for track in names}
    versions = {version for version in newest.values() if version is not None}
    if not versions:
        raise BadInput(f"{source} carries nothing to promote", where=place.objects.url)
    if len(versions) > 1:
        raise BadInput(
            "the tracks' newest releases have different versions",
            details=[f"{track} {version}" for track, version in sorted(newest.items())],
            remedy="name one track with --track",
        )
    version = versions.pop()
    chosen = [track for track, one in newest.items() if one == version]
    return version, publish_release(workspace, place, version, target, chosen)


def withdraw_release(
    workspace: Workspace, place: StorePlace, version: str, reason: str, channels: Sequence[str], tracks: Sequence[str]
) -> list[Outcome]:
    """Withdraw a release from the named channels, or from all that carry it.

    Raises:
        BadInput: no channel carries it, or no reason is given.
    """
    repository = _writer(workspace, place)
    require_version(version)
    state = repository.state()
    outcomes = []
    for rule in state.policy.channels:
        document = state.documents.get(rule.name)
        carried = [e.track for e in document.entries if e.version == version] if document else []
        chosen = [track for track in carried if not tracks or track in tracks]
        if not chosen or (channels and rule.name not in channels):
            continue

        def change(now: StoreState, name: str = rule.name, chosen: Sequence[str] = tuple(chosen)) -> ChannelDocument:
            changed = now.documents[name]
            for track in chosen:
                changed = withdraw(changed, track, version, reason, clock())
            return changed

        what = f"withdraw {', '.join(chosen)} {version} from {rule.name}: {reason}"
        outcomes.append(repository.change_channel(rule.name, change, what))
    place.note(repository.seen)
    if not outcomes:
        raise BadInput(
            f"no channel carries {version}" + (f" in {', '.join(channels)}" if channels else ""),
            where=place.objects.url,
            remedy="see: bedplate release list",
        )
    return outcomes


def check_bytes(store: ObjectStore, release: Release, policy: Policy) -> None:
    """Check a release's signed parts against the keys the policy knows: the UKI's Authenticode signature, SHA256SUMS
    and its OpenPGP signature, and that every artefact is there with its size.

    Raises:
        TrustError: anything is not what the manifest says, or is signed by another key.
    """
    where = f"{release.track} {release.version}"
    for artefact in release.artefacts:
        info = store.info(blob_path(artefact.sha256))
        if info is None or info.size != artefact.size:
            raise TrustError(
                "the store lacks this artefact" if info is None else f"has {info.size} bytes, not {artefact.size}",
                where=f"{where}: {artefact.name}",
                remedy="create the release again from the same build: what is missing is written again",
            )
    sums = read_blob(store, release.artefact(ArtefactKind.SUMS))
    if sums != sums_text(release.artefacts):
        raise TrustError("SHA256SUMS does not list the release's artefacts", where=where)
    signature = read_blob(store, release.artefact(ArtefactKind.SUMS_SIGNATURE))
    update = _public(release, policy, "update")
    keyring = Keyring((pysequoia.Cert.from_bytes(base64.b64decode(update)),))
    verify_detached(sums, signature, keyring, f"{where}: SHA256SUMS.gpg")
    if any(artefact.kind == ArtefactKind.UKI for artefact in release.artefacts):
        uki = read_blob(store, release.artefact(ArtefactKind.UKI))
        name = release.artefact(ArtefactKind.UKI).name
        require_signature(uki, [_public(release, policy, "boot").encode()], name)
        command_line = parse_pe(uki, name).text(".cmdline").strip("\0 \n")
        if command_line != release.command_line or f"roothash={release.root_hash}" not in command_line.split():
            raise TrustError("the UKI starts another root than the manifest says", where=name)


def created_tracks(store: ObjectStore, version: str) -> list[str]:
    """Tracks of which a version was created."""
    return sorted(track for track, one in created_releases(store) if one == version)


def created_releases(store: ObjectStore) -> list[tuple[str, str]]:
    """Track and version of every release in the store, whatever it is worth."""
    found = []
    for info in store.list("releases"):
        parts = info.path.split("/")
        if len(parts) == 3 and parts[2].endswith(".json"):
            found.append((parts[1], parts[2].removesuffix(".json")))
    return found


def _require_release_root(state: StoreState) -> None:
    """Refuse a release channel in a store whose own root is a development key's word."""
    root = state.root.signed
    for keyid in root.roles["root"].keyids:
        certificate = certificate_of(root.keys[keyid])
        if not certificate or is_development(x509.load_pem_x509_certificate(certificate)):
            raise TrustError(
                f"the store's root key {keyid[:16]} is a development key, and this channel takes release keys alone",
                remedy="bedplate keys create root --release; bedplate release keys trust ID; then retire the old one",
            )


def _public(release: Release, policy: Policy, role: str) -> str:
    signer = release.signers.get(role)
    known = policy.known(role, signer.fingerprint) if signer is not None else None
    if known is None:
        raise TrustError(
            f"the {role} key that signed it is unknown to the store",
            where=f"{release.track} {release.version}",
            remedy="if it is yours: bedplate release keys trust KEY",
        )
    return known.public


def _writer(workspace: Workspace, place: StorePlace) -> Repository:
    return writer(workspace, read_definition(workspace), place)
