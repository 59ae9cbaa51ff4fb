"""What the service may hand out: signed listings and files of releases, and what channels carry. Read, never made.

A :class:`Shelf` is one immutable look at the release store; the service loads a new one beside the running one and
swaps them. Nothing here signs, and nothing but bytes of the store reaches a node.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from bedplate.fleet.values import ReleaseFacts
from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.model.release import Channel, Publication, Release, Withdrawal, parse_release
from bedplate.model.version import compare_versions, version_key

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.gpg"
# A listing is three lines; a channel file a few thousand publications.
MAX_LISTING = 1 << 20
MAX_METADATA = 16 << 20


@dataclass(frozen=True, slots=True)
class ServedFile:
    """One file nodes may fetch: on this machine's disk (``path``) or elsewhere (``url``); ``size`` in bytes. ``last``
    marks the file a node fetches last (the UKI), after which it reboots."""

    name: str
    size: int
    sha256: str
    path: str = ""
    url: str = ""
    last: bool = False


@dataclass(frozen=True, slots=True)
class Shelved:
    """One release as it is handed out. ``sums`` and ``signature`` are the signed bytes."""

    release: Release
    facts: ReleaseFacts
    sums: bytes
    signature: bytes
    files: Mapping[str, ServedFile]


@dataclass(frozen=True, slots=True)
class Shelf:
    """One look at the store: releases by track and version, channels by name."""

    releases: Mapping[tuple[str, str], Shelved] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    _quiet: dict[tuple[str, str], Shelved | None] = field(default_factory=dict)

    def get(self, track: str, version: str) -> Shelved | None:
        """The release of a track and version, None when the store does not hold it."""
        return self.releases.get((track, version))

    def quiet(self, track: str, version: str) -> Shelved | None:
        """A release whose listing holds nothing newer for a node that runs ``version``: that version itself, else the
        newest older one. None when the store holds neither."""
        exact = self.releases.get((track, version))
        if exact is not None:
            return exact
        asked = (track, version)
        if asked not in self._quiet:
            if len(self._quiet) >= 1024:
                # Nodes choose what they say they run: remember a bounded number of answers.
                self._quiet.clear()
            older = [v for t, v in self.releases if t == track and compare_versions(v, version) < 0]
            self._quiet[asked] = self.releases[track, max(older, key=version_key)] if older else None
        return self._quiet[asked]

    def facts(self, track: str, version: str, channel: str) -> ReleaseFacts | None:
        """What decisions need to know of a release in a channel, its withdrawal included."""
        shelved = self.get(track, version)
        if shelved is None:
            return None
        carried = self.channels.get(channel)
        withdrawal = carried.withdrawn(track, version) if carried is not None else None
        if withdrawal is None:
            return shelved.facts
        return ReleaseFacts(
            version=version,
            digest=shelved.facts.digest,
            track=track,
            floor=shelved.facts.floor,
            withdrawn=withdrawal.reason or "no reason given",
            expires=shelved.facts.expires,
            changed_packages=shelved.facts.changed_packages,
        )


class Catalog(Protocol):
    """Where shelves come from."""

    def load(self) -> Shelf:
        """Look at the store now.

        Raises:
            BedplateError: it cannot be read, or does not prove what it claims. The shelf before stays in use.
        """
        ...


class DirectoryCatalog:
    """Releases as plain files: ``TRACK/VERSION/`` with ``release.json`` (the manifest), ``SHA256SUMS``,
    ``SHA256SUMS.gpg`` and the files, and ``channels.json``. For a store somebody else has verified, such as one just
    exported; the service checks that the listing says what the manifest says, not who signed it (nodes do).
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def load(self) -> Shelf:
        if not self.root.is_dir():
            raise BadInput("no such directory of releases", where=str(self.root))
        releases: dict[tuple[str, str], Shelved] = {}
        for manifest in sorted(self.root.glob("*/*/release.json")):
            shelved = self._release(manifest)
            releases[shelved.release.key] = shelved
        return Shelf(MappingProxyType(releases), self._channels())

    def _release(self, manifest: Path) -> Shelved:
        content = read_bounded(manifest, MAX_METADATA)
        release = parse_release(_json(content, manifest), str(manifest))
        if (release.track, release.version) != (manifest.parent.parent.name, manifest.parent.name):
            raise TrustError("the manifest is of another release than its directory", where=str(manifest))
        directory = manifest.parent
        return shelve(
            release,
            digest=hashlib.sha256(content).hexdigest(),
            sums=read_bounded(directory / SUMS, MAX_LISTING),
            signature=read_bounded(directory / SIGNATURE, MAX_LISTING),
            locate=lambda name: (str(directory / name), ""),
        )

    def _channels(self) -> dict[str, Channel]:
        path = self.root / "channels.json"
        if not path.exists():
            return {}
        data = _json(read_bounded(path, MAX_METADATA), path)
        try:
            return {
                str(name): Channel(
                    name=str(name),
                    title=str(one.get("title", name)),
                    publications=tuple(Publication(**row) for row in one.get("publications", [])),
                    withdrawals=tuple(Withdrawal(**row) for row in one.get("withdrawals", [])),
                    revision=int(one.get("revision", 0)),
                    expires=int(one.get("expires", 0)),
                )
                for name, one in data.items()
            }
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput("not a file of channels", where=str(path), details=[str(error)]) from error


