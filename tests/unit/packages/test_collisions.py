"""Two packages that disagree about a path are found before dnf finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.packages.collisions import collisions
from bedplate.packages.rpm.reader import RpmPackage
from support.debs import Deb, Item, file, folder
from support.imports import import_debs


def packages(tmp_path: Path, *debs: Deb) -> list[RpmPackage]:
    return [RpmPackage.open(one.path) for one in import_debs(tmp_path, *debs)]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (folder("./var/lib/x", mode=0o755), folder("./var/lib/x", mode=0o700)),
        (file("./usr/x", b"1"), file("./usr/x", b"2")),
        (file("./usr/x", b"1"), folder("./usr/x")),
    ],
    ids=["directory-modes", "contents", "kinds"],
)
def test_a_disagreement_is_found(tmp_path: Path, one: Item, two: Item) -> None:
    found = collisions(packages(tmp_path, Deb(name="one").having(one), Deb(name="two").having(two)))
    assert [finding.id for finding in found] == ["import.path.collision"]


def test_shared_directories_and_equal_files_are_fine(tmp_path: Path) -> None:
    items = (folder("./var/lib/x"), file("./usr/x", b"1"))
    assert collisions(packages(tmp_path, Deb(name="one").having(*items), Deb(name="two").having(*items))) == []
