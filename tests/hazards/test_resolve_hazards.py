"""Requests that cannot be met and locks that must not be used: each is refused with its cause and a remedy."""

from __future__ import annotations

import pytest

from bedplate.model.errors import BadInput
from bedplate.model.lock import format_lock, parse_lock
from bedplate.model.package import Candidate
from bedplate.resolve.fit import require_fit
from bedplate.resolve.reasons import Obstacle, Unresolvable
from bedplate.resolve.request import Exclusion, Request
from bedplate.resolve.solver import solve
from resolving import DEFINITION, WHERE, lock_of, locked, names, package, request

LOCK = "distro/locks/container.toml"


def _refused(world: list[Candidate], asked: Request) -> Unresolvable:
    with pytest.raises(Unresolvable) as caught:
        solve(world, asked)
    assert caught.value.where == WHERE
    assert caught.value.remedy
    return caught.value


def test_version_nobody_carries_names_the_whole_chain_and_the_nearest() -> None:
    world = [
        package("x", "1.2-1", requires=["middle"]),
        package("middle", requires=["libfoo >= 2"]),
        package("libfoo", "1.9-1", suite="trixie"),
        package("libfoo", "1.8-1", suite="trixie"),
    ]
    error = _refused(world, request("x"))
    assert error.details == (
        "container asks for x; x-1.2-1.x86_64 requires middle; middle-1-1.x86_64 requires libfoo >= 2; "
        "no candidate provides it; nearest: libfoo 1.9-1 in trixie",
    )
    assert error.reasons[0].kind is Obstacle.MISSING
    assert error.reasons[0].package == "middle"


def test_chain_through_a_capability_names_the_package_that_meets_it() -> None:
    world = [package("x", requires=["mta"]), package("exim", provides=["mta"], requires=["nolib"])]
    assert "x-1-1.x86_64 requires mta (met by exim-1-1.x86_64); exim-1-1.x86_64 requires nolib" in str(
        _refused(world, request("x"))
    )


def test_every_version_failing_is_told_once() -> None:
    world = [package("x", f"{number}-1", requires=["gone"]) for number in range(1, 30)]
    assert _refused(world, request("x")).details == (
        "container asks for x; x-29-1.x86_64 requires gone; no candidate provides it",
    )


def test_five_unknown_names_are_all_told_with_names_like_them() -> None:
    world = [package("openssh-server"), package("chrony")]
    error = _refused(world, request("openssh-sever", "chrny", "one", "two", "three"))
    assert len(error.details) == 5
    assert "container asks for chrny; no candidate provides it; names like it: chrony" in error.details
    assert "container asks for openssh-sever; no candidate provides it; names like it: openssh-server" in error.details


def test_unknown_name_among_a_selection_of_candidates_is_likened_to_names_of_the_whole_upstream() -> None:
    with pytest.raises(Unresolvable) as caught:
        solve([package("app")], request("app", "cryptsetup-bn"), known_names=["cryptsetup-bin", "cryptsetup"])
    assert caught.value.details[0].endswith("names like it: cryptsetup-bin, cryptsetup")


def test_excluded_package_is_named_with_the_file_that_excludes_it() -> None:
    world = [package("tool", requires=["perl-base >= 5"]), package("perl-base", "5.40-1", suite="trixie")]
    error = _refused(world, request("tool", exclude=(Exclusion("perl-base", WHERE),)))
    assert error.details == (
        "container asks for tool; tool-1-1.x86_64 requires perl-base >= 5; "
        f"perl-base-5.40-1.x86_64 in trixie would meet it, but perl-base is excluded by {WHERE}",
    )
    assert error.reasons[0].kind is Obstacle.EXCLUDED
    assert "excludes" in error.remedy


def test_excluded_package_of_a_wrong_version_is_not_blamed() -> None:
    world = [package("tool", requires=["lib >= 5"]), package("lib", "4-1")]
    error = _refused(world, request("tool", exclude=(Exclusion("lib", WHERE),)))
    assert error.reasons[0].kind is Obstacle.MISSING
    assert "nearest: lib 4-1 in stable" in error.details[0]


def test_request_that_excludes_what_it_asks_for() -> None:
    with pytest.raises(BadInput, match="asks for what it excludes") as caught:
        solve([package("a")], request("a", "b >= 2", exclude=(Exclusion("a", "one.toml"), Exclusion("b", "two.toml"))))
    assert caught.value.details == ("a: excluded by one.toml", "b >= 2: excluded by two.toml")


def test_conflict_tells_both_sides() -> None:
    world = [
        package("app", requires=["lib"]),
        package("lib", "1-1"),
        package("guard", requires=["core"]),
        package("core", conflicts=["lib < 2"]),
    ]
    error = _refused(world, request("app", "guard"))
    assert error.reasons[0].kind is Obstacle.CONFLICT
    assert error.details == (
        "container asks for guard; guard-1-1.x86_64 requires core; core-1-1.x86_64 conflicts with lib < 2, and "
        "container asks for app, app-1-1.x86_64 requires lib",
    )


