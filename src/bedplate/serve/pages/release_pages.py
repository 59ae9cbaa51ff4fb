"""The pages about releases: all of them, one, two side by side."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bedplate.model.errors import BedplateError
from bedplate.model.release import ArtefactKind
from bedplate.release.diff import diff_releases
from bedplate.serve.catalog import Shelved, read_bounded
from bedplate.serve.pages import overview
from bedplate.serve.pages.census import CensusTaker
from bedplate.serve.pages.frame import Frame, in_thread, service_of
from bedplate.serve.people import NotThere, Person
from bedplate.serve.view import FleetView

_MAX_FACTS = 8 << 20


class ReleasePages:
    """Pages for a person who may look."""

    def __init__(self, frame: Frame, census: CensusTaker) -> None:
        self.frame = frame
        self.census = census

    async def releases(self, request: Request, person: Person) -> Response:
        """Every release of the store."""
        view = service_of(request).view
        return self.frame.render(request, person, "releases.html", releases=await self._releases(request, view))

    async def _releases(self, request: Request, view: FleetView) -> dict[str, list[overview.ReleaseRow]]:
        return overview.releases(view, await self.census.take(view, service_of(request).clock()))

    async def release(self, request: Request, person: Person) -> Response:
        """One release."""
        view = service_of(request).view
        track, version = request.path_params["track"], request.path_params["version"]
        rows = (await self._releases(request, view)).get(track, [])
        row = next((one for one in rows if one.release.version == version), None)
        if row is None:
            raise NotThere(f"the store holds no release {version[:40]} of track {track[:40]}")
        return self.frame.render(request, person, "release.html", row=row, release=row.release)

    async def diff(self, request: Request, person: Person) -> Response:
        """Two releases side by side."""
        view = service_of(request).view
        track = request.path_params["track"]
        versions = [row.release.version for row in (await self._releases(request, view)).get(track, [])]
        if not versions:
            raise NotThere(f"the store holds no release of track {track[:40]}")
        new = request.query_params.get("new") or versions[0]
        older = versions.index(new) + 1 if new in versions else 0
        old = request.query_params.get("old") or versions[min(older, len(versions) - 1)]
        before, after = view.shelf.get(track, old), view.shelf.get(track, new)
        if before is None or after is None:
            raise NotThere(f"the store does not hold both {old[:40]} and {new[:40]}", where=track)
        old_facts, new_facts = await in_thread(lambda: (_facts(before), _facts(after)))
        return self.frame.render(
            request,
            person,
            "diff.html",
            track=track,
            versions=versions,
            old=before.release,
            new=after.release,
            diff=diff_releases(before.release, old_facts or {}, after.release, new_facts or {}),
            facts_known=old_facts is not None and new_facts is not None,
        )


def _facts(shelved: Shelved) -> dict[str, Any] | None:
    """The facts of a release (its packages among them), None when they are not at hand here or are not its own."""
    found = next((one for one in shelved.release.artefacts if one.kind == ArtefactKind.FACTS), None)
    file = shelved.files.get(found.name) if found is not None else None
    if found is None or file is None or not file.path or found.compression != "none":
        return None
    try:
        content = read_bounded(Path(file.path), _MAX_FACTS)
        facts = json.loads(content)
    except (BedplateError, ValueError, RecursionError):
        return None
    own = hashlib.sha256(content).hexdigest() == file.sha256 and isinstance(facts, dict)
    return facts if own else None
