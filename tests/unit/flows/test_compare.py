"""Two builds compared: every kind of change is found and named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.images import OS_RELEASE, MadeImage, Recipe, make_image

from bedplate.flows.compare import compare_disks
from bedplate.flows.disks import open_disk
from bedplate.verify.differences import PartResult

Change = Callable[[Recipe], None]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> MadeImage:
    return make_image(tmp_path_factory.mktemp("first"))


def compare(one: Path, two: Path) -> dict[str, PartResult]:
    with open_disk(one) as left, open_disk(two) as right:
        return {part.part: part for part in compare_disks(left, right)}


def different(parts: dict[str, PartResult]) -> set[str]:
    return {name for name, part in parts.items() if not part.same}


def named(part: PartResult) -> set[tuple[str, str]]:
    return {(difference.path, difference.what) for difference in part.differences}


def test_the_same_recipe_gives_the_same_bytes(first: MadeImage, tmp_path: Path) -> None:
    parts = compare(first.disk, make_image(tmp_path / "again").disk)
    assert list(parts) == ["root", "verity", "initrd", "uki", "loader", "esp", "disk"]
    assert different(parts) == set()


def _content(recipe: Recipe) -> None:
    recipe.files["/usr/bin/tool"] = b"#!/bin/sh\necho ho\n"


def _mode(recipe: Recipe) -> None:
    recipe.modes["/usr/bin/tool"] = 0o700


def _added(recipe: Recipe) -> None:
    recipe.files["/usr/bin/new"] = b""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_content, ("/usr/bin/tool", "content")),
        (_mode, ("/usr/bin/tool", "mode")),
        (_added, ("/usr/bin/new", "only in the rebuilt one")),
    ],
)
def test_a_change_of_the_root_is_named_by_its_path(
    first: MadeImage, tmp_path: Path, change: Change, expected: tuple[str, str]
) -> None:
    recipe = Recipe()
    change(recipe)
    parts = compare(first.disk, make_image(tmp_path / "again", recipe).disk)
    assert expected in named(parts["root"])
    # The root hash carries a change of the root into everything but the boot loader and the initrd.
    assert different(parts) == {"root", "verity", "uki", "esp", "disk"}
    assert (".cmdline", "text") in named(parts["uki"])
    assert ("partition 2", "uuid") in named(parts["disk"])


def test_a_change_of_the_initrd_is_named_by_its_member(first: MadeImage, tmp_path: Path) -> None:
    recipe = Recipe(initrd={"init": b"#!/bin/sh\n", "modules.sh": b"load y\n"})
    parts = compare(first.disk, make_image(tmp_path / "again", recipe).disk)
    assert named(parts["initrd"]) == {("modules.sh", "content")}
    assert different(parts) == {"initrd", "uki", "esp"}


def test_a_change_of_the_command_line_is_shown_as_text(first: MadeImage, tmp_path: Path) -> None:
    recipe = Recipe(command_line=f"debug roothash={first.root_hash}")
    part = compare(first.disk, make_image(tmp_path / "again", recipe).disk)["uki"]
    (line,) = [difference for difference in part.differences if difference.path == ".cmdline"]
    assert line.second.startswith("debug ")


def test_another_build_id_is_shown(first: MadeImage, tmp_path: Path) -> None:
    recipe = Recipe(os_release=OS_RELEASE.replace(b"0123", b"4567"))
    parts = compare(first.disk, make_image(tmp_path / "again", recipe).disk)
    assert (".osrel", "text") in named(parts["uki"])
    assert parts["root"].same


def test_a_further_file_on_the_esp(first: MadeImage, tmp_path: Path) -> None:
    recipe = Recipe()
    recipe.esp["loader/extra.conf"] = b"x"
    parts = compare(first.disk, make_image(tmp_path / "again", recipe).disk)
    assert named(parts["esp"]) == {("loader/extra.conf", "only in the rebuilt one")}
    assert different(parts) == {"esp", "disk"}


@pytest.mark.parametrize(
    ("at", "where"), [(10, "outside partitions"), (48 << 20, "outside partitions"), (1 << 20, "esp")]
)
def test_bytes_that_no_file_holds(first: MadeImage, tmp_path: Path, at: int, where: str) -> None:
    copy = tmp_path / "copy.raw"
    shutil.copyfile(first.disk, copy)
    at = min(at, first.layout.size - (1 << 20) + 7) + (3 if where == "esp" else 0)
    with copy.open("r+b") as stream:
        os.pwrite(stream.fileno(), b"\xa5", at)
    parts = compare(first.disk, copy)
    assert different(parts) == {"disk"}
    assert any(where in difference.path for difference in parts["disk"].differences)
