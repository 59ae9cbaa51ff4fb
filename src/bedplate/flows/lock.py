"""Making, checking, moving and explaining the lock of a track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.flows.definition import read_definition
from bedplate.flows.imports import describe_files, download, import_files
from bedplate.flows.locks import committed_path, read_lock_file, write_lock
from bedplate.flows.own import own_candidates
from bedplate.flows.tools import resolve_tools
from bedplate.flows.upstream import Offer, all_drop_rules, open_offer
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.definition.track import Track
from bedplate.model.errors import BedplateError, Finding
from bedplate.model.lock import Lock
from bedplate.model.package import Candidate, Nevra
from bedplate.packages.gate import check_import
from bedplate.packages.importer import ImportedPackage
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.resolve.diff import LockDiff, diff_locks
from bedplate.resolve.locking import check_lock, favouring, make_lock, update
from bedplate.resolve.request import Exclusion, Request, Solution
from bedplate.resolve.solver import solve
from bedplate.upstream.download import Wanted


@dataclass(frozen=True)
class LockResult:
    """A lock that was made, where it was written, and how it differs from the one before (None: there was none)."""

    lock: Lock
    path: Path
    diff: LockDiff | None


def track_request(definition: DefinitionSet, track: Track) -> Request:
    """What a track asks the solver for."""
    where = f"distro/tracks/{track.id}.toml"
    return Request(
        asker=track.id,
        install=(*track.packages, *track.boot_packages),
        where=where,
        exclude=tuple(Exclusion(name, where) for name in track.exclude),
    )


def lock_track(workspace: Workspace, name: str, updating: Sequence[str] = ()) -> LockResult:
    """Resolve a track against what the upstreams carry now, import the result, and write the committed lock.

    Args:
        updating: Packages (or sources) to move to their newest version, and only what that forces to move; empty: all.

    Raises:
        Unresolvable, TrustError, BadInput: as the steps say; the lock on disk is left as it was.
    """
    definition = read_definition(workspace)
    path = committed_path(workspace, name)
    before = read_lock_file(path) if path.exists() else None
    lock, solution = make_track_lock(workspace, definition, definition.track(name), before, updating)
    diff = diff_locks(before, lock, solution=solution, updated=updating) if before else None
    write_lock(path, lock)
    return LockResult(lock, path, diff)


def lock_tools(workspace: Workspace, tool_set: str) -> LockResult:
    """Resolve a tool set and write its committed lock."""
    definition = read_definition(workspace)
    lock = resolve_tools(workspace, definition, tool_set)
    path = committed_path(workspace, lock.track)
    before = read_lock_file(path) if path.exists() else None
    write_lock(path, lock)
    return LockResult(lock, path, diff_locks(before, lock) if before else None)


def preview_lock(workspace: Workspace, name: str) -> tuple[Lock, Solution]:
    """What locking a track now would give; nothing is written."""
    definition = read_definition(workspace)
    return make_track_lock(workspace, definition, definition.track(name))


def make_track_lock(
    workspace: Workspace,
    definition: DefinitionSet,
    track: Track,
    before: Lock | None = None,
    updating: Sequence[str] = (),
) -> tuple[Lock, Solution]:
    """A lock for ``track``, not written anywhere. Without ``before``, everything is at its newest version."""
    request = track_request(definition, track)
    offer = open_offer(workspace, definition, request.install)
    own = own_candidates(definition)
    candidates = [*own, *offer.candidates]
    if before is not None and updating:
        solution = update(candidates, request, before, updating)
    else:
        solution = solve(candidates, request, known_names=offer.names)
    imported = _import(workspace, definition, offer, solution)
    _require_closed(request, own, imported)
    lock = make_lock(
        solution,
        track=track.id,
        definition=definition.resolution_digest(track, [one.nevra.name for one in solution.packages]),
        indexes=offer.indexes,
        rpm_digests=_digests(imported),
    )
    return lock, solution


def check_track(workspace: Workspace, name: str, *, offline: bool = False) -> list[Finding]:
    """Hold a track's committed lock against its definition and, unless ``offline``, against the upstreams."""
    definition = read_definition(workspace)
    track = definition.track(name)
    path = committed_path(workspace, name)
    lock = read_lock_file(path)
    request = track_request(definition, track)
    candidates: list[Candidate] | None = None
    if not offline:
        offer = open_offer(workspace, definition, favouring(request, lock).install)
        candidates = [*own_candidates(definition), *offer.candidates]
    return check_lock(
        lock,
        track=name,
        definition=definition.resolution_digest(track, lock.names),
        request=request,
        candidates=candidates,
        where=str(path),
    )


def _import(workspace: Workspace, definition: DefinitionSet, offer: Offer, solution: Solution) -> list[ImportedPackage]:
    chosen = [offer.package_of(one) for one in solution.packages if one.location is not None]
    check_import(chosen, offer.packages.values(), all_drop_rules(definition)).require()
    wanted = [Wanted(one.location, one.suite, f"{one.name} {one.version}") for one in chosen]
    store = download(workspace, definition, wanted)
    return import_files(workspace, definition, describe_files(workspace, store, chosen), store)


def _digests(imported: Sequence[ImportedPackage]) -> Mapping[Nevra, str]:
    return {one.nevra: one.rpm_sha256 for one in imported}


def _require_closed(request: Request, own: Sequence[Candidate], imported: Sequence[ImportedPackage]) -> None:
    """Resolve once more within the finished packages alone: what only their files ask for (libraries by soname) and
    what the mapping changed must be met by the very set that is locked."""
    finished = []
    for one in imported:
        package = RpmPackage.open(one.path)
        finished.append(
            Candidate(
                nevra=package.nevra,
                source=package.source,
                location=one.upstream.location,
                requires=tuple(text for text in package.requires if not text.startswith("rpmlib(")),
                provides=package.provides,
                conflicts=package.conflicts,
                obsoletes=package.obsoletes,
                files=tuple(entry.path for entry in package.files),
            )
        )
    try:
        solve([*own, *finished], request)
    except BedplateError as error:
        raise type(error)(
            "the imported packages do not fit together, although the upstream's index says they do",
            where=request.where,
            details=[error.message, *error.details],
            remedy="add the missing requirement to the track, or the missing provide in distro/packages",
        ) from error
