"""A release store with real keys and signatures and tiny artefacts, and a clock that stands still unless it is set."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedplate.flows.release_store import policy_key, store_signers
from bedplate.model.definition.channels import Channels
from bedplate.model.digest import sha256
from bedplate.model.release import ArtefactKind, Release, SignedBy
from bedplate.release import metadata as md
from bedplate.release.channel import ChannelDocument, Entry, check_manifest_keys, publish, withdraw
from bedplate.release.client import VerifiedStore, read_manifest
from bedplate.release.create import Names, Part, create
from bedplate.release.directory import DirectoryStore
from bedplate.release.keys import StoreSigner, key_of
from bedplate.release.objects import ObjectStore
from bedplate.release.policy import KeyState, Policy
from bedplate.release.repository import Outcome, Repository
from bedplate.release.state import StoreState
from bedplate.trust.keys import KeyStore
from bedplate.trust.roles import ALL_ROLES, ROLES, Kind, role

# Readers use the machine's clock, so what shall hold for them must reach beyond it.
FAR = 20 * 365.0
NOW = 1_800_000_000
ROOT_HASH = "ab" * 32


def channels(release_threshold: int = 1, stable_threshold: int = 1, soak_hours: float = 0.0) -> Channels:
    """Channels that hold for decades."""
    return Channels.model_validate(
        {
            "channel": [
                {"name": "edge", "title": "Edge", "keys": "any"},
                {
                    "name": "stable", "title": "Stable", "after": "edge", "keys": "release",
                    "threshold": stable_threshold, "soak_hours": soak_hours,
                },
                {"name": "lts", "title": "LTS", "after": "stable", "keys": "release"},
            ],
            "expiry": dict.fromkeys(("root", "channel", "snapshot", "timestamp", "release"), FAR),
            "thresholds": {"root": 1, "release": release_threshold},
        }
    )  # fmt: skip


@functools.cache
def _made_keys(kind: Kind) -> Path:
    """Keys of every role, made once: RSA keys take their time."""
    folder = Path(tempfile.mkdtemp(prefix="bedplate-test-keys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    keys = KeyStore(folder / "keys")
    for one in ALL_ROLES:
        keys.create(one.id, kind)
    return folder / "keys"


@dataclass
class World:
    """A store, the keys of one operator, and what it takes to change and to read it."""

    folder: Path
    kind: Kind = Kind.RELEASE
    definition: Channels = field(default_factory=channels)
    now: int = NOW
    objects: ObjectStore = field(init=False)
    keys: KeyStore = field(init=False)
    root: bytes = b""

    def copy(self, folder: Path) -> World:
        """The same world in another directory; what happens there does not touch this one."""
        shutil.copytree(self.folder, folder)
        twin = copy(self)
        twin.folder = folder
        twin.objects = DirectoryStore(folder / "store")
        twin.keys = KeyStore(folder / "keys")
        return twin

    def own_keys(self) -> World:
        """With keys of the store's own roles that no other world has."""
        for one in ("root", "online", "release"):
            shutil.rmtree(self.keys.directory / one)
            self.keys.create(one, self.kind)
        return self

    def __post_init__(self) -> None:
        self.objects = DirectoryStore(self.folder / "store")
        shutil.copytree(_made_keys(self.kind), self.folder / "keys")
        self.keys = KeyStore(self.folder / "keys")

    def initialise(self, others: Sequence[KeyStore] = ()) -> World:
        """Make the store; the release keys of ``others`` count too."""
        policy = Policy((), ()).with_channels(self.definition)
        for one in (*ROLES, role("release")):
            policy = policy.with_key(policy_key(self.keys, self.keys.ensure(one.id), KeyState.ACTIVE, self.now))
        for other in others:
            policy = policy.with_key(policy_key(other, other.ensure("release"), KeyState.ACTIVE, self.now))
        top = md.RoleKeys((self.store_key("root"),), (self.store_key("online"),))
        root = md.first_root(top, self.definition.expiry, self.now)
        self.root = md.encode(md.sign(root, [top.root[0].keyid], self.signers()))
        Repository.initialise(self.objects, self.root, policy, self.signers(), self.definition.expiry, self.clock)
        return self

    def clock(self) -> int:
        """The time."""
        return self.now

    def store_key(self, name: str) -> md.SSlibKey:
        """The key in use for a role of the store's metadata."""
        return key_of(self.keys.open(self.keys.ensure(name)).public)

    def signers(
        self, keys: KeyStore | None = None, roles: Sequence[str] = ("root", "release", "online")
    ) -> list[StoreSigner]:
        """Signers with the keys of an operator."""
        return store_signers(keys or self.keys, roles)

    def repository(
        self, signers: Sequence[StoreSigner] | None = None, objects: ObjectStore | None = None
    ) -> Repository:
        """The store for writing."""
        at_hand = self.signers() if signers is None else signers
        return Repository(objects or self.objects, self.root, at_hand, self.definition.expiry, self.clock)

    def reader(self, name: str = "reader", objects: ObjectStore | None = None) -> VerifiedStore:
        """The store for reading; one name is one reader that remembers."""
        return VerifiedStore(objects or self.objects, self.root, self.folder / name)

    def draft(self, version: str, track: str = "container", **changes: object) -> Release:
        """A release without artefacts."""
        signers = {
            one.id: SignedBy(
                self.keys.ensure(one.id).fingerprint.lower(), self.keys.ensure(one.id).kind is Kind.DEVELOPMENT
            )
            for one in ROLES
        }
        release = Release(
            track=track, version=version, image=f"bedplate-{track}", created=self.now, expires=self.now + 10**9,
            artefacts=(), root_hash=ROOT_HASH, command_line=f"quiet roothash={ROOT_HASH}", kernel="6.12.1",
            pcr11={"": "00" * 32}, build=sha256(version.encode()), lock_sha256="11" * 32, signers=signers,
        )  # fmt: skip
        return replace(release, **changes)  # type: ignore[arg-type]

    def parts(self, version: str, track: str = "container") -> list[Part]:
        """Small artefacts that differ from version to version."""
        names = Names(f"bedplate-{track}", version, ROOT_HASH)
        return [
            Part(ArtefactKind.ROOT, names.root, f"root {version}".encode() * 40, update=True),
            Part(ArtefactKind.VERITY, names.verity, f"hashes {version}".encode() * 10, update=True),
            Part(ArtefactKind.UKI, names.uki, f"kernel {version}".encode() * 20, update=True),
            Part(ArtefactKind.LOCK, names.other("lock.toml"), b"version = 1\n"),
        ]

    def create(
        self, version: str, track: str = "container", signers: Sequence[StoreSigner] | None = None, **changes: object
    ) -> Release:
        """Create a release."""
        at_hand = self.signers(roles=["release"]) if signers is None else signers
        return create(
            self.objects, self.draft(version, track, **changes), self.parts(version, track),
            self.keys.signer("update").sign, at_hand,
        )  # fmt: skip

    def publish(
        self, version: str, channel: str, track: str = "container", repository: Repository | None = None
    ) -> Outcome:
        """Publish a release, its manifest checked."""

        def change(state: StoreState) -> ChannelDocument:
            verified = read_manifest(self.objects, state.policy, track, version)
            rule = state.policy.channel(channel)
            check_manifest_keys(verified.keys, state.policy, rule.keys, version)
            entry = Entry(track, version, sha256(verified.payload), len(verified.payload), self.now)
            document = state.documents.get(channel, ChannelDocument(channel))
            return publish(document, verified.release, entry, state.policy, state.documents.get(rule.after))

        return (repository or self.repository()).change_channel(channel, change, f"publish {version}")

    def withdraw(self, version: str, channel: str, reason: str = "does not boot", track: str = "container") -> Outcome:
        """Withdraw a release."""

        def change(state: StoreState) -> ChannelDocument:
            return withdraw(state.documents[channel], track, version, reason, self.now)

        return self.repository().change_channel(channel, change, f"withdraw {version}")


@functools.cache
def published() -> World:
    """A store with 1.0.1 in edge, and a reader that has seen it. Made once: copy it."""
    folder = Path(tempfile.mkdtemp(prefix="bedplate-test-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    world = World(folder / "world").initialise()
    world.create("1.0.1")
    world.publish("1.0.1", "edge")
    world.reader().refresh()
    return world


def operator(folder: Path, kind: Kind = Kind.RELEASE) -> KeyStore:
    """The keys of one more operator: a release key."""
    keys = KeyStore(folder)
    keys.create("release", kind)
    return keys


def tree_of(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of everything below a directory."""
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
