"""What is chosen, and that nothing but candidates and request decides it."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.model.evr import Evr
from bedplate.model.package import Candidate, Nevra
from bedplate.resolve.reasons import Unresolvable
from bedplate.resolve.request import TRACK, ChoiceReason, Exclusion, Solution
from bedplate.resolve.solver import solve
from bedplate.resolve.why import solution_findings
from resolving import labels, names, package, request


def test_what_is_asked_for_and_what_it_requires_is_installed() -> None:
    world = [package("shell", requires=["libc >= 2"]), package("libc", "2-1"), package("other")]
    assert labels(solve(world, request("shell"))) == ["libc-2-1", "shell-1-1"]


def test_highest_version_of_several_suites_wins() -> None:
    world = [
        package("ssh", "9-1", suite="stable"),
        package("ssh", "9-1.1", suite="stable-security"),
        package("ssh", "9-1.0~rc", suite="stable-updates"),
    ]
    chosen = solve(world, request("ssh")).packages[0]
    assert (str(chosen.nevra.evr), chosen.suite) == ("9-1.1", "stable-security")


def test_epoch_counts_before_version() -> None:
    assert labels(solve([package("a", "1:1-1"), package("a", "9-1")], request("a"))) == ["a-1:1-1"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("a", "a-3-1"), ("a = 2-1", "a-2-1"), ("a = 2", "a-2-1"), ("a < 2", "a-1-1"), ("virtual", "b-1-1")],
)
def test_specs_of_the_request(spec: str, expected: str) -> None:
    world = [package("a", "1-1"), package("a", "2-1"), package("a", "3-1"), package("b", provides=["virtual"])]
    assert labels(solve(world, request(spec))) == [expected]


def test_package_of_the_name_is_meant_before_one_that_provides_it() -> None:
    world = [package("zz"), package("aa", provides=["zz = 9"])]
    assert names(solve(world, request("zz"))) == ["zz"]


def test_provide_without_a_version_stands_for_all_versions_as_in_rpm() -> None:
    world = [
        package("app", requires=["cap >= 1"]),
        package("some", provides=["cap"]),
        package("a", provides=["cap = 0.1"]),
    ]
    assert names(solve(world, request("app"))) == ["app", "some"]


@pytest.mark.parametrize("alternatives", list(permutations(["a", "b", "c"])))
def test_first_alternative_is_taken(alternatives: tuple[str, ...]) -> None:
    rich = "(" + " or ".join(alternatives) + ")"
    world = [package("app", requires=[rich]), package("a"), package("b"), package("c")]
    solution = solve(world, request("app"))
    assert names(solution) == sorted(["app", alternatives[0]])
    assert solution.choices[0].reason is ChoiceReason.FIRST
    assert set(solution.choices[0].others) == set(alternatives[1:])


def test_alternative_that_is_there_anyway_is_taken() -> None:
    world = [package("app", requires=["(a or b)"]), package("tool", requires=["b"]), package("a"), package("b")]
    solution = solve(world, request("app", "tool"))
    assert names(solution) == ["app", "b", "tool"]
    assert solution.choices[0].reason is ChoiceReason.PRESENT


def test_alternative_there_at_a_version_that_does_not_fit_is_no_reason_to_take_it() -> None:
    world = [package("app", requires=["(a or b >= 2)"]), package("tool", requires=["b"]), package("a"), package("b")]
    assert names(solve(world, request("app", "tool"))) == ["a", "app", "b", "tool"]


def test_preferred_alternative_is_taken() -> None:
    world = [package("app", requires=["(a or b)"]), package("a"), package("b")]
    solution = solve(world, request("app", prefer=("b",)))
    assert names(solution) == ["app", "b"]
    assert solution.choices[0].reason is ChoiceReason.PREFERRED


def test_locked_alternative_is_kept() -> None:
    world = [package("app", requires=["(a or b)"]), package("a"), package("b")]
    solution = solve(world, request("app", favour=(Nevra("b", Evr.parse("1-1"), "x86_64"),)))
    assert names(solution) == ["app", "b"]
    assert solution.choices[0].reason is ChoiceReason.LOCKED


def test_alternative_that_cannot_be_installed_is_passed_over_and_said_so() -> None:
    world = [package("app", requires=["(a or b)"]), package("a", requires=["gone"]), package("b")]
    solution = solve(world, request("app"))
    assert names(solution) == ["app", "b"]
    assert solution.choices[0].reason is ChoiceReason.FORCED


def test_pick_among_providers_nobody_ranks_is_by_name_and_reported() -> None:
    world = [package("app", requires=["mta"]), package("postfix", provides=["mta"]), package("exim", provides=["mta"])]
    solution = solve(world, request("app"))
    assert names(solution) == ["app", "exim"]
    assert solution.choices[0].reason is ChoiceReason.ALPHABET


def test_what_nobody_decided_is_a_finding() -> None:
    world = [
        package("app", requires=["mta", "lib"]),
        package("postfix", provides=["mta"]),
        package("exim", provides=["mta"]),
        package("lib", "1-1"),
        package("lib", "2-1", requires=["gone"]),
    ]
    findings = solution_findings(solve(world, request("app")), "distro/tracks/container.toml")
    assert [finding.id for finding in findings] == ["resolve.choice.unranked", "resolve.held-back"]
    assert "exim" in findings[0].cause and "postfix" in findings[0].cause
    assert "prefer" in findings[0].remedy
    assert "lib-2-1" in findings[1].cause


def test_conditions_hold_only_when_met() -> None:
    world = [package("app", requires=["(plugin if desktop)"]), package("plugin"), package("desktop")]
    assert names(solve(world, request("app"))) == ["app"]
    assert names(solve(world, request("app", "desktop"))) == ["app", "desktop", "plugin"]


def test_rich_and_with_conditions() -> None:
    world = [
        package("app", requires=["(a and (b or c))", "(cap >= 2 with cap < 3)"]),
        package("a"), package("b"), package("c"),
        package("p1", provides=["cap = 1"]), package("p2", provides=["cap = 2.5"]), package("p3", provides=["cap = 3"]),
    ]  # fmt: skip
    assert names(solve(world, request("app"))) == ["a", "app", "b", "p2"]


def test_recommendations_come_only_when_asked_for() -> None:
    world = [package("app", recommends=["nice"]), package("nice")]
    assert names(solve(world, request("app"))) == ["app"]
    assert names(solve(world, request("app", recommends=True))) == ["app", "nice"]


def test_essential_packages_come_only_when_asked_for() -> None:
    world = [package("app"), package("dpkg", essential=True)]
    assert names(solve(world, request("app"))) == ["app"]
    solution = solve(world, request("app", essential=True))
    assert names(solution) == ["app", "dpkg"]
    assert solution.why["dpkg"].by == TRACK


def test_file_requirements_are_met_by_listed_files() -> None:
    world = [package("app", requires=["/usr/bin/awk"]), package("mawk", files=["/usr/bin/awk", "/usr/bin/mawk"])]
    assert names(solve(world, request("app"))) == ["app", "mawk"]


def test_requirements_on_rpm_itself_are_rpms_matter() -> None:
    world = [package("app", requires=["rpmlib(PayloadIsZstd) <= 5.4.18-1"])]
    assert names(solve(world, request("app"))) == ["app"]


def test_other_architectures_are_not_candidates() -> None:
    world = [package("a", "2-1", arch="i686"), package("a", "1-1"), package("data", arch="noarch")]
    assert labels(solve(world, request("a", "data"))) == ["a-1-1", "data-1-1"]


def test_obsoleted_package_gives_way() -> None:
    world = [
        package("app", requires=["(old or new)"]),
        package("old"),
        package("new", obsoletes=["old"]),
        package("x", requires=["new"]),
    ]
    assert names(solve(world, request("app", "x"))) == ["app", "new", "x"]


def test_cyclic_requirements() -> None:
    world = [package("a", requires=["b"]), package("b", requires=["c"]), package("c", requires=["a", "b"])]
    solution = solve(world, request("a"))
    assert names(solution) == ["a", "b", "c"]
    assert solution.why["c"].chain == ("a", "b", "c")


def test_why_is_a_shortest_chain() -> None:
    world = [
        package("top", requires=["middle", "short"]),
        package("middle", requires=["low"]),
        package("low", requires=["leaf"]),
        package("short", requires=["leaf >= 1"]),
        package("leaf"),
    ]
    why = solve(world, request("top")).why
    assert why["leaf"].chain == ("top", "short", "leaf")
    assert (why["leaf"].by, why["leaf"].requirement) == ("short", "leaf >= 1")
    assert why["top"].by == TRACK
    assert str(why["leaf"]) == "top > short > leaf"


def test_favoured_version_is_kept_and_said_to_be_held() -> None:
    world = [package("app", requires=["lib"]), package("lib", "1-1"), package("lib", "2-1")]
    kept = Nevra("lib", Evr.parse("1-1"), "x86_64")
    solution = solve(world, request("app", favour=(kept,)))
    assert labels(solution) == ["app-1-1", "lib-1-1"]
    assert [(held.chosen, str(held.best.evr), held.locked) for held in solution.held_back] == [(kept, "2-1", True)]


def test_newest_version_that_cannot_be_installed_is_said_to_be_held_back() -> None:
    world = [package("app", requires=["lib"]), package("lib", "1-1"), package("lib", "2-1", requires=["gone"])]
    solution = solve(world, request("app"))
    assert [(str(held.chosen), held.locked) for held in solution.held_back] == [("lib-1-1.x86_64", False)]


def test_favoured_build_of_one_version_is_kept() -> None:
    first, second = package("a", content="first"), package("a", content="second")
    assert first.location is not None and second.location is not None
    for wanted in (first, second):
        assert wanted.location is not None
        solution = solve([first, second], request("a", favour_files=frozenset({wanted.location.sha256})))
        assert solution.packages == (wanted,)


def test_excluded_package_is_avoided_when_there_is_another_way() -> None:
    world = [package("app", requires=["(a or b)"]), package("a"), package("b")]
    assert names(solve(world, request("app", exclude=(Exclusion("a", "x.toml"),)))) == ["app", "b"]


def _random_world(seed: int) -> tuple[list[Candidate], list[str]]:
    dice = random.Random(seed)
    every = [f"p{number}" for number in range(dice.randint(2, 9))]
    capabilities = [*every, "v1", "v2"]
    world = []
    for name in every:
        for evr in dice.sample(["1-1", "2-1", "2-1.1"], dice.randint(1, 2)):
            pairs = [dice.choices(capabilities, k=dice.randint(1, 3)) for _ in range(dice.randint(0, 3))]
            requires = [pair[0] if len(pair) == 1 else f"({' or '.join(pair)})" for pair in pairs]
            provides = dice.choices(["v1", "v2", "v1 = 1"], k=dice.randint(0, 2))
            others = [f"{other} < 2" for other in every if other != name]
            conflicts = dice.sample(others, dice.randint(0, 1))
            world.append(package(name, evr, requires=requires, provides=provides, conflicts=conflicts))
    return world, dice.sample(every, dice.randint(1, min(3, len(every))))


worlds = st.integers(0, 1_000_000).map(_random_world)


def _answer(world: list[Candidate], install: list[str]) -> Solution | str:
    try:
        return solve(world, request(*install))
    except Unresolvable as error:
        return str(error)


@settings(max_examples=120, deadline=None)
@given(worlds, st.integers(0, 1000))
def test_order_of_candidates_and_request_does_not_matter(drawn: tuple[list[Candidate], list[str]], seed: int) -> None:
    world, install = drawn
    shuffle = random.Random(seed)
    expected = _answer(world, install)
    shuffled, asked = list(world), list(install)
    shuffle.shuffle(shuffled)
    shuffle.shuffle(asked)
    assert _answer(shuffled, asked) == expected


@settings(max_examples=120, deadline=None)
@given(worlds)
def test_every_solution_is_closed_conflict_free_and_explained(drawn: tuple[list[Candidate], list[str]]) -> None:
    world, install = drawn
    answer = _answer(world, install)
    if isinstance(answer, str):
        return
    chosen = answer.by_name()
    assert len(chosen) == len(answer.packages)
    assert set(install) <= set(chosen)
    offered = set(chosen) | {text.partition(" ")[0] for c in answer.packages for text in c.provides}
    for candidate in answer.packages:
        for text in candidate.requires:
            assert set(text.strip("()").split(" or ")) & offered
        for text in candidate.conflicts:
            rival = chosen.get(text.partition(" ")[0])
            assert rival is None or not rival.nevra.evr < Evr.parse("2")
    for name, why in answer.why.items():
        assert why.chain[-1] == name and why.chain[0] in install
        assert set(why.chain) <= set(chosen)
    assert list(answer.why) == sorted(chosen)
