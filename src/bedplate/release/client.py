"""Reading a store and believing only what is signed: ``open_store(url, root) -> VerifiedStore``.

Metadata goes through python-tuf's client (``tuf.ngclient``), which follows the specification's client workflow: chained
roots, no older version than was ever seen, nothing expired. What was seen is kept in a directory of the reader's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.model.release import Artefact, Channel, Release
from bedplate.release.channel import ChannelDocument, channel_target, check_signers, parse_channel
from bedplate.release.envelope import MAX_ENVELOPE, VerifiedRelease, verify_release
from bedplate.release.metadata import check_lengths_and_hashes
from bedplate.release.objects import NotFound, ObjectStore, blob_path
from bedplate.release.policy import POLICY_TARGET, Policy, parse_policy

_SCHEME = "store:///"
MAX_SMALL = 16 << 20


class _StoreFetcher(FetcherInterface):
    """python-tuf's downloads, from an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(_SCHEME)
        try:
            pieces = self.store.stream(path)
            # The first piece is asked for here, so that what is missing is known before anything is used.
            first = next(pieces, b"")
        except NotFound as error:
            raise DownloadHTTPError(str(error), 404) from error
        return _joined(first, pieces)


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


@dataclass(frozen=True)
class View:
    """One consistent state of the store. ``revision`` counts changes; ``expires`` (seconds since the epoch) is when the
    first part of it stops being believed."""

    revision: int
    expires: int
    policy: Policy
    channels: tuple[Channel, ...]
    documents: tuple[ChannelDocument, ...]

    def channel(self, name: str) -> Channel:
        """A channel.

        Raises:
            BadInput: there is none of this name.
        """
        self.policy.channel(name)
        return next(channel for channel in self.channels if channel.name == name)


