"""Which objects of a store nobody needs any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput, TrustError
from bedplate.model.release import Release
from bedplate.release import metadata as md
from bedplate.release.bundle import Bundle
from bedplate.release.client import envelope_path
from bedplate.release.envelope import MAX_ENVELOPE, parse_envelope, read_payload
from bedplate.release.objects import NotFound, ObjectInfo, ObjectStore, blob_path
from bedplate.release.state import StoreState, metadata_path

FOLDERS = ("releases", "metadata", "blobs")


@dataclass(frozen=True)
class Garbage:
    """What may go: paths, their bytes together, and how many objects stay."""

    paths: tuple[str, ...]
    size: int
    kept: int


def plan(objects: Iterable[ObjectInfo], needed: Collection[str], before: float) -> Garbage:
    """Choose what to remove: what is not needed and was written before a time (seconds since the epoch). Younger
    objects stay, since somebody may be about to name them."""
    going, kept = [], 0
    for one in objects:
        if one.path in needed or one.modified >= before:
            kept += 1
        else:
            going.append(one)
    # Manifests go before the blobs they name: a run cut short leaves blobs without a manifest, never the reverse.
    going.sort(key=lambda one: (not one.path.startswith("releases/"), one.path))
    return Garbage(tuple(one.path for one in going), sum(one.size for one in going), kept)


def needed_paths(store: ObjectStore, state: StoreState, waiting: Sequence[Bundle], before: float) -> set[str]:
    """Everything the current state, waiting changes and young releases need.

    Args:
        before: Unpublished releases created since then stay (seconds since the epoch).

    Raises:
        TrustError: a published release cannot be read, so that nobody can tell what it needs.
    """
    needed = set(_of_metadata(state))
    needed |= {info.path for info in store.list("metadata") if info.path.endswith(f".{md.ROOT}.json")}
    for bundle in waiting:
        for metadata in bundle.roles.values():
            needed |= {blob_path(one.hashes["sha256"]) for one in getattr(metadata.signed, "targets", {}).values()}
    published: set[str] = set()
    for document in state.documents.values():
        for entry in document.entries:
            path = envelope_path(entry.track, entry.version)
            if path in published:
                continue
            published.add(path)
            release, digest = _manifest(store, path)
            if digest != entry.manifest:
                raise TrustError("the manifest is not the one that was published; nothing was removed", where=path)
            needed |= {path, *(blob_path(artefact.sha256) for artefact in release.artefacts)}
    for info in store.list("releases"):
        if info.path in published or info.modified < before:
            continue
        try:
            release = _manifest(store, info.path)[0]
        except (BadInput, TrustError):
            continue  # nobody can use it; what it named stays as long as it is young
        needed |= {blob_path(artefact.sha256) for artefact in release.artefacts}
    return needed


def _of_metadata(state: StoreState) -> Iterator[str]:
    """Current metadata and its targets, and one version back for readers that are in the middle of reading."""
    yield metadata_path(md.TIMESTAMP)
    current = {md.SNAPSHOT: state.snapshot.signed, md.TARGETS: state.targets.signed}
    for name, signed in (*current.items(), *((name, one.signed) for name, one in state.channels.items())):
        yield metadata_path(name, signed.version)
        yield metadata_path(name, signed.version - 1)
        for target in getattr(signed, "targets", {}).values():
            yield blob_path(target.hashes["sha256"])


def _manifest(store: ObjectStore, path: str) -> tuple[Release, str]:
    try:
        payload = parse_envelope(store.get(path, MAX_ENVELOPE).data, path).payload
    except NotFound as error:
        raise TrustError("a published release's manifest is gone; nothing was removed", where=path) from error
    return read_payload(payload, path), sha256(payload)
