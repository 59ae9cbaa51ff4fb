"""Which of several ways to meet a requirement is meant, decided before the solver is asked.

A requirement ``(a or b)`` names its first alternative first because its author prefers it. The solver knows no such
intent: it would take whichever its pool happens to list first. So a walk over the requirements decides what is wished
for, and the solver is told to favour that; it departs from a wish only where conflicts or missing packages force it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.model.package import Candidate, Nevra
from bedplate.model.relation import Plain, Relation, Rich, parse_relation
from bedplate.resolve.request import ChoiceReason, Request
from bedplate.resolve.universe import Universe


@dataclass(frozen=True, slots=True)
class Option:
    """One way (a package name) to meet a requirement: its best candidate, and why it ranks where it does."""

    candidate: Candidate
    reason: ChoiceReason


class Preference:
    """Ranks candidates for one request."""

    def __init__(self, universe: Universe, request: Request) -> None:
        self._universe = universe
        self._favoured: frozenset[Nevra] = frozenset(request.favour)
        self._favoured_names = frozenset(nevra.name for nevra in request.favour)
        self._prefer = {name: rank for rank, name in reversed(list(enumerate(request.prefer)))}
        self._options: dict[str, tuple[Option, ...]] = {}

    def best(self, candidates: Iterable[Candidate]) -> Candidate:
        """Of candidates with one name: the favoured one, else the highest EVR."""
        return max(candidates, key=lambda c: (c.nevra in self._favoured, c.nevra.evr, c.nevra.arch))

    def options(self, text: str) -> tuple[Option, ...]:
        """Ways to meet the requirement ``text``, best first, one for each package name."""
        known = self._options.get(text)
        if known is None:
            known = self._options[text] = self._rank(parse_relation(text))
        return known

    def _rank(self, relation: Relation) -> tuple[Option, ...]:
        by_name: dict[str, tuple[int, bool, list[Candidate]]] = {}
        alternatives = _alternatives(relation)
        for position, alternative in enumerate(alternatives):
            asked = alternative.name if isinstance(alternative, Plain) else ""
            for candidate in self._universe.providers(str(alternative)):
                name = candidate.nevra.name
                entry = by_name.setdefault(name, (position, name != asked, []))
                if candidate not in entry[2]:
                    entry[2].append(candidate)

        def key(name: str) -> tuple[int, bool, int, bool, str]:
            position, virtual, _ = by_name[name]
            locked = name in self._favoured_names
            return (self._prefer.get(name, len(self._prefer)), not locked, position, virtual, name)

        ranked = []
        for name in sorted(by_name, key=key):
            position, virtual, candidates = by_name[name]
            rivals = sum(1 for other in by_name.values() if other[0] == position)
            if name in self._prefer:
                reason = ChoiceReason.PREFERRED
            elif name in self._favoured_names:
                reason = ChoiceReason.LOCKED
            elif not virtual and rivals > 1:
                reason = ChoiceReason.NAMED
            elif rivals > 1:
                reason = ChoiceReason.ALPHABET
            else:
                reason = ChoiceReason.FIRST
            ranked.append(Option(self.best(candidates), reason))
        return tuple(ranked)

    def wishes(self) -> list[Candidate]:
        """Walk from the request along the best options; requirements with one option are followed before any other.

        What is already wished for meets a requirement before a better-ranked newcomer does.
        """
        wished: dict[str, Candidate] = {}
        forced: list[Candidate] = []
        open_choices: list[tuple[str, str]] = []

        def ask(by: str, text: str) -> None:
            options = self.options(text)
            if len(options) == 1:
                take(options[0].candidate)
            elif options:
                open_choices.append((by, text))

        def take(candidate: Candidate) -> None:
            if candidate.nevra.name not in wished:
                wished[candidate.nevra.name] = candidate
                forced.append(candidate)

        for text in self._universe.install:
            relation = parse_relation(text)
            named = [c for c in self._universe.providers(text) if c.nevra.name == getattr(relation, "name", "")]
            if named:
                take(self.best(named))
            else:
                ask("", text)
        while forced or open_choices:
            if forced:
                candidate = forced.pop()
                for text in candidate.requires:
                    ask(candidate.nevra.name, text)
                continue
            open_choices.sort(reverse=True)
            _, text = open_choices.pop()
            options = self.options(text)
            if not any(wished.get(provider.nevra.name) == provider for provider in self._universe.providers(text)):
                take(options[0].candidate)
        return [wished[name] for name in sorted(wished)]


def _alternatives(relation: Relation) -> tuple[Relation, ...]:
    if isinstance(relation, Rich) and relation.operator == "or":
        return tuple(inner for part in relation.parts for inner in _alternatives(part))
    return (relation,)
