"""Looking at a release store: channels, releases, differences, every byte checked, plain files for a web server."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.flows.release_publish import check_bytes, created_releases, created_tracks
from bedplate.flows.release_store import StorePlace, clock, reader
from bedplate.model.errors import BadInput, TrustError
from bedplate.model.release import Artefact, ArtefactKind, Channel, Release
from bedplate.packages.atomic import replacing
from bedplate.release.client import VerifiedStore, View, read_manifest
from bedplate.release.create import SUMS, SUMS_SIGNATURE
from bedplate.release.diff import ReleaseDiff, diff_releases


@dataclass(frozen=True)
class CreatedRelease:
    """A release in the store; ``state`` says what is wrong with it, or who carries it."""

    track: str
    version: str
    state: str


@dataclass(frozen=True)
class Overview:
    """Everything there is, at a glance."""

    revision: int
    expires: int
    channels: tuple[Channel, ...]
    created: tuple[CreatedRelease, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """One release: ids of the keys that signed its manifest, channels that carry it, channel -> why withdrawn."""

    release: Release
    keys: tuple[str, ...]
    channels: tuple[str, ...]
    withdrawn: Mapping[str, str]


def overview(place: StorePlace) -> Overview:
    """Channels and releases of a store.

    Raises:
        TrustError: the store cannot be believed.
    """
    view = reader(place).refresh()
    created = []
    for track, version in created_releases(place.objects):
        carried = [channel.name for channel in view.channels if version in channel.versions(track)]
        try:
            release = read_manifest(place.objects, view.policy, track, version).release
            state = f"in {', '.join(carried)}" if carried else "not published"
            if release.expires <= clock():
                state += ", expired"
        except (BadInput, TrustError) as error:
            state = f"NOT BELIEVED: {error.message}"
        created.append(CreatedRelease(track, version, state))
    waiting = [info.path.removeprefix("pending/").removesuffix(".json") for info in place.objects.list("pending")]
    return Overview(view.revision, view.expires, view.channels, tuple(created), tuple(waiting))


def look(place: StorePlace, track: str, version: str) -> Look:
    """One release by its signed manifest.

    Raises:
        BadInput: it was never created here.
        TrustError: it cannot be believed.
    """
    store = reader(place)
    view = store.refresh()
    verified = store.created(track, version)
    carried = tuple(channel.name for channel in view.channels if version in channel.versions(track))
    gone = {c.name: one.reason for c in view.channels if (one := c.withdrawn(track, version)) is not None}
    return Look(verified.release, verified.keys, carried, gone)


def compare(place: StorePlace, track: str, old: str, new: str, cves: Mapping[str, Sequence[str]]) -> ReleaseDiff:
    """The difference between two releases, each named by version or by a channel that carries it.

    Raises:
        BadInput: nothing of that name, or more than one track.
    """
    store = reader(place)
    view = store.refresh()
    name = track or _only_track(place, view, old, new)
    before = store.created(name, _version(view, name, old)).release
    after = store.created(name, _version(view, name, new)).release
    return diff_releases(before, facts_of(store, before), after, facts_of(store, after), cves or None)


def facts_of(store: VerifiedStore, release: Release) -> dict[str, Any]:
    """A release's facts."""
    facts = json.loads(store.read(release.artefact(ArtefactKind.FACTS)))
    return facts if isinstance(facts, dict) else {}


def read_cves(file: Path) -> dict[str, list[str]]:
    """CVE id -> source packages, from a JSON file.

    Raises:
        BadInput: not such a file.
    """
    try:
        data = json.loads(file.read_bytes())
        return {str(cve): [str(name) for name in names] for cve, names in data.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BadInput(f"not a list of CVEs ({error})", where=str(file)) from error


def verify_release(place: StorePlace, track: str, version: str) -> int:
    """Read all artefacts of a release and check every signature and digest; gives how many there are.

    Raises:
        TrustError: anything is not what was signed.
    """
    store = reader(place)
    view = store.refresh()
    release = store.created(track, version).release
    check_bytes(place.objects, release, view.policy)
    for artefact in release.artefacts:
        for _ in checked(store, artefact):
            pass
    return len(release.artefacts)


def checked(store: VerifiedStore, artefact: Artefact) -> Any:
    """The artefact's pieces; the last one is followed by an error when all of them together are not what was signed.

    Raises:
        TrustError: too long, too short, or other bytes.
    """
    digest, size = hashlib.sha256(), 0
    for piece in store.stream(artefact):
        digest.update(piece)
        size += len(piece)
        if size > artefact.size:
            break
        yield piece
    if size != artefact.size or digest.hexdigest() != artefact.sha256:
        raise TrustError("these are not the bytes that were signed", where=artefact.name)


def export_channel(place: StorePlace, channel: str, track: str, directory: Path) -> Release:
    """Write what nodes fetch of a channel's newest release into a directory. SHA256SUMS comes last, so that a node
    never reads of a file that is not there yet.

    Raises:
        BadInput: the channel offers nothing of this track.
        TrustError: an artefact is not what was signed.
    """
    store = reader(place)
    newest = store.refresh().channel(channel).newest(track)
    if newest is None:
        raise BadInput(f"{channel} offers nothing of {track}", where=place.objects.url)
    release = store.release(channel, track, newest)
    if release.expires <= clock():
        raise BadInput("it has expired", where=f"{track} {newest}", remedy="create and publish a new version")
    directory.mkdir(parents=True, exist_ok=True)
    listing = {SUMS_SIGNATURE: release.artefact(ArtefactKind.SUMS_SIGNATURE), SUMS: release.artefact(ArtefactKind.SUMS)}
    files = {artefact.name: artefact for artefact in release.artefacts if artefact.update}
    for name, artefact in {**files, **listing}.items():
        if name in files and (directory / name).is_file() and (directory / name).stat().st_size == artefact.size:
            continue
        with replacing(directory / name) as stream:
            for piece in checked(store, artefact):
                stream.write(piece)
        os.utime(directory / name, (release.created, release.created))
    return release


def _only_track(place: StorePlace, view: View, *names: str) -> str:
    channels = {channel.name: channel for channel in view.channels}
    candidates = []
    for name in names:
        if name in channels:
            candidates.append({one.track for one in channels[name].publications})
        else:
            candidates.append(set(created_tracks(place.objects, name)))
    tracks = sorted(set.intersection(*candidates))
    if len(tracks) != 1:
        raise BadInput(
            f"{' and '.join(names)} have no track in common" if not tracks else "there is more than one track",
            details=tracks,
            remedy="name it with --track" if tracks else "see: bedplate release list",
        )
    return tracks[0]


def _version(view: View, track: str, name: str) -> str:
    for channel in view.channels:
        if channel.name == name:
            newest = channel.newest(track)
            if newest is None:
                raise BadInput(f"{name} offers nothing of {track}")
            return newest
    return name
