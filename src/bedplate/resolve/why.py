"""Explain a solution: who asked for each package, which choices were made, what is not at its newest version."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bedplate.model.errors import Finding, Level
from bedplate.model.package import Candidate
from bedplate.resolve.preference import Preference
from bedplate.resolve.request import TRACK, Choice, ChoiceReason, HeldBack, Request, Solution, Why
from bedplate.resolve.universe import Universe


def trace(packages: Sequence[Candidate], universe: Universe) -> dict[str, Why]:
    """For each package name a shortest chain from the request, keys sorted; ties go to the first name in the alphabet.

    Packages that came by recommendation only are found through the recommendation.
    """
    chosen = {package.nevra.name: package for package in packages}
    why: dict[str, Why] = {}
    queue: deque[str] = deque()

    def reach(text: str, by: str, chain: tuple[str, ...]) -> None:
        for name in sorted({c.nevra.name for c in universe.providers(text) if chosen.get(c.nevra.name) == c}):
            if name not in why:
                why[name] = Why(by, text, (*chain, name))
                queue.append(name)

    for text in sorted(universe.install, key=lambda text: (text not in chosen, text)):
        reach(text, TRACK, ())
    while queue:
        name = queue.popleft()
        for text in (*chosen[name].requires, *chosen[name].recommends):
            if name in why:
                reach(text, name, why[name].chain)
    return {name: why[name] for name in sorted(why)}


def choices_made(packages: Sequence[Candidate], universe: Universe, preference: Preference) -> tuple[Choice, ...]:
    """Every requirement of the solution that packages of several names could have met, sorted."""
    chosen = {package.nevra.name: package for package in packages}
    asked = [(TRACK, text) for text in universe.install if text not in chosen]
    asked += [(package.nevra.name, text) for package in packages for text in package.requires]
    ranked = {(by, text): preference.options(text) for by, text in asked}
    meant = {options[0].candidate.nevra.name for options in ranked.values() if options} | set(universe.install)
    choices = []
    for (by, text), options in sorted(ranked.items()):
        taken = [option for option in options if option.candidate.nevra.name in chosen]
        if len(options) < 2 or not taken:
            continue
        first = taken[0]
        name = first.candidate.nevra.name
        reason = first.reason
        if first is not options[0]:
            reason = ChoiceReason.PRESENT if name in meant else ChoiceReason.FORCED
        others = tuple(sorted(o.candidate.nevra.name for o in options if o is not first))
        choices.append(Choice(by, text, name, others, reason))
    return tuple(choices)


def held_back(packages: Sequence[Candidate], universe: Universe, request: Request) -> tuple[HeldBack, ...]:
    """Packages of the solution that are offered in a higher version too."""
    best: dict[str, Candidate] = {}
    for candidate in universe.offered:
        known = best.get(candidate.nevra.name)
        if known is None or known.nevra.evr < candidate.nevra.evr:
            best[candidate.nevra.name] = candidate
    favoured = frozenset(request.favour)
    return tuple(
        HeldBack(package.nevra, best[package.nevra.name].nevra, package.nevra in favoured)
        for package in packages
        if package.nevra.evr < best[package.nevra.name].nevra.evr
    )


def solution_findings(solution: Solution, where: str) -> list[Finding]:
    """What a person should know of a solution: choices nobody decided, and versions that could not be had.

    ``where`` names the file the request stands in.
    """
    findings = []
    for choice in solution.choices:
        if choice.reason is ChoiceReason.ALPHABET:
            others = " or ".join(choice.others)
            cause = f"{choice.by} requires {choice.requirement}: {choice.chosen} was taken, {others} would do"
            remedy = "name the one that is meant in `packages` or `prefer`"
            findings.append(Finding("resolve.choice.unranked", Level.WARNING, cause, where, remedy))
    for held in solution.held_back:
        if not held.locked:
            cause = f"{held.best} cannot be installed, {held.chosen} was taken"
            remedy = "see what it requires and conflicts with"
            findings.append(Finding("resolve.held-back", Level.WARNING, cause, where, remedy))
    return findings
