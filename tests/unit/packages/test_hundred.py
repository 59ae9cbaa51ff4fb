"""The hundred packages asked for most are a hundred, and the repository promises each of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tests.support.hundred import DRIVER, REMOVAL, Record, asked_for

from bedplate.model.definition.sets import PackageSet

DISTRO = Path(__file__).resolve().parents[3] / "distro"


def test_the_list_holds_a_hundred_packages_of_the_set_that_the_image_lacks() -> None:
    offered = PackageSet(**tomllib.loads((DISTRO / "sets/server.toml").read_text())).names()
    image = [one["name"] for one in tomllib.loads((DISTRO / "locks/server.toml").read_text())["package"]]
    names = [one["name"] for one in asked_for()]
    assert len(set(names)) == 100
    assert set(names) <= set(offered) - set(image)


def _result(name: str, *problems: str) -> dict[str, Any]:
    return {"name": name, "problems": list(problems)}


def test_a_run_goes_on_with_what_was_not_installed_and_removed_well(tmp_path: Path) -> None:
    packages = [{"name": name} for name in "abcdef"]
    first, second, third = packages[:2], packages[2:4], packages[4:]
    record = Record(tmp_path / "results.json")
    for portion, results in (
        (first, [_result("a"), _result("b", "unit: failed"), _result(REMOVAL)]),
        (second, [_result("c"), _result("d"), _result(REMOVAL, "link to nothing")]),
        (third, [_result("e")]),  # and there it was cut short
    ):
        record.begin(portion)
        for result in results:
            assert record.add(portion, result) == []
    again = Record(tmp_path / "results.json")
    assert again.left(packages) == packages[1:]
    assert again.results["c"]["problems"] == ["removal: link to nothing"]


def test_a_driver_that_ends_early_is_the_problem_of_the_package_it_was_at(tmp_path: Path) -> None:
    packages = [{"name": name} for name in "abcd"]
    record = Record(tmp_path / "results.json")
    record.begin(packages)
    record.add(packages, _result("a"))
    assert record.add(packages, _result(DRIVER, "ended early")) == packages[2:]
    assert record.results["b"] == _result("b", "ended early")
    assert record.left(packages) == packages
