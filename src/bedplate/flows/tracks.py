"""Building several tracks from one commit in one go, what they share done once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.flows.build import BuildOutcome, build_track
from bedplate.flows.definition import read_definition
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.lock import Lock


@dataclass(frozen=True)
class BuiltTracks:
    """Finished images in the order they were asked for, and seconds: of each track, and in ``total``."""

    builds: tuple[BuildOutcome, ...]
    seconds: dict[str, float]


def build_tracks(
    workspace: Workspace,
    names: Sequence[str] = (),
    formats: Sequence[str] = (),
    relock: Relock = Relock.NEVER,
    *,
    version: str = "",
) -> BuiltTracks:
    """Build the tracks ``names`` (when there are none all of the definition but variants) and give each image the
    ``formats``.

    Tracks share the tools, the imported packages, each package's compressed content, and the stages whose inputs are
    alike: what one has made the next finds by its digest.

    Raises:
        BadInput: an unknown track or format, before anything is built; and see
            :func:`bedplate.flows.build.build_track`.
    """
    started = time.monotonic()
    if formats:
        from bedplate.compose.formats.kinds import chosen_formats

        chosen_formats(formats)
    definition = read_definition(workspace)
    tracks = named_tracks(definition, names)
    seconds: dict[str, float] = {}
    if len(tracks) > 1:
        before = time.monotonic()
        _prepare(workspace, definition, tracks, relock, version)
        seconds["shared"] = round(time.monotonic() - before, 3)
    builds = []
    for name in tracks:
        before = time.monotonic()
        built = build_track(workspace, name, relock, version=version)
        if formats:
            from bedplate.flows.formats import add_formats

            built = add_formats(workspace, built, formats, relock)
        builds.append(built)
        seconds[name] = round(time.monotonic() - before, 3)
    seconds["total"] = round(time.monotonic() - started, 3)
    return BuiltTracks(tuple(builds), seconds)


def named_tracks(definition: DefinitionSet, names: Sequence[str]) -> list[str]:
    """Ids of the tracks called ``names``; when there are none, those of all tracks that are no variants.

    Raises:
        BadInput: there is no such track.
    """
    if names:
        return [definition.track(name).id for name in names]
    return sorted(track.id for track in definition.tracks.values() if not track.extends)


def _prepare(
    workspace: Workspace, definition: DefinitionSet, tracks: Sequence[str], relock: Relock, version: str
) -> None:
    """Download and import what the tracks that must be built need together, each package once, before the first."""
    from bedplate.flows.finished import Question
    from bedplate.flows.keys import key_store
    from bedplate.flows.owned import owned_sets

    keys = key_store(workspace, definition)
    questions = [
        Question(workspace, definition, track, owned_sets(workspace, track), keys, None, version)
        for track in (definition.track(name) for name in tracks)
    ]
    todo = [question.track.id for question in questions if question.finished() is None]
    if not todo:
        return
    from bedplate.flows.imports import import_locked
    from bedplate.flows.track import locked_track

    locks = [locked_track(workspace, definition, name, relock).lock for name in todo]
    import_locked(workspace, definition, _union(locks))


def _union(locks: Sequence[Lock]) -> Lock:
    """Each locked package once, for importing alone: two tracks may lock two versions of one name."""
    packages = {(str(one.nevra), one.location): one for lock in locks for one in lock.packages}
    return Lock(" and ".join(lock.track for lock in locks), "", tuple(packages.values()))
