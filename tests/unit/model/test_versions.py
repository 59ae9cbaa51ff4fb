"""The order of versions is systemd's own."""

from __future__ import annotations

import random

import pytest

from bedplate.model.errors import BadInput
from bedplate.model.version import compare_versions, require_version, version_key
from bedplate.toolchain.run import Toolbox

# The Version Format Specification's own examples, ascending.
ASCENDING = ["122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1"]


def test_the_specifications_order_holds() -> None:
    for position, older in enumerate(ASCENDING):
        assert compare_versions(older, older) == 0
        for newer in ASCENDING[position + 1 :]:
            assert compare_versions(older, newer) == -1, (older, newer)
            assert compare_versions(newer, older) == 1, (newer, older)


def test_numbers_are_compared_as_numbers() -> None:
    versions = ["1.10", "1.9", "1.9.1", "2", "1.0.20261121.2", "1.0.20261121.10"]
    assert sorted(versions, key=version_key) == ["1.0.20261121.2", "1.0.20261121.10", "1.9", "1.9.1", "1.10", "2"]


@pytest.mark.parametrize("text", ["1", "1.0", "1.0.20261121.1", "10.0.0", "0.1"])
def test_versions_of_releases(text: str) -> None:
    assert require_version(text) == text


@pytest.mark.parametrize(
    "text", ["", "1.", ".1", "01", "1.00", "1.0-1", "1_0", "1+2", "../1", "1/2", "a", "1.0\n", "1 0", "1" * 19, "٣"]
)
def test_what_cannot_be_a_version(text: str) -> None:
    with pytest.raises(BadInput, match="cannot be the version"):
        require_version(text)


@pytest.mark.tools
def test_systemd_agrees(toolbox: Toolbox) -> None:
    """Random pairs from an alphabet in which every rule of the order has its turn."""
    chance = random.Random(4)
    alphabet = "001299ab.-~^_"
    for _ in range(60):
        left, right = ("1" + "".join(chance.choices(alphabet, k=chance.randint(0, 6))) for _ in range(2))
        result = toolbox.run("systemd-analyze", "compare-versions", left, right, ok=(0, 11, 12)).code
        assert compare_versions(left, right) == {0: 0, 11: 1, 12: -1}[result], (left, right)
