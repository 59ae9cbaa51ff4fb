"""Candidates as a libsolv pool: only those that can matter, in an order of their own, whatever order they came in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import solv

from bedplate.model.errors import BadInput
from bedplate.model.package import Candidate, Nevra
from bedplate.model.relation import Plain, parse_relation, relation_names
from bedplate.resolve.request import Request

_COMPARISON_FLAGS = {
    "<": solv.REL_LT,
    "<=": solv.REL_LT | solv.REL_EQ,
    "=": solv.REL_EQ,
    ">=": solv.REL_GT | solv.REL_EQ,
    ">": solv.REL_GT,
}
_RPM_ITSELF = "rpmlib("


class Universe:
    """A pool holding every candidate that ``request`` can reach by the names of requirements.

    ``offered`` are the reachable candidates that may be chosen, ``excluded`` the names the request rules out with the
    file that says so; excluded candidates are not in the pool.
    """

    def __init__(self, candidates: Sequence[Candidate], request: Request, known_names: Iterable[str] = ()) -> None:
        arches = frozenset(request.arches)
        index = _Index(candidates, arches)
        self.install = _wanted(candidates, request)
        self.excluded = {exclusion.name: exclusion.where for exclusion in request.exclude}
        reachable = _reachable(self.install, index, request)
        self.offered = _distinct((c for c in reachable if c.nevra.name not in self.excluded), request.favour_files)
        self.barred = _distinct((c for c in reachable if c.nevra.name in self.excluded), frozenset())
        self._all = index
        self._given = candidates
        self._known_names = known_names
        self._dependency_ids: dict[str, int] = {}
        self.pool = _new_pool(next((arch for arch in request.arches if arch != "noarch"), "noarch"))
        self._candidate_of: dict[int, Candidate] = {}
        self._solvable_of: dict[Nevra, Any] = {}
        self._load(self.pool.add_repo("upstream"))
        self._providers: dict[str, tuple[Candidate, ...]] = {}

    def _load(self, repo: Any) -> None:
        paths = {
            name
            for candidate in self.offered
            for text in (*candidate.requires, *candidate.conflicts)
            for name in relation_names(text)
            if name.startswith("/")
        }
        paths.update(name for text in self.install for name in relation_names(text) if name.startswith("/"))
        for candidate in self.offered:
            nevra = candidate.nevra
            solvable = repo.add_solvable()
            solvable.name, solvable.evr, solvable.arch = nevra.name, str(nevra.evr), nevra.arch
            solvable.add_provides(self.dependency(f"{nevra.name} = {nevra.evr}"))
            for text in candidate.provides:
                solvable.add_provides(self.dependency(text))
            for path in candidate.files:
                if path in paths:
                    solvable.add_provides(self.dependency(path))
            for text in candidate.requires:
                if not text.startswith(_RPM_ITSELF):
                    solvable.add_requires(self.dependency(text))
            for text in candidate.conflicts:
                solvable.add_conflicts(self.dependency(text))
            for text in candidate.obsoletes:
                solvable.add_obsoletes(self.dependency(text))
            for text in candidate.recommends:
                solvable.add_recommends(self.dependency(text))
            self._candidate_of[solvable.id] = candidate
            self._solvable_of[nevra] = solvable
        self.pool.createwhatprovides()

    def dependency(self, text: str) -> int:
        """The pool's id of an RPM dependency string.

        Raises:
            BadInput: the string is not a dependency.
        """
        known = self._dependency_ids.get(text)
        if known is not None:
            return known
        relation = parse_relation(text)
        if isinstance(relation, Plain):
            number = int(self.pool.str2id(relation.name))
            if relation.comparison:
                version = self.pool.str2id(relation.evr)
                number = int(self.pool.rel2id(number, version, _COMPARISON_FLAGS[relation.comparison]))
        else:
            rich = self.pool.parserpmrichdep(str(relation))
            if rich is None:
                raise BadInput(f"the solver cannot read the dependency {text!r}")
            number = int(rich.id)
        self._dependency_ids[text] = number
        return number

    def providers(self, text: str) -> tuple[Candidate, ...]:
        """Offered candidates that meet the dependency ``text``, sorted by NEVRA text."""
        found = self._providers.get(text)
        if found is None:
            solvables = self.pool.whatprovides(self.dependency(text))
            # libsolv's own system solvable, which provides rpmlib(), is not among the candidates.
            known = self._candidate_of
            found = tuple(known[number] for number in sorted(s.id for s in solvables) if number in known)
            self._providers[text] = found
        return found

    def candidate(self, solvable: Any) -> Candidate:
        """The candidate behind a solvable of the pool."""
        return self._candidate_of[solvable.id]

    def solvable(self, candidate: Candidate) -> Any:
        """The pool's solvable of an offered candidate."""
        return self._solvable_of[candidate.nevra]

    def named(self, name: str) -> list[Candidate]:
        """Every candidate of the request's architectures called ``name`` or providing it, barred ones included."""
        return self._all.get(name)

    def other_arches(self, name: str) -> list[str]:
        """Architectures the request leaves out that have a package called ``name``."""
        return sorted({c.nevra.arch for c in self._given if c.nevra.name == name})

    def capabilities(self) -> Iterable[str]:
        """Every name that any candidate has or provides, and the names known besides."""
        return {*self._all.names(), *self._known_names}


