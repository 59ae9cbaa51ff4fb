"""Changing a store: every change is signed metadata, and takes effect by one conditional write of the timestamp.

Two operators at once: whoever writes the timestamp second finds it changed, reads everything again and makes the change
on top of the other's. An operator killed half-way leaves files nobody refers to, which ``gc`` removes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Targets

from bedplate.model.definition.channels import Expiry
from bedplate.model.digest import canonical_json, sha256
from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.release import metadata as md
from bedplate.release.bundle import KEYS, Bundle, bundle_path, load_bundle, save_bundle
from bedplate.release.channel import ChannelDocument
from bedplate.release.objects import Absent, Anything, Conflict, ObjectStore, Unchanged, blob_path
from bedplate.release.policy import Policy, require_distinct
from bedplate.release.state import StoreState, load_state, metadata_path, root_chain

_ATTEMPTS = 10
_MAX_SKIPPED = 10_000
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Outcome:
    """What became of a change: in effect when ``missing`` (role -> signatures it lacks) is empty, else waiting as
    ``subject`` for others to approve. ``changed`` is False when there was nothing to change."""

    subject: str
    changed: bool = True
    missing: dict[str, int] = field(default_factory=dict)

    @property
    def waiting(self) -> bool:
        """Whether more signatures are needed."""
        return bool(self.missing)


class Repository:
    """A store that can be changed.

    Args:
        store: Its bytes.
        trusted: A root (metadata bytes) that is trusted already.
        signers: The keys at hand.
        expiry: How long what is signed now holds.
        now: The clock, in seconds since the epoch.
        seen: The highest version of the timestamp ever seen; an older store is refused.
    """

    def __init__(
        self,
        store: ObjectStore,
        trusted: bytes,
        signers: Sequence[Signer],
        expiry: Expiry,
        now: Callable[[], int],
        seen: int = 0,
    ) -> None:
        self.store = store
        self.trusted = trusted
        self.signers = list(signers)
        self.expiry = expiry
        self.now = now
        self.seen = seen

    @classmethod
    def initialise(
        cls,
        store: ObjectStore,
        root: bytes,
        policy: Policy,
        signers: Sequence[Signer],
        expiry: Expiry,
        now: Callable[[], int],
    ) -> Repository:
        """Make a store, or finish one that the same root began.

        Args:
            root: The first root's metadata (:func:`first_root`), kept by the caller, who trusts it from now on.

        Raises:
            Conflict: another store is there.
            BadInput: a key that must sign is not at hand.
        """
        repository = cls(store, root, signers, expiry, now)
        try:
            store.put(metadata_path(md.ROOT, 1), root, Absent())
        except Conflict as error:
            if store.get(metadata_path(md.ROOT, 1), md.MAX_ROOT).data != root:
                raise Conflict(
                    "there is a release store of somebody else's here",
                    where=store.url,
                    remedy="name its root: bedplate release trust ROOT.json; or choose another place",
                ) from error
        if store.info(metadata_path(md.TIMESTAMP)) is not None:
            return repository
        time = now()
        trusted = md.decode(root, Root, "root").signed
        targets = md.make_targets(policy, 1, expiry, time)
        _require_possible(policy, targets)
        repository._put_blob(canonical_json(policy.to_json()))
        steps: list[tuple[str, Any]] = [
            (md.TARGETS, targets),
            (md.SNAPSHOT, md.make_snapshot({md.TARGETS: 1}, 1, expiry, time)),
            (md.TIMESTAMP, md.make_timestamp(1, 1, expiry, time)),
        ]
        for name, signed in steps:
            metadata = md.sign(signed, trusted.roles[name].keyids, repository.signers)
            if md.missing_signatures(trusted, name, metadata):
                raise _not_at_hand(name)
            # What a killed predecessor wrote was never in effect.
            store.put(metadata_path(name, None if name == md.TIMESTAMP else 1), md.encode(metadata), Anything())
        return repository

    def state(self) -> StoreState:
        """The store as it is.

        Raises:
            NotFound: there is no store.
            TrustError: it is not signed as it must be, or older than what was seen before.
        """
        state = load_state(self.store, self.trusted)
        if state.timestamp.signed.version < self.seen:
            raise TrustError(
                f"the store is at {state.timestamp.signed.version}, but {self.seen} was seen before: "
                "somebody put an older state back",
                where=self.store.url,
                remedy="find out who did; put the newer state back from the storage's versions or a copy",
            )
        return state

    def change_channel(self, name: str, change: Callable[[StoreState], ChannelDocument], why: str) -> Outcome:
        """Change what a channel carries.

        Args:
            change: Gives the new document from the state; called again when somebody else was faster.

        Raises:
            BadInput: no key at hand may sign for the channel.
        """

        def attempt() -> Outcome:
            state = self.state()
            state.policy.channel(name)
            document = change(state)
            if name in state.documents and document == state.documents[name]:
                return Outcome(name, changed=False)
            body = canonical_json(document.to_json())
            self._put_blob(body)
            old = state.channels.get(name)
            version = self._free(name, old.signed.version if old else 0)
            signed = md.make_channel(name, body, version, self.expiry, self.now())
            return self._make(state, Bundle(name, why, {name: md.sign(signed, (), ())}))

        return self._retried(attempt)

    def change_policy(self, change: Callable[[Policy], Policy], why: str) -> Outcome:
        """Change channels, thresholds or the keys that sign releases.

        Args:
            change: Gives the new policy from the current one.
        """

        def attempt() -> Outcome:
            state = self.state()
            policy = change(state.policy)
            require_distinct(policy.keys)
            if policy == state.policy:
                return Outcome(KEYS, changed=False)
            return self._make(state, Bundle(KEYS, why, self._policy_roles(state, policy)))

        return self._retried(attempt)

    def change_top_keys(self, keys: Callable[[Root], md.RoleKeys], why: str) -> Outcome:
        """Change the keys of the top-level roles, by a new version of the root alone: one write, nothing half-way.

        What is there must hold under the new root, so it is signed again first where that is needed: a successor signs
        before its predecessor goes.

        Args:
            keys: Gives the new keys from the current root.

        Raises:
            BadInput: the remaining keys have not signed what is there, and are not at hand to do it.
        """

        def attempt() -> Outcome:
            state = self.state()
            root = state.root.signed
            fresh = deepcopy(root)
            md.set_root_keys(fresh, keys(root))
            if fresh.roles == root.roles and fresh.keys == root.keys:
                return Outcome(KEYS, changed=False)
            if not _holds(state, fresh):
                again = self._make(state, Bundle(KEYS, why, self._policy_roles(state, state.policy)))
                if again.waiting:
                    return again
                state = self.state()
                if not _holds(state, fresh):
                    raise _not_at_hand("what is there, with the keys that shall remain")
            fresh.version = root.version + 1
            fresh.expires = md.expiry_at(self.now(), self.expiry.root)
            outcome = self._make(state, Bundle(KEYS, why, {md.ROOT: md.sign(fresh, (), ())}))
            if not outcome.waiting:
                self._settle(root)
            return outcome

        return self._retried(attempt)

    def sign_again(self, previous: Root | None = None) -> Outcome:
        """Sign what is there once more, also when only keys of the root before the newest have signed it.

        For the one case that nobody finishes by themselves: an operator with an old key published in the very moment in
        which that key was taken out. A person decides that, since the old key may have been stolen.
        """

        def attempt() -> Outcome:
            if previous is None:
                chain = root_chain(self.store, self.trusted)
                before = chain[max(0, len(chain) - 2)].signed
            else:
                before = previous
            state = load_state(self.store, self.trusted, before)
            return self._make(state, Bundle(KEYS, "sign again", self._policy_roles(state, state.policy)))

        return self._retried(attempt)

    def refresh(self) -> Outcome:
        """Renew snapshot and timestamp, so that readers know that nothing newer is withheld from them."""

        def attempt() -> Outcome:
            self._commit(self.state(), {})
            return Outcome(md.TIMESTAMP)

        return self._retried(attempt)

    def waiting(self) -> list[Bundle]:
        """Changes that wait for signatures."""
        found = []
        for info in self.store.list("pending"):
            bundle = load_bundle(self.store, info.path.removeprefix("pending/").removesuffix(".json"))
            if bundle is not None:
                found.append(bundle)
        return found

    def approve(self, subject: str) -> Outcome:
        """Sign a waiting change with the keys at hand, and make it when that is enough.

        Raises:
            BadInput: nothing waits, it was made from an older state, or no key at hand may sign it.
        """

        def attempt() -> Outcome:
            state = self.state()
            bundle = load_bundle(self.store, subject)
            if bundle is None:
                raise BadInput(f"nothing waits as {subject!r}", where=self.store.url)
            self._require_current(state, bundle)
            return self._make(state, bundle)

        return self._retried(attempt)

    def drop(self, subject: str) -> None:
        """Forget a waiting change."""
        self.store.delete(bundle_path(subject))

    def _policy_roles(self, state: StoreState, policy: Policy) -> dict[str, Metadata[Any]]:
        """New targets, and every channel whose signatures would no longer suffice under them, signed again as it is."""
        self._put_blob(canonical_json(policy.to_json()))
        version = self._free(md.TARGETS, state.targets.signed.version)
        targets = md.make_targets(policy, version, self.expiry, self.now())
        _require_possible(policy, targets)
        roles: dict[str, Metadata[Any]] = {md.TARGETS: md.sign(targets, (), ())}
        appointed = (targets.delegations.roles if targets.delegations else None) or {}
        for name, old in state.channels.items():
            if name in appointed and md.missing_signatures(targets, name, old):
                body = canonical_json(state.documents[name].to_json())
                number = self._free(name, old.signed.version)
                roles[name] = md.sign(md.make_channel(name, body, number, self.expiry, self.now()), (), ())
        return roles

    def _settle(self, old: Root) -> None:
        """After a new root: sign again when somebody with a key that just went was faster than us."""
        try:
            load_state(self.store, self.trusted)
        except TrustError:
            self.sign_again(old)

    def _make(self, state: StoreState, bundle: Bundle) -> Outcome:
        """Sign with the keys at hand; commit, or leave it waiting."""
        root, targets = state.root.signed, state.targets.signed
        before = {name: set(metadata.signatures) for name, metadata in bundle.roles.items()}
        for name, metadata in bundle.roles.items():
            md.add_signatures(metadata, bundle.signers(name, root, targets), self.signers)
        missing = bundle.missing(root, targets)
        if not missing:
            if md.ROOT in bundle.roles:
                self._put_metadata(md.ROOT, bundle.roles[md.ROOT])
            else:
                self._commit(state, bundle.roles)
            self.store.delete(bundle_path(bundle.subject))
            return Outcome(bundle.subject)
        if all(set(bundle.roles[name].signatures) == before[name] for name in missing):
            raise _not_at_hand(", ".join(sorted(missing)))
        save_bundle(self.store, bundle)
        return Outcome(bundle.subject, missing=missing)

    def _commit(self, state: StoreState, roles: dict[str, Metadata[Any]]) -> None:
        root = state.root.signed
        for name, metadata in roles.items():
            self._put_metadata(name, metadata)
        time = self.now()
        versions = {key.removesuffix(".json"): meta.version for key, meta in state.snapshot.signed.meta.items()}
        versions |= {name: metadata.signed.version for name, metadata in roles.items()}
        number = self._free(md.SNAPSHOT, state.snapshot.signed.version)
        snapshot = md.sign(
            md.make_snapshot(versions, number, self.expiry, time), root.roles[md.SNAPSHOT].keyids, self.signers
        )
        following = state.timestamp.signed.version + 1
        timestamp = md.sign(
            md.make_timestamp(number, following, self.expiry, time), root.roles[md.TIMESTAMP].keyids, self.signers
        )
        if md.missing_signatures(root, md.SNAPSHOT, snapshot) or md.missing_signatures(root, md.TIMESTAMP, timestamp):
            raise _not_at_hand("snapshot and timestamp (the online key)")
        self._put_metadata(md.SNAPSHOT, snapshot)
        # From here on the change is in effect; up to here nothing of it was.
        self.store.put(metadata_path(md.TIMESTAMP), md.encode(timestamp), Unchanged(state.timestamp_tag))
        self.seen = following

    def _put_metadata(self, name: str, metadata: Metadata[Any]) -> None:
        path, data = metadata_path(name, metadata.signed.version), md.encode(metadata)
        try:
            self.store.put(path, data, Absent())
        except Conflict:
            if self.store.get(path, md.MAX_TARGETS).data != data:
                raise

    def _put_blob(self, data: bytes) -> None:
        self.store.put(blob_path(sha256(data)), data, Anything())

    def _free(self, role: str, current: int) -> int:
        """The next version nobody has written; killed and slower operators leave some behind."""
        for version in range(current + 1, current + _MAX_SKIPPED):
            if self.store.info(metadata_path(role, version)) is None:
                return version
        raise BedplateError(f"too many unused versions of {role}", where=self.store.url, remedy="bedplate release gc")

    def _require_current(self, state: StoreState, bundle: Bundle) -> None:
        current = {
            md.ROOT: state.root.signed.version,
            md.TARGETS: state.targets.signed.version,
            **{name: metadata.signed.version for name, metadata in state.channels.items()},
        }
        stale = [name for name, new in bundle.roles.items() if new.signed.version <= current.get(name, 0)]
        if stale:
            raise BadInput(
                f"the waiting change of {bundle.subject} was made from an older state ({', '.join(sorted(stale))})",
                where=self.store.url,
                remedy="make the change again",
            )

    def _retried(self, attempt: Callable[[], _Result]) -> _Result:
        for _ in range(_ATTEMPTS - 1):
            try:
                return attempt()
            except Conflict:
                continue
        return attempt()


def _require_possible(policy: Policy, targets: Targets) -> None:
    """Refuse thresholds nobody could reach."""
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    short = [
        f"{rule.name}: {rule.threshold} must sign, {len(roles[rule.name].keyids)} release keys may"
        for rule in policy.channels
        if 0 < len(roles[rule.name].keyids) < rule.threshold
    ]
    if short or len(policy.manifest_keys()) < policy.release_threshold:
        raise BadInput(
            "there are too few release keys for the thresholds",
            details=short,
            remedy="add keys (bedplate release keys trust KEY), or lower the thresholds in distro/channels.toml",
        )


def _holds(state: StoreState, root: Root) -> bool:
    """Whether timestamp, snapshot and targets are signed as a root wants."""
    current: dict[str, Metadata[Any]] = {
        md.TIMESTAMP: state.timestamp,
        md.SNAPSHOT: state.snapshot,
        md.TARGETS: state.targets,
    }
    return not any(md.missing_signatures(root, name, metadata) for name, metadata in current.items())


def _not_at_hand(what: str) -> BadInput:
    return BadInput(
        f"no key at hand may sign: {what}",
        remedy="see who can: bedplate release keys list; use a machine or BEDPLATE_KEYS that holds such a key",
    )
