"""Locks: made, read back, held against definition and upstream, moved in part, compared."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.model.errors import BadInput, BedplateError, Finding, Level
from bedplate.model.lock import Lock, format_lock, parse_lock
from bedplate.model.package import Candidate
from bedplate.resolve.diff import ChangeKind, LockDiff, diff_locks, format_bytes
from bedplate.resolve.fit import require_fit
from bedplate.resolve.locking import check_lock, favouring, make_lock, update
from bedplate.resolve.request import Request
from bedplate.resolve.solver import solve
from resolving import DEFINITION, INDEXES, labels, lock_of, locked, package, request

LOCK = "distro/locks/container.toml"


def _check(
    lock: Lock, candidates: list[Candidate] | None, asked: Request, definition: str = DEFINITION
) -> list[Finding]:
    return check_lock(lock, track="container", definition=definition, request=asked, candidates=candidates, where=LOCK)


def _ids(findings: list[Finding], level: Level) -> list[str]:
    return [finding.id for finding in findings if finding.level is level]


def test_lock_survives_writing_and_reading() -> None:
    world = [package("app", "1:2~rc1-3+b1", requires=["lib"]), package("lib", "1.0-0", source="libs")]
    lock = locked(world, "app")
    text = format_lock(lock)
    assert parse_lock(text, LOCK) == lock
    assert format_lock(parse_lock(text, LOCK)) == text


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.text(st.characters(codec="utf-8"), max_size=20))
def test_lock_keeps_any_text(suite: str, version: str) -> None:
    lock = locked([package("app")], "app")
    entry = replace(lock.packages[0], suite=suite, upstream_version=version)
    assert parse_lock(format_lock(replace(lock, packages=(entry,))), LOCK).packages == (entry,)


def test_lock_does_not_depend_on_the_order_of_candidates() -> None:
    world = [package("app", requires=["lib", "(a or b)"]), package("lib"), package("a"), package("b")]
    assert format_lock(locked(world, "app")) == format_lock(locked(world[::-1], "app"))


def test_lock_says_who_asked() -> None:
    by_name = locked([package("app", requires=["lib"]), package("lib")], "app").by_name()
    assert (by_name["app"].why, by_name["lib"].why) == ("track", "app")


def test_package_made_from_the_definition_has_no_digest() -> None:
    own = replace(package("filesystem"), location=None)
    lock = make_lock(
        solve([own], request("filesystem")), track="container", definition=DEFINITION, indexes={}, rpm_digests={}
    )
    assert lock.packages[0].location is None
    assert lock.packages[0].rpm_sha256 == ""
    assert parse_lock(format_lock(lock), LOCK) == lock


def test_tools_are_locked_without_importing() -> None:
    solution = solve([package("rpm")], request("rpm"))
    lock = make_lock(solution, track="tools", definition=DEFINITION, indexes=INDEXES, rpm_digests=None)
    assert lock.packages[0].rpm_sha256 == ""


def test_package_that_was_not_imported_cannot_be_locked() -> None:
    solution = solve([package("app"), package("lib")], request("app", "lib"))
    with pytest.raises(BedplateError, match="2 packages of the solution were not imported"):
        make_lock(solution, track="container", definition=DEFINITION, indexes=INDEXES, rpm_digests={})


def test_fresh_lock_has_no_findings() -> None:
    world = [package("app", requires=["lib"]), package("lib")]
    assert _check(locked(world, "app"), world, request("app")) == []


def test_newer_version_is_news_not_staleness() -> None:
    lock = locked([package("app")], "app")
    findings = _check(lock, [package("app"), package("app", "2-1", suite="stable-security")], request("app"))
    assert [(f.id, f.level) for f in findings] == [("lock.package.newer", Level.INFO)]
    assert "2-1 is in stable-security" in findings[0].cause


def test_changed_definition_is_stale() -> None:
    world = [package("app")]
    assert _ids(_check(locked(world, "app"), world, request("app"), "e" * 64), Level.ERROR) == ["lock.definition"]


def test_more_and_fewer_packages_are_stale() -> None:
    world = [package("app"), package("more"), package("less")]
    findings = _check(locked(world, "app", "less"), world, request("app", "more"))
    assert _ids(findings, Level.ERROR) == ["lock.package.needless", "lock.package.missing"]


def test_version_the_upstream_dropped_is_a_warning() -> None:
    lock = locked([package("app", "1-1", requires=["lib"]), package("lib")], "app")
    findings = _check(
        lock, [package("app", "2-1", requires=["lib", "new"]), package("lib"), package("new")], request("app")
    )
    assert _ids(findings, Level.ERROR) == []
    assert "lock.package.gone" in _ids(findings, Level.WARNING)
    gone = next(finding for finding in findings if finding.id == "lock.package.gone")
    assert "app-1-1.x86_64" in gone.cause and "--update app" in gone.remedy


def test_other_bytes_under_a_locked_version_are_an_error() -> None:
    lock = locked([package("app", content="one")], "app")
    assert _ids(_check(lock, [package("app", content="two")], request("app")), Level.ERROR) == ["lock.package.replaced"]


def test_without_an_index_the_upstream_is_unknown_not_passed() -> None:
    findings = _check(locked([package("app")], "app"), None, request("app"))
    assert [(f.id, f.level) for f in findings] == [("lock.upstream", Level.UNKNOWN)]


def test_lock_that_cannot_be_resolved_any_more_says_why() -> None:
    world = [package("app", requires=["lib"]), package("lib")]
    findings = _check(locked(world, "app"), world[:1], request("app"))
    broken = next(finding for finding in findings if finding.id == "lock.unresolvable")
    assert "app-1-1.x86_64 requires lib" in broken.cause


def _two_versions() -> tuple[list[Candidate], list[Candidate]]:
    old = [
        package("app", "1-1", requires=["lib", "data"]),
        package("lib", "1-1"),
        package("data", "1-1"),
        package("zed", "1-1"),
    ]
    new = [
        package("app", "2-1", requires=["lib >= 2", "data"]),
        package("lib", "2-1", requires=["base"]),
        package("data", "2-1"),
        package("zed", "2-1"),
        package("base", "1-1"),
    ]
    return old, old + new


def test_update_moves_what_is_named_and_what_that_forces() -> None:
    old, both = _two_versions()
    lock = locked(old, "app", "zed")
    solution = update(both, request("app", "zed"), lock, ["app"])
    assert labels(solution) == ["app-2-1", "base-1-1", "data-1-1", "lib-2-1", "zed-1-1"]


def test_update_moves_although_a_locked_library_would_hold_it_back() -> None:
    """The library's name sorts first and the request asks for it by name: a soft wish for its locked version alone
    would keep the application old."""
    old = [package("aa-lib", "1-1"), package("app", "1-1", requires=["aa-lib"])]
    both = [*old, package("aa-lib", "2-1"), package("app", "2-1", requires=["aa-lib >= 2"])]
    lock = locked(old, "aa-lib", "app")
    assert labels(update(both, request("aa-lib", "app"), lock, ["app"])) == ["aa-lib-2-1", "app-2-1"]


def test_update_of_a_leaf_moves_nothing_else() -> None:
    old, both = _two_versions()
    lock = locked(old, "app", "zed")
    assert labels(update(both, request("app", "zed"), lock, ["data"])) == ["app-1-1", "data-2-1", "lib-1-1", "zed-1-1"]


def test_update_by_source_name_moves_all_it_built() -> None:
    old = [package("libx", source="x"), package("x-tools", source="x"), package("y")]
    both = [*old, package("libx", "2-1", source="x"), package("x-tools", "2-1", source="x"), package("y", "2-1")]
    lock = locked(old, "libx", "x-tools", "y")
    assert labels(update(both, request("libx", "x-tools", "y"), lock, ["x"])) == ["libx-2-1", "x-tools-2-1", "y-1-1"]


def test_update_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(BadInput, match="not in the lock of container: nonsense"):
        update([package("app")], request("app"), locked([package("app")], "app"), ["nonsense"])


def test_new_definition_keeps_what_it_can() -> None:
    old, both = _two_versions()
    lock = locked(old, "app")
    solution = solve(both, favouring(request("app", "zed"), lock))
    assert labels(solution) == ["app-1-1", "data-1-1", "lib-1-1", "zed-2-1"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1_000_000))
def test_update_moves_only_what_something_that_stands_requires(seed: int) -> None:
    dice = random.Random(seed)
    every = [f"p{number}" for number in range(6)]
    old = [package(name, "1-1", requires=every[number + 1 : number + 2]) for number, name in enumerate(every)]
    new = []
    for number, name in enumerate(every):
        others = dice.sample([other for other in every if other != name], dice.randint(0, 2))
        floors = [f"{other}{dice.choice(['', ' >= 2'])}" for other in others]
        new.append(package(name, "2-1", requires=[*every[number + 1 : number + 2], *floors]))
    lock = locked(old, "p0")
    named = dice.choice(every)
    solution = update(old + new, request("p0"), lock, [named])
    chosen = solution.by_name()
    assert str(chosen[named].nevra.evr) == "2-1"
    for name in sorted(chosen.keys() - {named}):
        asked_by = [package.nevra.name for package in solution.packages if f"{name} >= 2" in package.requires]
        assert str(chosen[name].nevra.evr) == ("2-1" if asked_by else "1-1")


def _diff(old: list[Candidate], new: list[Candidate], asked_old: list[str], asked_new: list[str]) -> LockDiff:
    solution = solve(new, request(*asked_new))
    return diff_locks(locked(old, *asked_old), lock_of(solution), solution=solution)


def test_diff_tells_kind_versions_and_reason() -> None:
    old = [
        package("app", "1-1", requires=["lib", "helper"], size=1000),
        package("lib", "1-1", size=10),
        package("helper", "1-1", requires=["helper-data"]),
        package("helper-data"),
        package("down", "2-1"),
        package("left"),
        package("same"),
    ]
    new = [
        package("app", "2-1", requires=["lib >= 2", "extra"], size=2_500_000, suite="stable-security"),
        package("lib", "2-1", size=20),
        package("extra"),
        package("down", "1-1"),
        package("same", content="other bytes"),
        package("fresh"),
    ]
    diff = _diff(old, new, ["app", "down", "left", "same"], ["app", "down", "same", "fresh"])
    assert list(diff.lines()) == [
        "2 added, 3 removed, 2 upgraded, 1 downgraded, 1 rebuilt; +2.5 MB",
        "+ extra        1-1 (+1.0 kB): app requires it (app > extra)",
        "+ fresh        1-1 (+1.0 kB): the definition asks for it",
        "- helper       1-1 (-1.0 kB): app 2-1 no longer requires it, nor does anything else",
        "- helper-data  1-1 (-1.0 kB): helper, which required it, is gone too",
        "- left         1-1 (-1.0 kB): the definition no longer asks for it, and nothing requires it",
        "^ app          1-1 -> 2-1 (+2.5 MB): newer in stable-security (app)",
        "^ lib          1-1 -> 2-1 (+10 B): app 2-1 requires lib >= 2",
        "v down         2-1 -> 1-1: 2-1 is not to be had any more, or does not fit the others",
        "~ same         1-1: the upstream file has other bytes under the same version",
    ]


def test_diff_says_what_the_user_asked_to_move() -> None:
    old, both = _two_versions()
    lock = locked(old, "app", "zed")
    solution = update(both, request("app", "zed"), lock, ["app"])
    diff = diff_locks(lock, lock_of(solution), solution=solution, updated=["app"])
    assert {change.name: change.why for change in diff.changes} == {
        "base": "lib requires it (app > lib > base)",
        "app": "asked to move",
        "lib": "app 2-1 requires lib >= 2",
    }


def test_diff_of_the_same_file_imported_anew() -> None:
    lock = locked([package("app")], "app")
    again = replace(lock, packages=(replace(lock.packages[0], rpm_sha256="9" * 64),))
    change = diff_locks(lock, again).changes[0]
    assert (change.kind, change.why) == (
        ChangeKind.REBUILT,
        "the same upstream file, imported with other facts or by another importer",
    )


def test_diff_of_equal_locks_is_empty() -> None:
    lock = locked([package("app")], "app")
    diff = diff_locks(lock, lock)
    assert not diff
    assert list(diff.lines()) == ["no difference"]


def test_diff_names_moved_indexes_and_definition() -> None:
    lock = locked([package("app")], "app")
    diff = diff_locks(lock, replace(lock, definition="e" * 64, indexes={"stable": "2" * 64, "extra": "3" * 64}))
    assert list(diff.lines()) == ["the definition changed", "newer indexes: extra, stable"]


def test_diff_is_ready_for_json() -> None:
    diff = _diff([package("app")], [package("app", "2-1")], ["app"], ["app"])
    entry = json.loads(json.dumps(asdict(diff)))["changes"][0]
    assert (entry["kind"], entry["name"], entry["old_evr"], entry["new_evr"]) == ("upgraded", "app", "1-1", "2-1")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "+0 B"),
        (-999, "-999 B"),
        (1000, "+1.0 kB"),
        (-123_456, "-123 kB"),
        (2_500_000, "+2.5 MB"),
        (3 * 10**9, "+3.0 GB"),
    ],
)
def test_sizes_for_people(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


def test_lock_that_fits_is_accepted() -> None:
    require_fit(locked([package("app")], "app"), track="container", definition=DEFINITION, where=LOCK)