class Locate(Protocol):
    """Where a file of a release is: a path on this machine or a URL, the other one empty."""

    def __call__(self, name: str) -> tuple[str, str]: ...


def shelve(release: Release, *, digest: str, sums: bytes, signature: bytes, locate: Locate) -> Shelved:
    """A release ready to be handed out.

    Args:
        digest: Hex SHA-256 of the signed manifest.
        sums: SHA256SUMS as signed; ``signature`` the detached OpenPGP signature.
        locate: Where each file is.

    Raises:
        TrustError: the listing names other files or digests than the manifest.
    """
    listed = parse_sums(sums, f"{release.track} {release.version}")
    expected = {one.name: one.sha256 for one in release.artefacts if one.update}
    if listed != expected:
        odd = sorted(name for name in listed.keys() | expected.keys() if listed.get(name) != expected.get(name))
        raise TrustError(
            "SHA256SUMS and the manifest do not agree",
            where=f"{release.track} {release.version}",
            details=odd[:10],
            remedy="make the release anew",
        )
    files: dict[str, ServedFile] = {}
    for one in release.artefacts:
        path, url = locate(one.name)
        files[one.name] = ServedFile(one.name, one.size, one.sha256, path, url, last=one.kind == "uki")
    facts = ReleaseFacts(
        version=release.version,
        digest=digest,
        track=release.track,
        floor=release.floor,
        expires=float(release.expires),
    )
    return Shelved(release, facts, sums, signature, MappingProxyType(files))


def parse_sums(content: bytes, where: str) -> dict[str, str]:
    """Names and digests of a SHA256SUMS file (coreutils' format, binary or text mode).

    Raises:
        TrustError: a line that is not one.
    """
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        digest, separator, name = line[:64], line[64:66], line[66:]
        if len(digest) != 64 or separator not in ("  ", " *") or not name or not set(digest) <= set("0123456789abcdef"):
            raise TrustError("SHA256SUMS has a line that is not one", where=where, details=[line[:100]])
        found[name] = digest
    return found


def read_bounded(path: Path, limit: int) -> bytes:
    """A file's content.

    Raises:
        BedplateError: it cannot be read, or is larger than ``limit`` bytes.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise BedplateError(f"cannot read ({error.strerror})", where=str(path)) from error
    if len(content) > limit:
        raise BedplateError("larger than such a file can be", where=str(path))
    return content


def _json(content: bytes, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput("not valid JSON", where=str(path), details=[str(error)]) from error
    if not isinstance(data, dict):
        raise BadInput("not a JSON object", where=str(path))
    return data
