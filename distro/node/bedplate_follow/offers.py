"""What a signed listing offers: which release, and which state of the repository it stands for. Pure.

A listing (``SHA256SUMS``) names one file ``IMAGE_VERSION.snapshot``; that file names the state by the digest of its
metadata. Both are believed only after the listing's signature was found good.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

MAX_SNAPSHOT = 64 * 1024
FORMAT = 1
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._-]{0,159})")
_VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_STATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_VERSION = 18


class Unbelievable(Exception):
    """Signed or not, this cannot be right; nothing of it is used."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The release of a listing: its version, and name and digest of the file that says which state it stands for."""

    version: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of the repository: ``state`` is its name below ``states/``, ``repomd_sha256`` the digest of its metadata.
    ``expires`` is in seconds since the epoch."""

    version: str
    state: str
    repomd_sha256: str
    expires: int


def read_listing(content: bytes, image: str) -> Offer | None:
    """The release of ``image`` a verified listing names; None when it names none with a state.

    Raises:
        Unbelievable: it is not a listing, or names more than one.
    """
    found = []
    for line in content.decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise Unbelievable(f"the listing has a line that is not one: {line[:80]!r}")
        stem, dot, ending = match[2].rpartition(".")
        name, _, version = stem.rpartition("_")
        if dot and ending == "snapshot" and name == image:
            found.append(Offer(require_version(version), match[2], match[1]))
    if len(found) > 1:
        raise Unbelievable("the listing names more than one release")
    return found[0] if found else None


def read_snapshot(content: bytes, offer: Offer, track: str) -> Snapshot:
    """The state an offer stands for.

    Raises:
        Unbelievable: another file than the listing names, or one that says something else.
    """
    if hashlib.sha256(content).hexdigest() != offer.sha256:
        raise Unbelievable(f"{offer.name} is not the file that was signed")
    try:
        data: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise Unbelievable(f"{offer.name} is not JSON") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise Unbelievable(f"{offer.name} has a format this program does not read")
    if (data.get("track"), data.get("version")) != (track, offer.version):
        raise Unbelievable(f"{offer.name} is of another release than its name says")
    state, digest, expires = data.get("state"), data.get("repomd_sha256"), data.get("expires")
    if not isinstance(state, str) or not _STATE.fullmatch(state) or ".." in state:
        raise Unbelievable(f"{offer.name} names no state of a repository")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or type(expires) is not int:
        raise Unbelievable(f"{offer.name} lacks the digest of the metadata, or when it expires")
    return Snapshot(offer.version, state, digest, expires)


def refusal(offer: Offer, running: str, failed: Collection[str]) -> str:
    """Why an offer is not taken, in a sentence; empty when it may be."""
    if order(offer.version) <= order(running):
        return f"{running} is the newest release for this machine"
    if offer.version in failed:
        return f"{offer.version} was taken back here once and is not tried again"
    return ""


def require_version(text: str) -> str:
    """``text`` when it is a release's version: numbers joined by dots.

    Raises:
        Unbelievable: anything else.
    """
    if len(text) > _MAX_VERSION or not _VERSION.fullmatch(text):
        raise Unbelievable(f"{text[:40]!r} is no version")
    return text


def order(version: str) -> tuple[int, ...]:
    """What versions are compared by. What is no version (a machine that never had a release) is before all."""
    if len(version) > _MAX_VERSION or not _VERSION.fullmatch(version):
        return ()
    return tuple(int(part) for part in version.split("."))
