"""What a channel carries, as a document, and the rules by which it changes. Pure.

The document is the one target of the channel's own metadata role.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from bedplate.model.errors import BadInput, TrustError
from bedplate.model.release import Channel, Publication, Release, Withdrawal
from bedplate.model.version import compare_versions
from bedplate.release.policy import ChannelRule, KeyState, Policy

CHANNEL_FORMAT = 1
MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """A release in a channel: its manifest by digest (hex SHA-256) and size in bytes, and since when."""

    track: str
    version: str
    manifest: str
    size: int
    at: int


@dataclass(frozen=True)
class ChannelDocument:
    """A channel's content."""

    name: str
    entries: tuple[Entry, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()

    def entry(self, track: str, version: str) -> Entry | None:
        """The entry of a release, None when it was never published here."""
        return next((one for one in self.entries if (one.track, one.version) == (track, version)), None)

    def channel(self, rule: ChannelRule, revision: int, expires: int) -> Channel:
        """The channel as others see it."""
        published = tuple(Publication(one.track, one.version, one.at) for one in self.entries)
        return Channel(self.name, rule.title, published, self.withdrawals, revision, expires)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": CHANNEL_FORMAT,
            "name": self.name,
            "entries": [asdict(one) for one in self.entries],
            "withdrawals": [asdict(one) for one in self.withdrawals],
        }


def channel_target(name: str) -> str:
    """The target's path."""
    return f"{name}/channel.json"


def parse_channel(data: Any, name: str, where: str) -> ChannelDocument:
    """A channel's document from plain data, which somebody else has verified.

    Raises:
        BadInput: of another format, or another channel's.
    """
    try:
        if data["format"] != CHANNEL_FORMAT or data["name"] != name:
            raise BadInput("not this channel's document", where=where)
        return ChannelDocument(
            name,
            tuple(Entry(**one) for one in data["entries"]),
            tuple(Withdrawal(**one) for one in data["withdrawals"]),
        )
    except (KeyError, TypeError) as error:
        raise BadInput("the channel's document is damaged", where=where) from error


def check_signers(release: Release, policy: Policy, keys: str) -> None:
    """Refuse a release that is signed by keys which do not count.

    Args:
        keys: The channel's demand: "release" or "any".

    Raises:
        TrustError: a key is unknown to the store, revoked, or a development key where release keys are demanded.
    """
    where = f"{release.track} {release.version}"
    for role, signer in sorted(release.signers.items()):
        known = policy.known(role, signer.fingerprint)
        name = f"the {role} key {signer.fingerprint[:16]}"
        if known is None:
            raise TrustError(
                f"{name} that signed it is unknown to the store",
                where=where,
                remedy="if it is yours: bedplate release keys trust KEY",
            )
        if known.state is KeyState.REVOKED:
            raise TrustError(
                f"{name} that signed it was revoked", where=where, remedy="build and sign the release again"
            )
        if keys == "release" and (known.development or signer.development):
            raise TrustError(
                f"{name} that signed it is a development key, and this channel takes release keys alone",
                where=where,
                remedy="make release keys (bedplate keys create ROLE --release), then build and create it again",
            )


def check_manifest_keys(keys: tuple[str, ...], policy: Policy, demand: str, where: str) -> None:
    """Refuse a manifest whose signatures reach the threshold only by keys the channel does not take.

    Raises:
        TrustError: too few signatures by release keys.
    """
    known = [policy.known("release", key) for key in keys]
    counting = [key for key in known if key is not None and not (demand == "release" and key.development)]
    if len(counting) < policy.release_threshold:
        raise TrustError(
            f"the manifest is signed by {len(counting)} keys this channel takes, {policy.release_threshold} are needed",
            where=where,
            remedy="sign it with release keys: bedplate keys create release --release, bedplate release keys trust, "
            "bedplate release approve",
        )


def publish(
    document: ChannelDocument,
    release: Release,
    entry: Entry,
    policy: Policy,
    before: ChannelDocument | None,
) -> ChannelDocument:
    """The channel with a release added; the same document when it is there already.

    Args:
        before: The document of the channel that comes before this one, None when there is none.

    Raises:
        BadInput: withdrawn, expired, older than what the channel has, or not long enough in the channel before.
        TrustError: see :func:`check_signers`.
    """
    rule = policy.channel(document.name)
    where = f"{release.track} {release.version}"
    check_signers(release, policy, rule.keys)
    known = document.entry(release.track, release.version)
    for one in document.withdrawals:
        if (one.track, one.version) == release.key:
            raise BadInput(
                f"it was withdrawn from {document.name}: {one.reason}",
                where=where,
                remedy="a withdrawn release never comes back; create a new version",
            )
    if known is not None:
        if known.manifest != entry.manifest:
            raise TrustError(f"{document.name} carries another release under this version", where=where)
        return document
    if release.expires <= entry.at:
        raise BadInput("it has expired", where=where, remedy="create a new version")
    _check_way(rule, entry, before, where)
    newest = document.channel(rule, 0, 0).newest(release.track)
    if newest is not None and compare_versions(release.version, newest) < 0:
        raise BadInput(
            f"{document.name} has {newest} already, which is newer",
            where=where,
            remedy="nodes never go back; withdraw the newer one, or create a newer version with the old content",
        )
    return replace(document, entries=(*document.entries, entry))


def _check_way(rule: ChannelRule, entry: Entry, before: ChannelDocument | None, where: str) -> None:
    if not rule.after:
        return
    earlier = before.entry(entry.track, entry.version) if before is not None else None
    if before is None or earlier is None:
        raise BadInput(
            f"it was not published in {rule.after}, which comes before {rule.name}",
            where=where,
            remedy=f"bedplate release publish {entry.version} {rule.after}",
        )
    if earlier.manifest != entry.manifest:
        raise TrustError(f"{rule.after} carries another release under this version", where=where)
    for one in before.withdrawals:
        if (one.track, one.version) == (entry.track, entry.version):
            raise BadInput(f"it was withdrawn from {rule.after}: {one.reason}", where=where)
    left = earlier.at + rule.soak_seconds - entry.at
    if left > 0:
        raise BadInput(
            f"it has been in {rule.after} for {(entry.at - earlier.at) / 3600:.1f} h, {rule.name} wants "
            f"{rule.soak_seconds / 3600:.1f} h",
            where=where,
            remedy=f"wait {left / 3600:.1f} h more, or lower soak_hours in distro/channels.toml",
        )


def withdraw(document: ChannelDocument, track: str, version: str, reason: str, at: int) -> ChannelDocument:
    """The channel with a release withdrawn; the same document when it is withdrawn already.

    Raises:
        BadInput: it was never here, or no usable reason was given.
    """
    where = f"{track} {version}"
    text = " ".join(reason.split())
    if not text or len(text) > MAX_REASON or not text.isprintable():
        raise BadInput(f"say why, in at most {MAX_REASON} printable characters", where=where, remedy="--reason TEXT")
    if document.entry(track, version) is None:
        raise BadInput(f"{document.name} never carried it", where=where)
    if any((one.track, one.version) == (track, version) for one in document.withdrawals):
        return document
    return replace(document, withdrawals=(*document.withdrawals, Withdrawal(track, version, text, at)))
