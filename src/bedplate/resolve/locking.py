"""Make a lock from a solution, hold one against its definition and the upstream, move parts of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bedplate.model.errors import BadInput, BedplateError, Finding, Level
from bedplate.model.lock import Lock, LockedPackage
from bedplate.model.package import Candidate, Nevra
from bedplate.resolve.reasons import Unresolvable
from bedplate.resolve.request import Request, Solution
from bedplate.resolve.solver import solve
from bedplate.resolve.universe import relevant


def make_lock(
    solution: Solution,
    *,
    track: str,
    definition: str,
    indexes: Mapping[str, str],
    rpm_digests: Mapping[Nevra, str] | None,
) -> Lock:
    """The lock of a solution.

    Args:
        track: The track's id, or "tools".
        definition: Digest of the definition the request was made from.
        indexes: Suite -> SHA-256 of its signed index.
        rpm_digests: SHA-256 of our unsigned RPM of every package with an upstream file; None when the packages are
            not imported (the tools tree).

    Raises:
        BedplateError: a package with an upstream file has no digest.
    """
    missing = [
        str(package.nevra)
        for package in solution.packages
        if rpm_digests is not None and package.location is not None and package.nevra not in rpm_digests
    ]
    if missing:
        raise BedplateError(
            f"{len(missing)} packages of the solution were not imported",
            where=track,
            remedy="import them, then lock",
            details=missing,
        )
    locked = [_lock_package(package, solution, rpm_digests or {}) for package in solution.packages]
    return Lock(track, definition, tuple(sorted(locked, key=lambda p: p.nevra.name)), dict(sorted(indexes.items())))


def _lock_package(package: Candidate, solution: Solution, rpm_digests: Mapping[Nevra, str]) -> LockedPackage:
    return LockedPackage(
        nevra=package.nevra,
        source=package.source,
        location=package.location,
        rpm_sha256=rpm_digests.get(package.nevra, "") if package.location is not None else "",
        format=package.format,
        suite=package.suite,
        why=solution.why[package.nevra.name].by,
        upstream_version=package.upstream_version,
    )


def favouring(request: Request, lock: Lock, moving: Iterable[str] = ()) -> Request:
    """``request``, favouring what is locked except the names in ``moving``."""
    free = frozenset(moving)
    kept = [package for package in lock.packages if package.nevra.name not in free]
    files = {package.location.sha256 for package in kept if package.location is not None}
    return replace(request, favour=tuple(sorted((p.nevra for p in kept), key=str)), favour_files=frozenset(files))


def update(candidates: Sequence[Candidate], request: Request, lock: Lock, names: Sequence[str]) -> Solution:
    """Resolve again, moving ``names`` to their newest possible version and only what that forces to move.

    Args:
        names: Package names, or names of source packages: all locked packages built from such a source move.

    The result cannot be narrowed: putting any one other moved package back to its locked version has no solution.

    Raises:
        BadInput: a name is neither a locked package, a source of one, nor one the definition asks for.
        Unresolvable: there is no solution.
    """
    moving = _moving(request, lock, names)
    candidates = relevant(candidates, request)
    fresh = solve(candidates, replace(request, favour=(), favour_files=frozenset())).by_name()
    pinned = {name: fresh[name].nevra for name in moving if name in fresh}
    request = favouring(request, lock, moving)
    solution = solve(_pin(candidates, pinned), request)
    locked = {package.nevra.name: package.nevra for package in lock.packages}
    carried = {candidate.nevra for candidate in candidates}
    for name in sorted(_moved(solution, locked) - moving):
        if locked[name] not in carried:
            continue
        tried = pinned | {name: locked[name]} | _unmoved(solution, locked)
        try:
            solution = solve(_pin(candidates, tried), request)
        except Unresolvable:
            continue
    return solution


def _moving(request: Request, lock: Lock, names: Sequence[str]) -> set[str]:
    by_name = lock.by_name()
    sources: dict[str, set[str]] = {}
    for package in lock.packages:
        sources.setdefault(package.source.name, set()).add(package.nevra.name)
    moving: set[str] = set()
    unknown = []
    for name in names:
        if name in by_name or name in request.install:
            moving.add(name)
        elif name in sources:
            moving |= sources[name]
        else:
            unknown.append(name)
    if unknown:
        raise BadInput(
            f"not in the lock of {lock.track}: {', '.join(sorted(unknown))}",
            where="--update",
            remedy="name a locked package or the source package of one",
        )
    return moving


def _pin(candidates: Sequence[Candidate], pinned: Mapping[str, Nevra]) -> list[Candidate]:
    return [c for c in candidates if pinned.get(c.nevra.name, c.nevra) == c.nevra]


def _moved(solution: Solution, locked: Mapping[str, Nevra]) -> set[str]:
    chosen = solution.by_name()
    return {name for name, nevra in locked.items() if name in chosen and chosen[name].nevra != nevra}


def _unmoved(solution: Solution, locked: Mapping[str, Nevra]) -> dict[str, Nevra]:
    chosen = solution.by_name()
    return {name: nevra for name, nevra in locked.items() if name in chosen and chosen[name].nevra == nevra}


def check_lock(
    lock: Lock,
    *,
    track: str,
    definition: str,
    request: Request,
    candidates: Sequence[Candidate] | None,
    where: str,
) -> list[Finding]:
    """Is the lock still what its definition resolves to? An ERROR among the findings means it is stale.

    ``candidates`` are None when no upstream index is at hand: what they would show is then UNKNOWN, not passed.
    """
    again = f"bedplate lock {track}"
    findings = []
    if lock.track != track:
        findings.append(
            Finding("lock.track", Level.ERROR, f"this lock is for {lock.track}, not for {track}", where, again)
        )
    if lock.definition != definition:
        findings.append(
            Finding("lock.definition", Level.ERROR, "the definition has changed since it was locked", where, again)
        )
    if candidates is None:
        findings.append(
            Finding("lock.upstream", Level.UNKNOWN, "no upstream index at hand to hold the lock against", where)
        )
        return findings
    gone, upstream = _against_upstream(lock, candidates, where)
    return [*findings, *upstream, *_against_solution(lock, request, candidates, gone, where, again)]


def _against_upstream(lock: Lock, candidates: Sequence[Candidate], where: str) -> tuple[set[str], list[Finding]]:
    locked_names = {package.nevra.name for package in lock.packages}
    carried: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.nevra.name in locked_names:
            carried.setdefault(candidate.nevra.name, []).append(candidate)
    gone: set[str] = set()
    findings = []
    for package in sorted(lock.packages, key=lambda p: p.nevra.name):
        if package.location is None:
            continue
        nevra = package.nevra
        remedy = f"bedplate lock {lock.track} --update {nevra.name}"
        offered = carried.get(nevra.name, [])
        files = {c.location.sha256 for c in offered if c.nevra == nevra and c.location is not None}
        newer = [c for c in offered if c.nevra.arch == nevra.arch and nevra.evr < c.nevra.evr]
        if not files:
            gone.add(nevra.name)
            cause = f"the upstream no longer carries {nevra}; it is still used while the store has it"
            findings.append(Finding("lock.package.gone", Level.WARNING, cause, where, remedy))
        elif package.location.sha256 not in files:
            cause = f"the upstream now has other bytes under {nevra} than those locked"
            findings.append(Finding("lock.package.replaced", Level.ERROR, cause, where, remedy))
        if newer:
            best = max(newer, key=lambda c: c.nevra.evr)
            place = f" in {best.suite}" if best.suite else ""
            cause = f"{nevra.name} is locked at {nevra.evr}, {best.nevra.evr} is{place or ' to be had'}"
            findings.append(Finding("lock.package.newer", Level.INFO, cause, where, remedy))
    return gone, findings


def _against_solution(
    lock: Lock, request: Request, candidates: Sequence[Candidate], gone: set[str], where: str, again: str
) -> list[Finding]:
    try:
        chosen = solve(candidates, favouring(request, lock)).by_name()
    except Unresolvable as error:
        return [Finding("lock.unresolvable", Level.ERROR, str(error), where, error.remedy)]
    locked = lock.by_name()
    findings = []
    for name in sorted(chosen.keys() | locked.keys()):
        if name not in locked:
            cause = f"{chosen[name].nevra} is needed and not locked"
            # Another version of something gone may ask for more; that is the gone package's matter, not staleness.
            level = Level.WARNING if gone else Level.ERROR
            findings.append(Finding("lock.package.missing", level, cause, where, again))
        elif name not in chosen:
            level = Level.WARNING if gone else Level.ERROR
            cause = f"{locked[name].nevra} is locked and no longer needed"
            findings.append(Finding("lock.package.needless", level, cause, where, again))
        elif chosen[name].nevra != locked[name].nevra and name not in gone:
            level = Level.WARNING if gone else Level.ERROR
            cause = f"{locked[name].nevra} is locked, {chosen[name].nevra} is what resolves now"
            findings.append(Finding("lock.package.moved", level, cause, where, again))
    return findings
