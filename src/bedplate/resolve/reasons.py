"""Say in words why a request cannot be met: who asked, through which packages, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

import solv

from bedplate.model.errors import BedplateError
from bedplate.model.package import Candidate
from bedplate.model.relation import Plain, Relation, parse_relation, plain_parts, provides_match
from bedplate.resolve.request import Request
from bedplate.resolve.universe import Universe

_MAX_REASONS = 20
_CLOSE_ENOUGH = 0.8


class Obstacle(StrEnum):
    """What kind of thing stands in the way."""

    MISSING = "missing"
    EXCLUDED = "excluded"
    CONFLICT = "conflict"
    TWO_VERSIONS = "two-versions"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that stands in the way.

    ``chain`` tells the way there, one sentence a step, from the asker on; ``obstacle`` what is at its end. ``package``
    is the name of the package whose wish cannot be met, empty when it is the asker's own.
    """

    kind: Obstacle
    package: str
    chain: tuple[str, ...]
    obstacle: str

    def __str__(self) -> str:
        return "; ".join((*self.chain, self.obstacle))


class Unresolvable(BedplateError):
    """No consistent set of packages meets the request. ``reasons`` are the details as values."""

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        remedy: str = "",
        details: Sequence[str] = (),
        reasons: Sequence[Reason] = (),
    ) -> None:
        told = [str(reason) for reason in reasons]
        super().__init__(message, where=where, remedy=remedy, details=details or told)
        self.reasons = tuple(reasons)


def explain(problems: Iterable[Any], universe: Universe, request: Request) -> Unresolvable:
    """Make the error from libsolv's problems. Each reason is given once, for the highest version it holds for."""
    found: dict[tuple[object, ...], Reason] = {}
    for problem in problems:
        infos = [info for rule in problem.findallproblemrules() for info in rule.allinfos()]
        teller = _Teller(universe, request, infos)
        for key, reason in teller.reasons():
            found.setdefault(key, reason)
    reasons = sorted(found.values(), key=lambda reason: (reason.chain, reason.obstacle))
    left_out = len(reasons) - _MAX_REASONS
    if left_out > 0:
        more = Reason(Obstacle.OTHER, "", (), f"and {left_out} more reasons")
        reasons = [*reasons[:_MAX_REASONS], more]
    return Unresolvable(
        f"the packages {request.asker} asks for cannot be had together",
        where=request.where,
        remedy=_remedy(reasons),
        reasons=reasons,
    )


def _remedy(reasons: Sequence[Reason]) -> str:
    kinds = {reason.kind for reason in reasons}
    if Obstacle.EXCLUDED in kinds:
        return "take the package off the list that excludes it, or leave out what requires it"
    if kinds & {Obstacle.CONFLICT, Obstacle.TWO_VERSIONS}:
        return "leave out one of the packages that cannot stand beside one another"
    return "correct the name or version asked for, or add the suite that carries it"