def _new_pool(arch: str) -> Any:
    module: Any = solv
    pool = module.Pool()
    pool.setdisttype(module.Pool.DISTTYPE_RPM)
    pool.setarch(arch)
    return pool


def relevant(candidates: Sequence[Candidate], request: Request) -> list[Candidate]:
    """Those of ``candidates`` that ``request`` can reach by name, in no particular order.

    The rest cannot appear in a solution or a reason; leaving it out early makes repeated solving cheap.
    """
    return _reachable(_wanted(candidates, request), _Index(candidates, frozenset(request.arches)), request)


def _wanted(candidates: Sequence[Candidate], request: Request) -> tuple[str, ...]:
    wanted = set(request.install)
    if request.essential:
        wanted |= {c.nevra.name for c in candidates if c.essential and c.nevra.arch in request.arches}
    return tuple(sorted(wanted))


class _Index:
    """Candidates by every name they have or provide, for the request's architectures.

    Most names have one candidate. Lists are kept only for the others: seventy thousand of them would make Python's
    collector walk the whole heap again, which takes longer than all of the solving.
    """

    def __init__(self, candidates: Iterable[Candidate], arches: frozenset[str]) -> None:
        self._first: dict[str, Candidate] = {}
        self._more: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            if candidate.nevra.arch not in arches:
                continue
            names = {candidate.nevra.name}
            names.update(text.partition(" ")[0] for text in candidate.provides)
            names.update(candidate.files)
            for name in names:
                if self._first.setdefault(name, candidate) is not candidate:
                    self._more.setdefault(name, []).append(candidate)

    def get(self, name: str) -> list[Candidate]:
        """Every candidate that has or provides ``name``."""
        first = self._first.get(name)
        return [] if first is None else [first, *self._more.get(name, ())]

    def names(self) -> Iterable[str]:
        """Every name there is."""
        return self._first.keys()


def _reachable(install: Iterable[str], index: _Index, request: Request) -> list[Candidate]:
    pending = [name for text in install for name in relation_names(text)]
    names = set(pending)
    found: dict[int, Candidate] = {}
    while pending:
        for candidate in index.get(pending.pop()):
            if id(candidate) in found:
                continue
            found[id(candidate)] = candidate
            texts = candidate.requires + candidate.recommends if request.recommends else candidate.requires
            for text in texts:
                for name in relation_names(text):
                    if name not in names:
                        names.add(name)
                        pending.append(name)
    return list(found.values())


def _distinct(candidates: Iterable[Candidate], favour_files: frozenset[str]) -> list[Candidate]:
    """One candidate of each NEVRA, in NEVRA order; of two builds of one NEVRA a favoured file wins, then the order
    of suite and path."""

    def rank(candidate: Candidate) -> tuple[str, str, str, bool, str, str, str, str]:
        nevra, location = candidate.nevra, candidate.location
        place = (location.upstream, location.path, location.sha256) if location else ("", "", "")
        kept = location is not None and location.sha256 in favour_files
        return (nevra.name, str(nevra.evr), nevra.arch, not kept, candidate.suite, *place)

    distinct: dict[Nevra, Candidate] = {}
    for candidate in sorted(candidates, key=rank):
        distinct.setdefault(candidate.nevra, candidate)
    return list(distinct.values())
