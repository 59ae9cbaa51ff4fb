"""Changes that wait for signatures: new metadata of some roles, kept in the store until enough people have signed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from bedplate.model.digest import canonical_json
from bedplate.model.errors import TrustError
from bedplate.release import metadata as md
from bedplate.release.objects import Anything, NotFound, ObjectStore

KEYS = "keys"
MAX_BUNDLE = 16 << 20
_FORMAT = 1


@dataclass
class Bundle:
    """New metadata by role. ``subject`` is the channel it changes, or :data:`KEYS`; ``why`` says what for."""

    subject: str
    why: str
    roles: dict[str, Metadata[Any]]

    def missing(self, root: Root, targets: Targets) -> dict[str, int]:
        """Role -> how many signatures it lacks; empty when the change can be made.

        Args:
            root: The store's newest root before this change.
            targets: The store's targets before this change.

        Raises:
            TrustError: a role nobody is appointed for.
        """
        lacking = {}
        for name, metadata in self.roles.items():
            count = max(
                md.missing_signatures(delegator, name, metadata) for delegator in self._over(name, root, targets)
            )
            if count:
                lacking[name] = count
        return lacking

    def signers(self, name: str, root: Root, targets: Targets) -> set[str]:
        """Ids of the keys that may sign a role of this change."""
        found: set[str] = set()
        for delegator in self._over(name, root, targets):
            found |= set(delegator.get_delegated_role(name).keyids)
        return found

    def _over(self, name: str, root: Root, targets: Targets) -> list[Root | Targets]:
        own_root = self.roles[md.ROOT].signed if md.ROOT in self.roles else root
        own_targets = self.roles[md.TARGETS].signed if md.TARGETS in self.roles else targets
        if name == md.ROOT:
            # A new root is believed when both the old keys and its own say so (TUF specification 5.3.4).
            return [root, own_root]
        return [own_root] if name == md.TARGETS else [own_targets]


def bundle_path(subject: str) -> str:
    """Where the change of a subject waits."""
    return f"pending/{subject}.json"


def save_bundle(store: ObjectStore, bundle: Bundle) -> None:
    """Keep a change in the store; an older one of the same subject is replaced."""
    roles = {name: md.encode(metadata).decode() for name, metadata in bundle.roles.items()}
    data = canonical_json({"format": _FORMAT, "why": bundle.why, "roles": roles})
    store.put(bundle_path(bundle.subject), data, Anything())


def load_bundle(store: ObjectStore, subject: str) -> Bundle | None:
    """The waiting change of a subject, its signatures not looked at; None when nothing waits.

    Raises:
        TrustError: what is there is not such a change.
    """
    path = bundle_path(subject)
    try:
        data = store.get(path, MAX_BUNDLE).data
    except NotFound:
        return None
    try:
        body = json.loads(data)
        if body["format"] != _FORMAT:
            raise TrustError("a change of a format this Bedplate does not read", where=path)
        roles: dict[str, Metadata[Any]] = {
            str(name): md.decode(text.encode(), Root, path)
            if name == md.ROOT
            else md.decode(text.encode(), Targets, path)
            for name, text in body["roles"].items()
        }
        return Bundle(subject, str(body["why"])[:500], roles)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrustError("the waiting change is damaged", where=path, remedy="make the change again") from error
