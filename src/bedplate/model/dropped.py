"""Requirements that only maintainer scripts need, left out of candidates before anything is resolved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from bedplate.model.definition.facts import DroppedRequirement, PackageFacts
from bedplate.model.package import Candidate
from bedplate.model.relation import parse_relation, relation_names, without_plain


@dataclass(frozen=True, slots=True)
class Dropped:
    """One requirement that a rule took out of one package (the package's name, the requirement as it was)."""

    package: str
    requirement: str
    rule: DroppedRequirement


def rules_of(facts: Iterable[PackageFacts]) -> list[DroppedRequirement]:
    """The ``drop_requires`` and ``drop_conflicts`` of single packages as rules."""
    rules = []
    for fact in facts:
        reason = f"dropped by the facts of {fact.name}"
        rules += [DroppedRequirement(name=name, of=[fact.name], reason=reason) for name in fact.drop_requires]
        rules += [
            DroppedRequirement(name=name, relation="conflicts", of=[fact.name], reason=reason)
            for name in fact.drop_conflicts
        ]
    return rules


def drops_conflict(rules: Iterable[DroppedRequirement], package: str, name: str) -> bool:
    """Whether a rule takes the conflict with ``name`` out of ``package``."""
    return (
        _rule_for(package, (rule for rule in rules if rule.relation == "conflicts" and rule.name == name)) is not None
    )


def drop_requirements(
    candidates: Sequence[Candidate], rules: Sequence[DroppedRequirement]
) -> tuple[list[Candidate], list[Dropped]]:
    """Leave out of ``candidates`` (in their order) what a rule names, and say which relations those were.

    Recommendations for a dropped name are dropped too: they are nothing but a softer wish for the same scripts.
    """
    by_name: dict[str, list[DroppedRequirement]] = {}
    conflicts_by_name: dict[str, list[DroppedRequirement]] = {}
    for rule in rules:
        (by_name if rule.relation == "requires" else conflicts_by_name).setdefault(rule.name, []).append(rule)
    kept: list[Candidate] = []
    dropped: list[Dropped] = []
    for candidate in candidates:
        requires = _filtered(candidate, candidate.requires, by_name, dropped)
        recommends = _filtered(candidate, candidate.recommends, by_name, [])
        conflicts = _filtered(candidate, candidate.conflicts, conflicts_by_name, dropped)
        before = (candidate.requires, candidate.recommends, candidate.conflicts)
        if any(now is not then for now, then in zip((requires, recommends, conflicts), before, strict=True)):
            kept.append(replace(candidate, requires=requires, recommends=recommends, conflicts=conflicts))
        else:
            kept.append(candidate)
    return kept, dropped


def unused_rules(rules: Sequence[DroppedRequirement], dropped: Iterable[Dropped]) -> list[DroppedRequirement]:
    """Rules that took nothing out: the upstream has changed and they want a look."""
    used = {id(entry.rule) for entry in dropped}
    return [rule for rule in rules if id(rule) not in used]


def _filtered(
    candidate: Candidate,
    relations: tuple[str, ...],
    by_name: dict[str, list[DroppedRequirement]],
    dropped: list[Dropped],
) -> tuple[str, ...]:
    kept: list[str] = []
    for text in relations:
        if not text.startswith("(") and text.partition(" ")[0] not in by_name:
            kept.append(text)
            continue
        left: str | None = text
        for name in relation_names(text):
            rule = _rule_for(candidate.nevra.name, by_name.get(name, ()))
            if rule is None or left is None:
                continue
            relation = parse_relation(left)
            remaining = without_plain(relation, name)
            if remaining is relation:
                continue
            dropped.append(Dropped(candidate.nevra.name, text, rule))
            left = None if remaining is None else str(remaining)
        if left is not None:
            kept.append(left)
    return relations if len(kept) == len(relations) and tuple(kept) == relations else tuple(kept)


def _rule_for(package: str, rules: Iterable[DroppedRequirement]) -> DroppedRequirement | None:
    for rule in rules:
        if rule.of and not any(fnmatchcase(package, pattern) for pattern in rule.of):
            continue
        if any(fnmatchcase(package, pattern) for pattern in rule.keep):
            continue
        return rule
    return None
