"""The hundred packages asked for most are a hundred, and the repository promises each of them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.support.hundred import asked_for

from bedplate.model.definition.sets import PackageSet
from bedplate.model.definition.track import Track

DISTRO = Path(__file__).resolve().parents[3] / "distro"


def test_the_list_holds_a_hundred_packages_of_the_set_that_the_image_lacks() -> None:
    offered = PackageSet(**tomllib.loads((DISTRO / "sets/server.toml").read_text())).names()
    image = Track(**tomllib.loads((DISTRO / "tracks/server.toml").read_text())).packages
    names = [one["name"] for one in asked_for()]
    assert len(set(names)) == 100
    assert set(names) <= set(offered) - set(image)
