"""The release store of a workspace: where it is, which root is trusted for it, and the keys at hand to change it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Root

from bedplate.flows.definition import read_definition
from bedplate.flows.keys import key_store
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.errors import BadInput
from bedplate.packages.atomic import replacing
from bedplate.release import metadata as md
from bedplate.release.client import VerifiedStore
from bedplate.release.keys import StoreSigner, key_of
from bedplate.release.objects import ObjectStore
from bedplate.release.places import open_objects
from bedplate.release.policy import KeyState, Policy, PolicyKey, openpgp_public
from bedplate.release.repository import Repository
from bedplate.release.state import metadata_path
from bedplate.trust.keys import KeyInfo, KeyStore
from bedplate.trust.roles import ROLES, STORE_ROLES, Form, Kind, role

_ROOT_NAME = "root.json"


def clock() -> int:
    """Now, in seconds since the epoch."""
    return int(time.time())


@dataclass(frozen=True)
class StorePlace:
    """A store by its name, and the directory that keeps what this user trusts and has seen of it."""

    objects: ObjectStore
    pins: Path

    @property
    def root(self) -> bytes:
        """The trusted root's metadata.

        Raises:
            BadInput: none is trusted yet.
        """
        try:
            return (self.pins / _ROOT_NAME).read_bytes()
        except FileNotFoundError as error:
            raise BadInput(
                "no root is trusted for this release store yet",
                where=self.objects.url,
                remedy="make the store: bedplate release init; or name its root, which its owner gave you: "
                "bedplate release trust ROOT.json",
            ) from error

    @property
    def trusted(self) -> bool:
        """Whether a root is trusted."""
        return (self.pins / _ROOT_NAME).is_file()

    def pin(self, root: bytes) -> None:
        """Trust a root from now on."""
        self.pins.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(self.pins / _ROOT_NAME) as stream:
            stream.write(root)

    @property
    def written(self) -> int:
        """The version of the timestamp this user wrote or saw last."""
        try:
            return int((self.pins / "version").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def note(self, version: int) -> None:
        """Remember the version of the timestamp."""
        if version > self.written:
            with replacing(self.pins / "version") as stream:
                stream.write(b"%d\n" % version)


def release_place(workspace: Workspace, name: str = "") -> StorePlace:
    """The store called ``name``; without one that of ``BEDPLATE_STORE``, else ``releases`` among the images.

    Raises:
        BadInput: a URL of an unknown kind.
    """
    objects = open_objects(name or os.environ.get("BEDPLATE_STORE") or str(workspace.output / "releases"))
    known_as = hashlib.sha256(objects.url.encode()).hexdigest()[:16]
    return StorePlace(objects, workspace.keys / "stores" / known_as)


def reader(place: StorePlace) -> VerifiedStore:
    """The store for reading.

    Raises:
        BadInput: no root is trusted for it.
    """
    return VerifiedStore(place.objects, place.root, place.pins / "seen")


def writer(workspace: Workspace, definition: DefinitionSet, place: StorePlace) -> Repository:
    """The store for changing it, with the keys at hand.

    Raises:
        BadInput: no root is trusted for it.
    """
    signers = store_signers(key_store(workspace, definition))
    return Repository(place.objects, place.root, signers, definition.channels.expiry, clock, place.written)


_STORE_ROLES = tuple(one.id for one in STORE_ROLES)


def store_signers(keys: KeyStore, roles: Collection[str] = _STORE_ROLES) -> list[StoreSigner]:
    """Signers with every key at hand for the store's metadata, or for some of its roles."""
    found = []
    for info in keys.list():
        if info.role in roles:
            signer = keys.open(info)
            found.append(StoreSigner(signer.public, signer.sign))
    return found


def policy_key(keys: KeyStore, info: KeyInfo, state: KeyState, since: int) -> PolicyKey:
    """A key of the key store as the policy names it."""
    public = keys.open(info).public
    text = openpgp_public(public) if role(info.role).form is Form.OPENPGP else public.decode()
    return PolicyKey(info.role, info.fingerprint.lower(), state, info.kind is Kind.DEVELOPMENT, text, since)


def initialise(workspace: Workspace, place: StorePlace) -> Repository:
    """Make a store with the keys in use (development keys where there are none), or finish making it; a store that is
    there already is left as it is.

    Raises:
        Conflict: another store is there.
    """
    definition = read_definition(workspace)
    keys, now = key_store(workspace, definition), clock()
    policy = Policy((), ()).with_channels(definition.channels)
    for one in (*ROLES, role("release")):
        active = keys.ensure(one.id)
        policy = policy.with_key(policy_key(keys, active, KeyState.ACTIVE, now))
        following = keys.next(one.id)
        if following is not None:
            policy = policy.with_key(policy_key(keys, following, KeyState.NEXT, now))
    root, online = keys.ensure("root"), keys.ensure("online")
    signers = store_signers(keys)
    if not place.trusted:
        top = md.RoleKeys(
            (key_of(keys.open(root).public),), (key_of(keys.open(online).public),), definition.channels.thresholds.root
        )
        if definition.channels.thresholds.root > 1:
            raise BadInput(
                "a new store has one root key, thresholds.root wants more",
                where="distro/channels.toml",
                remedy="begin with 1, add the other keys (bedplate release keys trust), raise it, then: "
                "bedplate release configure",
            )
        first = md.sign(md.first_root(top, definition.channels.expiry, now), [top.root[0].keyid], signers)
        if place.objects.info(metadata_path(md.ROOT, 1)) is not None:
            raise BadInput(
                "there is a release store here whose root you do not trust yet",
                where=place.objects.url,
                remedy="bedplate release trust ROOT.json",
            )
        place.pin(md.encode(first))
    return Repository.initialise(place.objects, place.root, policy, signers, definition.channels.expiry, clock)


def trust_root(place: StorePlace, file: Path) -> str:
    """Trust a root that the store's owner handed over by a way of its own; gives its SHA-256.

    Raises:
        BadInput: not a root's metadata, or another root is trusted already.
        TrustError: it is not signed by its own keys.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read ({error.strerror})", where=str(file)) from error
    root = md.decode(data, Root, str(file))
    md.require_signed(root.signed, md.ROOT, root, str(file))
    if place.trusted and place.root != data:
        raise BadInput(
            "another root is trusted for this store",
            where=str(place.pins / _ROOT_NAME),
            remedy="remove that file only when you know why they differ",
        )
    place.pin(data)
    return hashlib.sha256(data).hexdigest()
