"""Requirements dropped by rule, and the rules the distribution has."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from bedplate.model.definition.facts import DroppedRequirement, FactsFile, PackageFacts
from bedplate.model.dropped import drop_requirements, rules_of, unused_rules
from resolving import package

_RELATIONS = Path(__file__).parents[3] / "distro" / "packages" / "relations.toml"


def _rule(name: str, of: list[str] | None = None, keep: list[str] | None = None) -> DroppedRequirement:
    return DroppedRequirement(name=name, of=of or [], keep=keep or [], reason="only scripts call it")


def test_rule_without_packages_holds_for_all_but_those_that_keep_it() -> None:
    world = [package("a", requires=["dpkg >= 1", "libc"]), package("apt", requires=["dpkg"])]
    kept, dropped = drop_requirements(world, [_rule("dpkg", keep=["apt*"])])
    assert [c.requires for c in kept] == [("libc",), ("dpkg",)]
    assert [(entry.package, entry.requirement) for entry in dropped] == [("a", "dpkg >= 1")]


def test_rule_for_some_packages() -> None:
    world = [package("linux-image-6", requires=["kmod"]), package("udev", requires=["kmod"])]
    kept, _ = drop_requirements(world, [_rule("kmod", of=["linux-image-*"])])
    assert [c.requires for c in kept] == [(), ("kmod",)]


def test_alternatives_of_a_dropped_requirement_do_not_stand_in_for_it() -> None:
    kept, dropped = drop_requirements([package("a", requires=["(debconf or debconf-2.0)"])], [_rule("debconf")])
    assert kept[0].requires == ()
    assert len(dropped) == 1


def test_recommendations_go_too_and_untouched_candidates_are_the_same_objects() -> None:
    world = [package("a", recommends=["ucf", "b"]), package("b")]
    kept, _ = drop_requirements(world, [_rule("ucf")])
    assert kept[0].recommends == ("b",)
    assert kept[1] is world[1]


def test_rule_that_takes_nothing_out_is_told() -> None:
    rules = [_rule("a"), _rule("b")]
    _, dropped = drop_requirements([package("x", requires=["a"])], rules)
    assert unused_rules(rules, dropped) == [rules[1]]


def test_facts_of_one_package_are_rules_too() -> None:
    rules = rules_of([PackageFacts(name="ssh", drop_requires=["procps"])])
    kept, _ = drop_requirements([package("ssh", requires=["procps"]), package("top", requires=["procps"])], rules)
    assert [c.requires for c in kept] == [(), ("procps",)]


def test_reason_is_not_optional() -> None:
    with pytest.raises(ValidationError):
        DroppedRequirement(name="a", reason="")


def test_rules_of_the_distribution_are_valid_and_unique() -> None:
    rules = FactsFile(**tomllib.loads(_RELATIONS.read_text())).drop_requires
    keys = [(rule.name, tuple(rule.of)) for rule in rules]
    assert len(keys) == len(set(keys)) > 0
