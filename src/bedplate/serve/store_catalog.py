"""The catalogue from a release store: verified metadata (TUF), signed listings, and where each artefact is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from types import MappingProxyType

from bedplate.model.digest import canonical_json
from bedplate.model.errors import BedplateError, TrustError
from bedplate.model.release import Artefact, ArtefactKind, Release
from bedplate.release.client import VerifiedStore
from bedplate.release.objects import blob_path
from bedplate.serve.catalog import MAX_LISTING, Shelf, Shelved, shelve

# A link into the store is good for so long, and renewed when half of it is over (seconds).
_LINK_SECONDS = 12 * 3600


class StoreCatalog:
    """What the channels of a release store carry, verified on every look.

    Args:
        cdn: Address of a copy of the store (a CDN); artefacts are redirected there. Empty: to the store itself, or read
            from it where it is a directory.

    A release that can no longer be believed (a revoked key, a missing manifest) is left out: it is offered to nobody.
    """

    def __init__(self, store: VerifiedStore, cdn: str = "", clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._cdn = cdn.rstrip("/")
        self._clock = clock
        self._links: dict[str, tuple[str, float]] = {}
        self._shelved: dict[str, Shelved] = {}

    def load(self) -> Shelf:
        """See :class:`bedplate.serve.catalog.Catalog`."""
        view = self._store.refresh()
        releases: dict[tuple[str, str], Shelved] = {}
        for channel in view.channels:
            for publication in channel.publications:
                key = (publication.track, publication.version)
                if key not in releases:
                    try:
                        releases[key] = self._shelve(self._store.release(channel.name, *key))
                    except TrustError:
                        continue
        return Shelf(MappingProxyType(releases), MappingProxyType({one.name: one for one in view.channels}))

    def _shelve(self, release: Release) -> Shelved:
        digest = hashlib.sha256(canonical_json(release.to_json())).hexdigest()
        files = {one.name: self._locate(one) for one in release.artefacts}
        known = self._shelved.get(digest)
        if known is not None and all((f.path, f.url) == files[f.name] for f in known.files.values()):
            return known
        made = shelve(
            release,
            digest=digest,
            sums=self._read(release, ArtefactKind.SUMS),
            signature=self._read(release, ArtefactKind.SUMS_SIGNATURE),
            locate=lambda name: files[name],
        )
        self._shelved[digest] = made
        return made

    def _read(self, release: Release, kind: ArtefactKind) -> bytes:
        try:
            return self._store.read(release.artefact(kind), MAX_LISTING)
        except BedplateError as error:
            raise TrustError(error.message, where=f"{release.track} {release.version}") from error

    def _locate(self, artefact: Artefact) -> tuple[str, str]:
        if self._cdn:
            return "", f"{self._cdn}/{blob_path(artefact.sha256)}"
        local = self._store.local(artefact)
        if local is not None:
            return str(local), ""
        link, made = self._links.get(artefact.sha256, ("", 0.0))
        if not link or self._clock() - made > _LINK_SECONDS / 2:
            link, made = self._store.public_url(artefact, _LINK_SECONDS) or "", self._clock()
            self._links[artefact.sha256] = (link, made)
        return "", link
