"""What makes a lock stale, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.flows.definition import read_definition
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.facts import DroppedRequirement, PackageFacts
from bedplate.model.definition.load import DefinitionSet

DISTRO = Path(__file__).resolve().parents[3] / "distro"
LOCKED = ["bash", "systemd"]


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> DefinitionSet:
    scratch = tmp_path_factory.mktemp("workspace")
    return read_definition(Workspace(distro=DISTRO, cache=scratch, keys=scratch, output=scratch))


def with_fact(definition: DefinitionSet, fact: PackageFacts) -> DefinitionSet:
    facts: Mapping[str, PackageFacts] = {**definition.facts, fact.name: fact}
    return replace(definition, facts=facts)


def digest(definition: DefinitionSet) -> str:
    return definition.resolution_digest(definition.track("container"), LOCKED)


def test_a_fact_of_a_package_of_another_track_does_not_make_a_lock_stale(definition: DefinitionSet) -> None:
    changed = with_fact(definition, PackageFacts(name="mariadb-server", provides=["mysql-server"]))
    assert digest(changed) == digest(definition)


def test_a_fact_of_a_locked_package_makes_a_lock_stale(definition: DefinitionSet) -> None:
    changed = with_fact(definition, PackageFacts(name="bash", drop=["/usr/bin/bashbug"]))
    assert digest(changed) != digest(definition)


@pytest.mark.parametrize(("of", "stale"), [("mariadb-*", False), ("syste*", True)])
def test_a_rule_for_some_packages_concerns_the_locks_that_hold_one(
    definition: DefinitionSet, of: str, stale: bool
) -> None:
    rule = DroppedRequirement(name="sensible-utils", of=[of], reason="nothing calls it at run time")
    changed = replace(definition, drop_rules=(*definition.drop_rules, rule))
    assert (digest(changed) != digest(definition)) is stale


def test_asking_for_another_package_makes_a_lock_stale(definition: DefinitionSet) -> None:
    track = definition.track("container")
    more = track.model_copy(update={"packages": [*track.packages, "vim"]})
    assert definition.resolution_digest(more, LOCKED) != digest(definition)
