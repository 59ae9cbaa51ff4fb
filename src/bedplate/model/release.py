"""Releases, their artefacts, channels and withdrawals: the values the store, the roll-out decision, the update service
and the pages share.

A release is of one track and one version. ``bedplate release create`` makes one for each track it is given, all with
one version. The manifest's plain data is read and written here; who signed it is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from bedplate.model.errors import BadInput
from bedplate.model.version import compare_versions, require_version, version_key

RELEASE_FORMAT = 1
MAX_NAME = 160
_TRACK = re.compile(r"[a-z][a-z0-9-]{0,30}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMPRESSIONS = ("none", "gz", "xz")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ArtefactKind(StrEnum):
    """What a file of a release is. Further kinds may be added; readers leave alone what they do not know."""

    ROOT = "root"
    VERITY = "verity"
    UKI = "uki"
    UKI_TREE = "uki-tree"
    DISK = "disk"
    LOCK = "lock"
    FACTS = "facts"
    PACKAGES = "packages"
    SNAPSHOT = "snapshot"
    SBOM = "sbom"
    PROVENANCE = "provenance"
    SUMS = "sums"
    SUMS_SIGNATURE = "sums-signature"


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file of a release.

    ``name`` is the file name nodes ask for; ``sha256`` and ``size`` (bytes) are of the file as it is stored and sent;
    ``raw_sha256`` and ``raw_size`` are of what it unpacks to, equal to the former for ``compression`` "none".
    ``update`` says that systemd-sysupdate fetches it, so that it stands in SHA256SUMS.
    """

    kind: str
    name: str
    sha256: str
    size: int
    compression: str = "none"
    raw_sha256: str = ""
    raw_size: int = 0
    update: bool = False


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Whose key a role's signature in this release is: hex fingerprint, and whether it is a development key."""

    fingerprint: str
    development: bool


@dataclass(frozen=True, slots=True)
class Release:
    """One immutable release of one track.

    ``created`` and ``expires`` are seconds since the epoch; nobody is offered a release after ``expires``.
    ``replaces`` is the version that came before it, empty for the first. ``floor`` is the lowest version from which a
    node may go to this one directly; an older node goes to a release at the floor first. Empty: any.
    ``root_hash`` is empty where the root is not verified (a writable one). ``pcr11`` maps phase paths to the expected
    hex values of PCR 11, ``signers`` roles (boot, pcr, update, packages) to the keys that vouch for the parts.
    ``build`` is the identity of the build, ``lock_sha256`` of its lock.
    """

    track: str
    version: str
    image: str
    created: int
    expires: int
    artefacts: tuple[Artefact, ...]
    root_hash: str
    command_line: str
    kernel: str
    pcr11: Mapping[str, str]
    build: str
    lock_sha256: str
    replaces: str = ""
    floor: str = ""
    reboot: bool = True
    notes: str = ""
    signers: Mapping[str, SignedBy] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Track and version: what names a release."""
        return self.track, self.version

    @property
    def partition_uuids(self) -> tuple[UUID, UUID]:
        """UUIDs of the root and the verity partition: first and last 128 bits of the root hash.

        Raises:
            BadInput: the root of this track is not verified.
        """
        if not self.root_hash:
            raise BadInput("there is no root hash", where=f"{self.track} {self.version}")
        return UUID(self.root_hash[:32]), UUID(self.root_hash[-32:])

    @property
    def development(self) -> bool:
        """Whether any part was signed with a development key."""
        return any(signer.development for signer in self.signers.values())

    def artefact(self, kind: str) -> Artefact:
        """The artefact of a kind.

        Raises:
            BadInput: the release has none.
        """
        for artefact in self.artefacts:
            if artefact.kind == kind:
                return artefact
        raise BadInput(f"the release has no {kind}", where=f"{self.track} {self.version}")

    def named(self, name: str) -> Artefact | None:
        """The artefact with a file name, None when the release has none."""
        return next((artefact for artefact in self.artefacts if artefact.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """The manifest's plain data."""
        return {**asdict(self), "format": RELEASE_FORMAT, "artefacts": [asdict(one) for one in self.artefacts]}


