"""The store's policy: its channels, what they demand, and every key that signs parts of releases, with its state.

It is a target of the store's top-level metadata, so only the root keys can change it. Readers believe what it says of a
key, never what a release says of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from securesystemslib.signer import SSlibKey

from bedplate.model.definition.channels import ChannelDefinition, Channels
from bedplate.model.errors import BadInput
from bedplate.release.keys import key_of

POLICY_FORMAT = 1
POLICY_TARGET = "policy.json"
RELEASE_ROLE = "release"


class KeyState(StrEnum):
    """``next`` keys are announced, ``retired`` ones sign nothing new but what they signed holds, what a ``revoked``
    key signed is void."""

    ACTIVE = "active"
    NEXT = "next"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """One public key. ``id`` is its fingerprint (hex, lower case), ``public`` a PEM certificate or, in base64, an
    OpenPGP certificate; ``since`` is when it came into this state (seconds since the epoch)."""

    role: str
    id: str
    state: KeyState
    development: bool
    public: str
    since: int


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """What a channel demands, see :class:`bedplate.model.definition.channels.ChannelDefinition`."""

    name: str
    title: str
    after: str
    keys: str
    threshold: int
    soak_seconds: int


@dataclass(frozen=True)
class Policy:
    """The policy. ``release_threshold`` is how many release keys must have signed a manifest."""

    channels: tuple[ChannelRule, ...]
    keys: tuple[PolicyKey, ...]
    release_threshold: int = 1

    def channel(self, name: str) -> ChannelRule:
        """The channel's rule.

        Raises:
            BadInput: there is no such channel; the error lists those there are.
        """
        for rule in self.channels:
            if rule.name == name:
                return rule
        known = ", ".join(rule.name for rule in self.channels)
        raise BadInput(f"no channel {name[:40]!r}", remedy=f"name one of: {known}")

    def of_role(self, role: str, *states: KeyState) -> list[PolicyKey]:
        """Keys of a role in any of these states."""
        return [key for key in self.keys if key.role == role and key.state in states]

    def find(self, key_id: str) -> PolicyKey:
        """The key with an id, or the only one whose id starts so.

        Raises:
            BadInput: there is none, or more than one.
        """
        found = [key for key in self.keys if key.id == key_id] or [k for k in self.keys if k.id.startswith(key_id)]
        if len(found) == 1 and key_id:
            return found[0]
        what = "no key" if not found else "more than one key"
        raise BadInput(f"{what} {key_id[:80]!r} in the store", remedy="see: bedplate release keys list")

    def known(self, role: str, fingerprint: str) -> PolicyKey | None:
        """The key of a role with a fingerprint, None when the store does not know it."""
        return next((key for key in self.keys if (key.role, key.id) == (role, fingerprint.lower())), None)

    def manifest_keys(self) -> list[SSlibKey]:
        """Keys whose signature on a manifest counts: all release keys that are not revoked."""
        states = (KeyState.ACTIVE, KeyState.NEXT, KeyState.RETIRED)
        return [key_of(key.public.encode()) for key in self.of_role(RELEASE_ROLE, *states)]

    def with_key(self, key: PolicyKey) -> Policy:
        """The policy with a key added, or in another state."""
        others = [one for one in self.keys if (one.role, one.id) != (key.role, key.id)]
        return replace(self, keys=tuple(sorted((*others, key), key=lambda one: (one.role, one.since, one.id))))

    def with_channels(self, definition: Channels) -> Policy:
        """The policy with the channels and the manifest threshold of a definition."""
        return replace(
            self,
            channels=tuple(rule_of(channel) for channel in definition.channel),
            release_threshold=definition.thresholds.release,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": POLICY_FORMAT,
            "channels": [asdict(rule) for rule in self.channels],
            "keys": [asdict(key) for key in self.keys],
            "release_threshold": self.release_threshold,
        }


def rule_of(channel: ChannelDefinition) -> ChannelRule:
    """The rule of a channel's definition."""
    return ChannelRule(
        channel.name, channel.title, channel.after, channel.keys, channel.threshold, int(channel.soak_hours * 3600)
    )


def parse_policy(data: Any, where: str) -> Policy:
    """The policy from its plain data, which somebody else has verified.

    Raises:
        BadInput: of another format.
    """
    try:
        if data["format"] != POLICY_FORMAT:
            raise BadInput("a store of a format this Bedplate does not read", where=where)
        return Policy(
            channels=tuple(ChannelRule(**rule) for rule in data["channels"]),
            keys=tuple(PolicyKey(**{**key, "state": KeyState(key["state"])}) for key in data["keys"]),
            release_threshold=int(data["release_threshold"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput("the store's policy is damaged", where=where) from error


def openpgp_public(certificate: bytes) -> str:
    """An OpenPGP certificate as :attr:`PolicyKey.public` holds it."""
    return base64.b64encode(certificate).decode()


def require_distinct(keys: Iterable[PolicyKey]) -> None:
    """Refuse two release keys that are one: it could count twice towards a threshold.

    Raises:
        BadInput: the same public key stands in two certificates.
    """
    seen: dict[str, str] = {}
    for key in keys:
        if key.role != RELEASE_ROLE:
            continue
        value = str(key_of(key.public.encode()).keyval)
        if value in seen:
            raise BadInput(f"the keys {seen[value][:16]} and {key.id[:16]} are one and the same key")
        seen[value] = key.id