class VerifiedStore:
    """A store of which nothing is given out that was not verified. Safe to use from several threads.

    Args:
        store: Its bytes.
        root: A root's metadata that is trusted already; used on first use only, then what was seen last.
        seen: A directory of this reader's own, kept between runs: it makes going back in time impossible.
    """

    def __init__(self, store: ObjectStore, root: bytes, seen: Path) -> None:
        self.objects = store
        self._root = root
        self._seen = seen
        self._view: View | None = None
        self._releases: dict[str, VerifiedRelease] = {}
        self._lock = Lock()

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.objects.url

    @property
    def view(self) -> View:
        """What was read last; read now when nothing was yet."""
        return self._view or self.refresh()

    def refresh(self) -> View:
        """Read the store's newest state.

        Raises:
            TrustError: forged, replayed, expired or incomplete metadata; the last view stays as it was.
            BedplateError: the store cannot be reached.
        """
        with self._lock:
            self._seen.mkdir(parents=True, exist_ok=True)
            try:
                view = self._read()
            except ExpiredMetadataError as error:
                raise TrustError(
                    f"the store's metadata has expired ({error}), or this machine's clock is wrong",
                    where=self.url,
                    remedy="renew it: bedplate release refresh; and compare the clock",
                ) from error
            except DownloadHTTPError as error:
                raise TrustError(
                    "the store lacks metadata that its own metadata names",
                    where=self.url,
                    remedy="bedplate release show",
                ) from error
            except DownloadLengthMismatchError as error:
                raise TrustError(f"larger than it may be: {error}", where=self.url) from error
            except DownloadError as error:
                if isinstance(error.__cause__, BedplateError):
                    raise error.__cause__ from error
                raise BedplateError(f"the store cannot be read: {error}", where=self.url) from error
            except RepositoryError as error:
                raise TrustError(
                    f"the store's metadata cannot be believed: {error}",
                    where=self.url,
                    remedy="find out who wrote to the store; nothing of it was used",
                ) from error
            except OSError as error:
                raise BedplateError(f"cannot keep what was seen ({error.strerror})", where=str(self._seen)) from error
            self._view = view
            return view

    def releases(self, channel: str, track: str) -> tuple[Release, ...]:
        """What a channel offers of a track, oldest first. A release that can no longer be believed (a key was revoked,
        its manifest is gone) is left out."""
        found = []
        for version in self.view.channel(channel).versions(track):
            try:
                found.append(self.release(channel, track, version))
            except TrustError:
                continue
        return tuple(found)

    def release(self, channel: str, track: str, version: str) -> Release:
        """A release as a channel carries it, withdrawn or not.

        Raises:
            BadInput: the channel never carried it.
            TrustError: its manifest is not the one the channel names, or is signed by keys that no longer count.
        """
        view = self.view
        rule = view.policy.channel(channel)
        document = next(one for one in view.documents if one.name == channel)
        entry = document.entry(track, version)
        where = f"{track} {version}"
        if entry is None:
            raise BadInput(f"{channel} carries no such release", where=where)
        verified = self._manifest(view.policy, track, version, entry.manifest)
        if verified.release.key != (track, version):
            raise TrustError("the manifest is another release's", where=where)
        check_signers(verified.release, view.policy, rule.keys)
        return verified.release

    def created(self, track: str, version: str) -> VerifiedRelease:
        """A release by its own signed manifest, published or not.

        Raises:
            BadInput: it was never created here.
            TrustError: its manifest is not signed by enough keys that count.
        """
        return read_manifest(self.objects, self.view.policy, track, version)

    def read(self, artefact: Artefact, limit: int = MAX_SMALL) -> bytes:
        """A small artefact, checked.

        Raises:
            TrustError: the bytes are not those of the manifest.
            BadInput: it is larger than ``limit`` bytes.
        """
        if artefact.size > limit:
            raise BadInput(f"{artefact.name} has {artefact.size} bytes: too many to hold at once")
        return read_blob(self.objects, artefact)

    def stream(self, artefact: Artefact, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """An artefact's bytes as they lie in the store, unchecked: whoever receives them checks the signed digest."""
        return self.objects.stream(blob_path(artefact.sha256), start, length)

    def local(self, artefact: Artefact) -> Path | None:
        """The artefact as a file of this machine, for sendfile; None for a store elsewhere."""
        return self.objects.local(blob_path(artefact.sha256))

    def public_url(self, artefact: Artefact, seconds: int = 3600) -> str | None:
        """A URL to redirect a node to; None where the store has none."""
        return self.objects.public_url(blob_path(artefact.sha256), seconds)

    def _manifest(self, policy: Policy, track: str, version: str, digest: str) -> VerifiedRelease:
        known = self._releases.get(digest)
        if known is not None and self._still_counts(known, policy):
            return known
        verified = read_manifest(self.objects, policy, track, version)
        if sha256(verified.payload) != digest:
            raise TrustError("the manifest is not the one that was published", where=f"{track} {version}")
        self._releases[digest] = verified
        return verified

    @staticmethod
    def _still_counts(known: VerifiedRelease, policy: Policy) -> bool:
        counting = {key.keyid for key in policy.manifest_keys()}
        return len(counting & set(known.keys)) >= policy.release_threshold

    def _read(self) -> View:
        config = UpdaterConfig(app_user_agent="bedplate")
        first = not (self._seen / "root.json").exists()
        updater = Updater(
            str(self._seen),
            f"{_SCHEME}metadata/",
            fetcher=_StoreFetcher(self.objects),
            config=config,
            bootstrap=self._root if first else None,
        )
        updater.refresh()
        policy = parse_policy(json.loads(self._target(updater, POLICY_TARGET) or b"{}"), POLICY_TARGET)
        channels, documents = [], []
        trusted = updater._trusted_set
        expires = [trusted.timestamp.expires, trusted.snapshot.expires, trusted.root.expires]
        for rule in policy.channels:
            document, revision, end = ChannelDocument(rule.name), 0, trusted.timestamp.expires
            if f"{rule.name}.json" in trusted.snapshot.meta:
                body = self._target(updater, channel_target(rule.name))
                if body is None:
                    raise TrustError("the channel's metadata names no document", where=rule.name)
                document = parse_channel(json.loads(body), rule.name, rule.name)
                revision, end = trusted[rule.name].version, trusted[rule.name].expires
            documents.append(document)
            expires.append(end)
            channels.append(document.channel(rule, revision, int(end.timestamp())))
        return View(trusted.timestamp.version, int(min(expires).timestamp()), policy, tuple(channels), tuple(documents))

    def _target(self, updater: Updater, path: str) -> bytes | None:
        target = updater.get_targetinfo(path)
        if target is None:
            return None
        try:
            data = self.objects.get(blob_path(target.hashes["sha256"]), target.length).data
        except NotFound as error:
            raise TrustError("the store lacks what its metadata names", where=path) from error
        check_lengths_and_hashes(target, data, path)
        return data


def envelope_path(track: str, version: str) -> str:
    """Where a release's signed manifest lies."""
    return f"releases/{track}/{version}.json"


def read_manifest(store: ObjectStore, policy: Policy, track: str, version: str) -> VerifiedRelease:
    """See :meth:`VerifiedStore.created`."""
    where = f"{track} {version}"
    try:
        data = store.get(envelope_path(track, version), MAX_ENVELOPE).data
    except NotFound as error:
        raise BadInput("no such release was created here", where=where, remedy="see: bedplate release list") from error
    verified = verify_release(data, policy.manifest_keys(), policy.release_threshold, where)
    if verified.release.key != (track, version):
        raise TrustError("the manifest is another release's", where=where)
    return verified


def read_blob(store: ObjectStore, artefact: Artefact) -> bytes:
    """A whole artefact, checked.

    Raises:
        TrustError: the bytes are missing, cut short, longer, or not those of the manifest.
    """
    try:
        data = store.get(blob_path(artefact.sha256), artefact.size).data
    except NotFound as error:
        raise TrustError("the store lacks this artefact", where=artefact.name) from error
    if len(data) != artefact.size or sha256(data) != artefact.sha256:
        raise TrustError("these are not the bytes that were signed; nothing of them was used", where=artefact.name)
    return data