@dataclass(frozen=True, slots=True)
class Publication:
    """A release in a channel since ``at`` (seconds since the epoch)."""

    track: str
    version: str
    at: int


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A release that nobody may be offered any more, since ``at`` (seconds since the epoch), and why."""

    track: str
    version: str
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class Channel:
    """What a channel carries, as its signed metadata says. ``revision`` counts its changes, ``expires`` (seconds since
    the epoch) is when that metadata stops being believed."""

    name: str
    title: str
    publications: tuple[Publication, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()
    revision: int = 0
    expires: int = 0

    def withdrawn(self, track: str, version: str) -> Withdrawal | None:
        """The withdrawal of a release from this channel, None when it is not withdrawn."""
        return next((one for one in self.withdrawals if (one.track, one.version) == (track, version)), None)

    def versions(self, track: str) -> tuple[str, ...]:
        """Versions of a track that may be offered, oldest first."""
        usable = [one.version for one in self.publications if one.track == track]
        return tuple(sorted((v for v in usable if self.withdrawn(track, v) is None), key=version_key))

    def newest(self, track: str) -> str | None:
        """The newest version of a track that may be offered, None when there is none."""
        versions = self.versions(track)
        return versions[-1] if versions else None


def require_track(text: str, where: str = "") -> str:
    """``text`` when it can be a track's id.

    Raises:
        BadInput: anything else.
    """
    if not _TRACK.fullmatch(text):
        raise BadInput(f"{text[:40]!r} cannot be the id of a track", where=where)
    return text


def parse_release(data: Any, where: str) -> Release:
    """A release from its manifest's plain data. Every value is checked; a key that is not known is an error.

    Raises:
        BadInput: any mistakes, all of them in the details.
    """
    mistakes: list[str] = []
    reader = _Reader(data, mistakes)
    if reader.data.get("format") != RELEASE_FORMAT:
        raise BadInput("not a release manifest of a format this Bedplate reads", where=where)
    reader.number("format")
    rows, people = reader.rows("artefacts"), reader.children("signers")
    artefacts = tuple(_artefact(row) for row in rows)
    signers = {role: SignedBy(one.text("fingerprint"), one.truth("development")) for role, one in people.items()}
    release = Release(
        track=reader.text("track"),
        version=reader.text("version"),
        image=reader.text("image"),
        created=reader.number("created"),
        expires=reader.number("expires"),
        artefacts=artefacts,
        root_hash=reader.text("root_hash"),
        command_line=reader.text("command_line"),
        kernel=reader.text("kernel"),
        pcr11={phase: str(value) for phase, value in reader.table("pcr11").items()},
        build=reader.text("build"),
        lock_sha256=reader.digest("lock_sha256"),
        replaces=reader.text("replaces"),
        floor=reader.text("floor"),
        reboot=reader.truth("reboot"),
        notes=reader.text("notes"),
        signers=signers,
    )
    for one in (reader, *rows, *people.values()):
        one.finish()
    mistakes += _mistakes(release)
    if mistakes:
        raise BadInput("the release manifest is wrong", where=where, details=mistakes)
    return release


def _artefact(reader: _Reader) -> Artefact:
    return Artefact(
        kind=reader.text("kind"),
        name=reader.text("name"),
        sha256=reader.digest("sha256"),
        size=reader.number("size"),
        compression=reader.text("compression"),
        raw_sha256=reader.digest("raw_sha256"),
        raw_size=reader.number("raw_size"),
        update=reader.truth("update"),
    )


def _mistakes(release: Release) -> list[str]:
    """What is wrong in values that have the right types."""
    mistakes = []
    if not _TRACK.fullmatch(release.track):
        mistakes.append(f"track: {release.track[:40]!r}")
    if not _NAME.fullmatch(release.image):
        mistakes.append(f"image: {release.image[:40]!r}")
    for name, version in (("version", release.version), ("replaces", release.replaces), ("floor", release.floor)):
        try:
            if version or name == "version":
                require_version(version)
        except BadInput as error:
            mistakes.append(f"{name}: {error.message}")
    if release.floor and compare_versions(release.floor, release.version) > 0:
        mistakes.append(f"floor: {release.floor} is above the release itself")
    if release.replaces and compare_versions(release.replaces, release.version) >= 0:
        mistakes.append(f"replaces: {release.replaces} is not older than the release")
    if release.root_hash and not _SHA256.fullmatch(release.root_hash):
        mistakes.append("root_hash: not 64 hex digits")
    if release.expires <= release.created:
        mistakes.append("expires: not after it was created")
    mistakes += [f"pcr11: {value[:70]!r}" for value in release.pcr11.values() if not _SHA256.fullmatch(value)]
    names = [artefact.name for artefact in release.artefacts]
    mistakes += [f"two artefacts are called {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
    for name in names:
        # The name becomes part of URLs and paths on nodes.
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            mistakes.append(f"artefact {name[:MAX_NAME]!r}: not a file name")
    mistakes += [
        f"artefact {one.name[:MAX_NAME]!r}: unknown compression"
        for one in release.artefacts
        if one.compression not in _COMPRESSIONS
    ]
    return mistakes


class _Reader:
    """Reads typed values out of a table; what is missing, wrong or unknown becomes a line of ``mistakes``."""

    def __init__(self, data: Any, mistakes: list[str], name: str = "") -> None:
        self.data: dict[str, Any] = data if isinstance(data, dict) else {}
        self.mistakes = mistakes
        self.name = name
        self.seen: set[str] = set()

    def wrong(self, key: str, what: str) -> None:
        self.mistakes.append(f"{self.name}{key}: {what}")

    def _get(self, key: str, kind: type, fallback: Any) -> Any:
        self.seen.add(key)
        value = self.data.get(key)
        if type(value) is not kind:
            self.wrong(key, "is missing" if value is None else "not of the right type")
            return fallback
        return value

    def text(self, key: str) -> str:
        return str(self._get(key, str, ""))

    def number(self, key: str) -> int:
        value = int(self._get(key, int, 0))
        if value < 0:
            self.wrong(key, "below zero")
        return value

    def truth(self, key: str) -> bool:
        return bool(self._get(key, bool, False))

    def table(self, key: str) -> dict[str, Any]:
        return {str(name): value for name, value in self._get(key, dict, {}).items()}

    def digest(self, key: str) -> str:
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            self.wrong(key, "not a SHA-256")
        return value

    def rows(self, key: str) -> list[_Reader]:
        rows = self._get(key, list, [])
        return [_Reader(row, self.mistakes, f"{self.name}{key}[{number}].") for number, row in enumerate(rows)]

    def children(self, key: str) -> dict[str, _Reader]:
        return {n: _Reader(v, self.mistakes, f"{self.name}{key}.{n[:40]}.") for n, v in self.table(key).items()}

    def finish(self) -> None:
        for key in sorted(map(str, self.data.keys() - self.seen)):
            self.wrong(key[:40], "no such key")