class _Teller:
    """Turns the rules of one problem into reasons."""

    def __init__(self, universe: Universe, request: Request, infos: Sequence[Any]) -> None:
        self._universe = universe
        self._request = request
        self._infos = infos
        self._chains = self._find_chains()

    def _find_chains(self) -> dict[str, tuple[str, ...]]:
        """A shortest chain of sentences to each package of the problem, by NEVRA text.

        Packages of the problem are walked first, so that the chain tells the problem's own story; what is not reached
        through them alone is reached through any offered package.
        """
        involved = {
            str(self._universe.candidate(solvable).nevra)
            for info in self._infos
            for solvable in (info.solvable, info.othersolvable)
            if solvable is not None
        }
        chains: dict[str, tuple[str, ...]] = {}
        self._walk(chains, involved)
        if not involved <= chains.keys():
            self._walk(chains, None)
        return chains

    def _walk(self, chains: dict[str, tuple[str, ...]], within: set[str] | None) -> None:
        level: list[tuple[Candidate, tuple[str, ...]]] = []

        def reach(text: str, said: tuple[str, ...]) -> None:
            for candidate in sorted(self._universe.providers(text), key=_newest_first):
                label = str(candidate.nevra)
                if label in chains or (within is not None and label not in within):
                    continue
                chains[label] = (*said[:-1], said[-1] + _met_by(text, candidate))
                level.append((candidate, chains[label]))

        for text in self._universe.install:
            reach(text, (f"{self._request.asker} asks for {text}",))
        while level:
            current, level = level, []
            for candidate, chain in current:
                for text in candidate.requires:
                    reach(text, (*chain, _requires(candidate, text)))

    def reasons(self) -> Iterable[tuple[tuple[object, ...], Reason]]:
        """Every obstacle of the problem with a key that is the same for other versions of the same packages."""
        infos = [info for info in self._infos if info.solvable is None]
        rest = [info for info in self._infos if info.solvable is not None]
        rest.sort(key=lambda info: _newest_first(self._universe.candidate(info.solvable)))
        for info in (*infos, *rest):
            yield from self._reason(info)

    def _reason(self, info: Any) -> Iterable[tuple[tuple[object, ...], Reason]]:
        solver: Any = solv.Solver
        one = self._universe.candidate(info.solvable) if info.solvable is not None else None
        two = self._universe.candidate(info.othersolvable) if info.othersolvable is not None else None
        dependency = info.dep.str() if info.dep is not None else ""
        match info.type:
            case solver.SOLVER_RULE_JOB_NOTHING_PROVIDES_DEP | solver.SOLVER_RULE_JOB_UNKNOWN_PACKAGE:
                kind, obstacle = self._missing(dependency)
                asked = f"{self._request.asker} asks for {dependency}"
                yield ("job", dependency), Reason(kind, "", (asked,), obstacle)
            case solver.SOLVER_RULE_PKG_NOTHING_PROVIDES_DEP if one is not None:
                kind, obstacle = self._missing(dependency)
                chain = (*self._chain(one), _requires(one, dependency))
                key = ("missing", one.nevra.name, *_names(dependency))
                yield key, Reason(kind, one.nevra.name, chain, obstacle)
            case solver.SOLVER_RULE_PKG_CONFLICTS | solver.SOLVER_RULE_PKG_OBSOLETES if one and two:
                verb = "obsoletes" if info.type == solver.SOLVER_RULE_PKG_OBSOLETES else "conflicts with"
                obstacle = f"{one.nevra} {verb} {dependency}{_met_by(dependency, two)}, and {self._asked(two)}"
                key = ("conflict", one.nevra.name, two.nevra.name)
                yield key, Reason(Obstacle.CONFLICT, one.nevra.name, self._chain(one), obstacle)
            case solver.SOLVER_RULE_PKG_SELF_CONFLICT if one is not None:
                obstacle = f"{one.nevra} conflicts with {dependency}, which it provides itself"
                yield ("self", one.nevra.name), Reason(Obstacle.CONFLICT, one.nevra.name, self._chain(one), obstacle)
            case solver.SOLVER_RULE_PKG_SAME_NAME if one and two:
                obstacle = f"{one.nevra} cannot stand beside {two.nevra}, and {self._asked(two)}"
                key = ("same", one.nevra.name)
                yield key, Reason(Obstacle.TWO_VERSIONS, one.nevra.name, self._chain(one), obstacle)
            case solver.SOLVER_RULE_PKG_NOT_INSTALLABLE if one is not None:
                obstacle = f"{one.nevra} is not for {', '.join(self._request.arches)}"
                yield ("arch", one.nevra.name), Reason(Obstacle.OTHER, one.nevra.name, self._chain(one), obstacle)

    def _chain(self, candidate: Candidate) -> tuple[str, ...]:
        return self._chains.get(str(candidate.nevra), ())

    def _asked(self, candidate: Candidate) -> str:
        return ", ".join(self._chain(candidate)) or f"{candidate.nevra} is needed too"

    def _missing(self, dependency: str) -> tuple[Obstacle, str]:
        """What to say of a dependency no offered candidate meets."""
        parts = list(plain_parts(_read(dependency)))
        barred = sorted(
            {
                (c.nevra.name, str(c.nevra), c.suite)
                for part in parts
                for c in self._universe.named(part.name)
                if c.nevra.name in self._universe.excluded and any(_meets(c, part) for part in parts)
            }
        )
        if barred:
            name, nevra, suite = barred[-1]
            where = self._universe.excluded[name] or "the request"
            return Obstacle.EXCLUDED, f"{nevra}{_in(suite)} would meet it, but {name} is excluded by {where}"
        near = [self._nearest(part) for part in parts]
        told = [text for text in near if text]
        return Obstacle.MISSING, "; ".join(["no candidate provides it", *told])

    def _nearest(self, wanted: Plain) -> str:
        known = sorted(self._universe.named(wanted.name), key=_newest_first)
        if known:
            nearest = known[-1] if wanted.comparison.startswith("<") else known[0]
            label = str(nearest.nevra.evr)
            provided = [text for text in nearest.provides if text.partition(" ")[0] == wanted.name]
            if nearest.nevra.name != wanted.name:
                label = f"{provided[0] if provided else wanted.name} of {nearest.nevra}"
                return f"nearest: {label}{_in(nearest.suite)}"
            return f"nearest: {wanted.name} {label}{_in(nearest.suite)}"
        arches = self._universe.other_arches(wanted.name)
        if arches:
            return f"{wanted.name} is for {', '.join(arches)} only"
        alike = [
            name
            for name in self._universe.capabilities()
            if name[:1] == wanted.name[:1] and abs(len(name) - len(wanted.name)) <= 3
        ]
        close = get_close_matches(wanted.name, sorted(alike), 3, _CLOSE_ENOUGH)
        return f"names like it: {', '.join(close)}" if close else ""


def _newest_first(candidate: Candidate) -> Any:
    return _Descending(candidate)


@dataclass(frozen=True, slots=True)
class _Descending:
    candidate: Candidate

    def __lt__(self, other: _Descending) -> bool:
        one, two = self.candidate.nevra, other.candidate.nevra
        if one.evr.compare(two.evr):
            return two.evr < one.evr
        return (one.name, one.arch) < (two.name, two.arch)


def _requires(candidate: Candidate, text: str) -> str:
    return f"{candidate.nevra} requires {text}"


def _met_by(text: str, candidate: Candidate) -> str:
    """Name the package behind a capability, unless the text names it already."""
    relation = _read(text)
    if isinstance(relation, Plain) and relation.name == candidate.nevra.name:
        return ""
    return f" (met by {candidate.nevra})"


def _meets(candidate: Candidate, wanted: Plain) -> bool:
    own = Plain(candidate.nevra.name, "=", str(candidate.nevra.evr))
    provided = (parse_relation(text) for text in candidate.provides)
    return any(isinstance(p, Plain) and provides_match(p, wanted) for p in (own, *provided))


def _names(dependency: str) -> tuple[str, ...]:
    return tuple(part.name for part in plain_parts(_read(dependency)))


def _read(dependency: str) -> Relation:
    """Parse a dependency as libsolv prints it: rich ones come without their outer parentheses."""
    words = dependency.split()
    rich = len(words) > 1 and not (len(words) == 3 and words[1] in ("<", "<=", "=", ">=", ">"))
    return parse_relation(f"({dependency})" if rich and not dependency.startswith("(") else dependency)


def _in(suite: str) -> str:
    return f" in {suite}" if suite else ""
