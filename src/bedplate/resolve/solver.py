"""Choose packages with libsolv: same candidates and request, in whatever order, same answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import solv

from bedplate.model.errors import BadInput
from bedplate.model.package import Candidate
from bedplate.model.relation import Plain, parse_relation
from bedplate.resolve.preference import Preference
from bedplate.resolve.reasons import Unresolvable, explain
from bedplate.resolve.request import Request, Solution
from bedplate.resolve.universe import Universe
from bedplate.resolve.why import choices_made, held_back, trace

__all__ = ["Unresolvable", "solve"]


def solve(candidates: Sequence[Candidate], request: Request, *, known_names: Iterable[str] = ()) -> Solution:
    """Find the packages that ``request`` needs.

    The highest EVR wins unless the request favours another. Where a requirement can be met in several ways, in this
    order: what is in the set anyway, what the request prefers, what was locked, the first alternative written, the
    package of the required name, the alphabet.

    Args:
        known_names: Names the upstream has besides those of ``candidates``, when these are a selection: an unknown
            name is answered with names like it.

    Raises:
        Unresolvable: no consistent set exists; the details name every reason and the chain that leads to it.
        BadInput: the request asks for what it excludes, or it or a candidate holds something that is not an RPM
            dependency.
    """
    _refuse_contradiction(request)
    universe = Universe(candidates, request, known_names)
    preference = Preference(universe, request)
    solver: Any = universe.pool.Solver()
    solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 0 if request.recommends else 1)
    jobs = [_job(universe, text) for text in universe.install]
    jobs += [
        universe.pool.Job(solv.Job.SOLVER_FAVOR | solv.Job.SOLVER_SOLVABLE, universe.solvable(wish).id)
        for wish in preference.wishes()
    ]
    problems = solver.solve(jobs)
    if problems:
        raise explain(problems, universe, request)
    chosen = {
        candidate.nevra.name: candidate for candidate in map(universe.candidate, solver.transaction().newsolvables())
    }
    packages = tuple(chosen[name] for name in sorted(chosen))
    why = trace(packages, universe)
    return Solution(
        packages=packages,
        why=why,
        choices=choices_made(packages, universe, preference),
        held_back=held_back(packages, universe, request),
    )


def _refuse_contradiction(request: Request) -> None:
    excluded = {exclusion.name: exclusion.where for exclusion in request.exclude}
    asked = [text for text in sorted(request.install) if not text.startswith("(")]
    both = [text for text in asked if text.partition(" ")[0] in excluded]
    if both:
        raise BadInput(
            f"{request.asker} asks for what it excludes",
            where=request.where,
            remedy="take each of these off one of the two lists",
            details=[f"{text}: excluded by {excluded[text.partition(' ')[0]] or 'the request'}" for text in both],
        )


def _job(universe: Universe, text: str) -> Any:
    relation = parse_relation(text)
    named = isinstance(relation, Plain) and any(
        candidate.nevra.name == relation.name for candidate in universe.providers(text)
    )
    selection = solv.Job.SOLVER_SOLVABLE_NAME if named else solv.Job.SOLVER_SOLVABLE_PROVIDES
    return universe.pool.Job(solv.Job.SOLVER_INSTALL | selection, universe.dependency(text))
