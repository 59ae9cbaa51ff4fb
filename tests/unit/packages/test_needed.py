"""What the distribution's facts add to the requirements of packages: there to be had, and what it was added for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bedplate.flows.definition import read_definition
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.definition.sets import PackageSet

DISTRO = Path(__file__).resolve().parents[3] / "distro"


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> DefinitionSet:
    scratch = tmp_path_factory.mktemp("workspace")
    return read_definition(Workspace(distro=DISTRO, cache=scratch, keys=scratch, output=scratch))


def test_the_repository_promises_what_facts_require(definition: DefinitionSet) -> None:
    offered = PackageSet(**tomllib.loads((DISTRO / "sets/server.toml").read_text())).names()
    required = {name for fact in definition.facts.values() for name in fact.requires}
    assert required - set(offered) == set()


@pytest.mark.parametrize(
    ("package", "needed"),
    [
        ("python3-cryptography", {"openssl-provider-legacy"}),
        ("gcc", {"libc6-dev"}),
        ("composer", {"unzip"}),
        ("postfix", {"perl-base"}),
        ("podman", {"netavark", "aardvark-dns", "uidmap", "passt"}),
        ("podman-compose", {"podman"}),
    ],
)
def test_a_package_brings_what_it_does_not_work_without(
    definition: DefinitionSet, package: str, needed: set[str]
) -> None:
    assert needed <= set(definition.facts[package].requires)


@pytest.mark.parametrize(("package", "named"), [("tuned", "dbus"), ("oddjob", "dbus"), ("s-nail", "base-files")])
def test_a_package_does_not_bring_what_the_image_has_in_another_way(
    definition: DefinitionSet, package: str, named: str
) -> None:
    assert named in definition.facts[package].drop_requires
