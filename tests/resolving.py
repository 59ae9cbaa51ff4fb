"""Small package worlds for tests of the resolver and of locks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bedplate.model.evr import Evr
from bedplate.model.lock import Lock
from bedplate.model.package import Candidate, Location, Nevra, SourceRef
from bedplate.resolve.locking import make_lock
from bedplate.resolve.request import Request, Solution
from bedplate.resolve.solver import solve

DEFINITION = "d" * 64
INDEXES = {"stable": "1" * 64}
WHERE = "distro/tracks/container.toml"


def package(
    name: str,
    evr: str = "1-1",
    *,
    requires: Sequence[str] = (),
    provides: Sequence[str] = (),
    conflicts: Sequence[str] = (),
    recommends: Sequence[str] = (),
    obsoletes: Sequence[str] = (),
    files: Sequence[str] = (),
    arch: str = "x86_64",
    suite: str = "stable",
    source: str = "",
    essential: bool = False,
    size: int = 1000,
    content: str = "",
) -> Candidate:
    """A candidate whose file digest follows from its name, version and ``content``."""
    parsed = Evr.parse(evr)
    digest = hashlib.sha256(f"{name} {evr} {arch} {content}".encode()).hexdigest()
    return Candidate(
        nevra=Nevra(name, parsed, arch),
        source=SourceRef(source or name, parsed),
        location=Location("debian", f"pool/{name}_{evr}.deb", digest, size),
        requires=tuple(requires),
        provides=tuple(provides),
        conflicts=tuple(conflicts),
        obsoletes=tuple(obsoletes),
        recommends=tuple(recommends),
        files=tuple(files),
        essential=essential,
        suite=suite,
        upstream_version=evr,
    )


def request(*install: str, **more: object) -> Request:
    """A request of the track ``container``."""
    return Request(asker="container", install=install, where=WHERE, **more)  # type: ignore[arg-type]


def names(solution: Solution) -> list[str]:
    """Names of a solution."""
    return [chosen.nevra.name for chosen in solution.packages]


def labels(solution: Solution) -> list[str]:
    """``name-evr`` of every package of a solution."""
    return [f"{chosen.nevra.name}-{chosen.nevra.evr}" for chosen in solution.packages]


def lock_of(solution: Solution, *, track: str = "container", definition: str = DEFINITION) -> Lock:
    """A lock of a solution, with made-up digests of our RPMs."""
    digests = {chosen.nevra: hashlib.sha256(f"rpm {chosen.nevra}".encode()).hexdigest() for chosen in solution.packages}
    return make_lock(solution, track=track, definition=definition, indexes=INDEXES, rpm_digests=digests)


def locked(candidates: Sequence[Candidate], *install: str) -> Lock:
    """Resolve and lock."""
    return lock_of(solve(candidates, request(*install)))
