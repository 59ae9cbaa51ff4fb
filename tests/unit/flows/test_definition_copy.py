"""A copy of a definition is whole by itself, and says what the definition said."""

from __future__ import annotations

import os
from pathlib import Path

from bedplate.flows.definition import copy_definition, read_definition
from bedplate.flows.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]


def test_a_copy_can_be_read_wherever_it_lies_and_is_the_same_definition(tmp_path: Path) -> None:
    source, target = ROOT / "distro", tmp_path / "elsewhere/distro"
    copy_definition(source, target)
    places = {path: Workspace.from_environment(os.environ, distro=path, output=tmp_path) for path in (source, target)}
    assert read_definition(places[target]) == read_definition(places[source])


def test_links_that_belong_to_the_image_stay_links(tmp_path: Path) -> None:
    copy_definition(ROOT / "distro", tmp_path / "distro")
    kept = {path for path in (ROOT / "distro/files").rglob("*") if path.is_symlink()}
    assert kept
    for path in kept:
        assert (tmp_path / path.relative_to(ROOT)).readlink() == path.readlink()