def test_two_versions_of_one_package_tell_both_sides() -> None:
    world = [
        package("old", requires=["lib = 1-1"]),
        package("new", requires=["lib > 1-1"]),
        package("lib", "1-1"),
        package("lib", "2-1"),
    ]
    error = _refused(world, request("old", "new"))
    assert error.reasons[0].kind is Obstacle.TWO_VERSIONS
    told = str(error)
    assert "new-1-1.x86_64 requires lib > 1-1" in told
    assert "old-1-1.x86_64 requires lib = 1-1" in told


def test_package_only_for_another_machine() -> None:
    error = _refused([package("app", arch="aarch64")], request("app"))
    assert error.details == ("container asks for app; no candidate provides it; app is for aarch64 only",)


def test_alternatives_that_all_fail_are_all_told() -> None:
    world = [package("app", requires=["(a or b >= 2)"]), package("b", "1-1")]
    assert _refused(world, request("app")).details == (
        "container asks for app; app-1-1.x86_64 requires (a or b >= 2); no candidate provides it; "
        "nearest: b 1-1 in stable",
    )


def test_reasons_are_bounded() -> None:
    error = _refused([package("a")], request(*(f"missing{number}" for number in range(100))))
    assert len(error.details) == 21
    assert error.details[-1] == "and 80 more reasons"


@pytest.mark.parametrize(
    "text", ["a >=", "(a or", "(a or b and c)", "a b", "()", "(a else b)", "", "(" * 60 + "a" + ")" * 60]
)
def test_request_that_is_not_a_dependency(text: str) -> None:
    with pytest.raises(BadInput, match="not an RPM dependency"):
        solve([package("a")], request(text))


def test_candidate_with_a_broken_relation() -> None:
    with pytest.raises(BadInput, match="not an RPM dependency"):
        solve([package("a", requires=["(b or"])], request("a"))


def test_requirements_in_a_circle_that_cannot_be_met_end() -> None:
    world = [package("a", requires=["b"]), package("b", requires=["c"]), package("c", requires=["a", "gone"])]
    assert _refused(world, request("a")).details == (
        "container asks for a; a-1-1.x86_64 requires b; b-1-1.x86_64 requires c; c-1-1.x86_64 requires gone; "
        "no candidate provides it",
    )


def test_long_chain_of_requirements_does_not_exhaust_the_stack() -> None:
    world = [package(f"p{number}", requires=[f"p{number + 1}"]) for number in range(3000)]
    assert len(names(solve([*world, package("p3000")], request("p0")))) == 3001


def test_lock_made_for_another_state_of_the_definition() -> None:
    lock = locked([package("app")], "app")
    with pytest.raises(BadInput, match="the definition has changed") as caught:
        require_fit(lock, track="container", definition="e" * 64, where=LOCK)
    assert caught.value.where == LOCK
    assert "bedplate lock container" in caught.value.remedy


def test_lock_of_another_track() -> None:
    lock = lock_of(solve([package("app")], request("app")), track="server")
    with pytest.raises(BadInput, match="this lock is for server, not for container"):
        require_fit(lock, track="container", definition=DEFINITION, where=LOCK)


def test_lock_with_five_mistakes() -> None:
    text = format_lock(locked([package("app", requires=["lib"]), package("lib"), package("tool")], "app", "tool"))
    text = text.replace('arch = "x86_64"\n', "", 1)
    text = text.replace("size = 1000", "size = -4", 1)
    text = text.replace("pool/lib_1-1.deb", "../../etc/passwd")
    text = text.replace('name = "tool"', 'name = "lib"\ncolour = "red"')
    text = text.replace('definition = "' + DEFINITION + '"\n', "")
    with pytest.raises(BadInput, match="the lock has 5 mistakes") as caught:
        parse_lock(text, LOCK)
    assert caught.value.where == LOCK
    assert caught.value.details == (
        "definition: missing or not a text",
        "package 1 (app): arch is missing",
        "package 1 (app): size is wrong: -4",
        "package 2 (lib): path is wrong: '../../etc/passwd'",
        "package 3 (lib): unknown key 'colour'",
    )


def test_lock_with_one_name_twice() -> None:
    text = format_lock(locked([package("app")], "app"))
    with pytest.raises(BadInput) as caught:
        parse_lock(text + text[text.index("\n[[package]]") :], LOCK)
    assert caught.value.details == ("package 2 (app): is in the lock twice",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("not toml", "version = = 1"),
        ("another version", 'version = 99\ntrack = "container"'),
        ("nothing", ""),
        ("package is no list", 'version = 1\ntrack = "a"\ndefinition = "b"\npackage = 3'),
        ("package is a list of numbers", 'version = 1\ntrack = "a"\ndefinition = "b"\npackage = [1, 2]'),
    ],
)
def test_file_that_is_no_lock(name: str, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_lock(text, LOCK)
    assert caught.value.remedy, name
