"""Tables for people: narrow enough, and proof against what an image says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.images import OS_RELEASE, Recipe, make_image
from typer.testing import CliRunner

from bedplate.cli.look import findings_text, inspection_text, rebuild_text
from bedplate.cli.main import app
from bedplate.flows.images import FoundImage
from bedplate.flows.inspect import inspect_image
from bedplate.model.errors import Finding, Level
from bedplate.verify.differences import PathDifference, RebuildReport, part_result


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE", "KEYS", "OUTPUT"):
        monkeypatch.setenv(f"BEDPLATE_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("BEDPLATE_DISTRO", str(Path(__file__).resolve().parents[3] / "distro"))


def test_tables_fit_and_text_of_the_image_is_only_text(tmp_path: Path) -> None:
    release = OS_RELEASE + b'PRETTY_NAME="\x1b[31m[bold]evil[/bold]"\n'
    disk = make_image(tmp_path / "image", Recipe(os_release=release)).disk
    text = inspection_text(inspect_image(FoundImage(disk, None, None)), color=False, all_packages=True)
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "\x1b" not in text
    assert "[bold]evil[/bold]" in text
    for word in ("container_1.0_verity", ".cmdline", "NOT SIGNED", "/usr/bin/bash", "hash tree matches", "filesystem"):
        assert word in text


def test_findings_end_with_the_verdict() -> None:
    bad = Finding("image.x", Level.ERROR, "cause [x]", "/path", "remedy")
    assert "cause [x]" in findings_text([bad], color=False)
    assert findings_text([bad], color=False).endswith("1 errors: do not use this image")
    assert findings_text([], color=False) == "no errors"


def test_a_rebuild_shows_differences_path_by_path() -> None:
    parts = (
        part_result("root", "a" * 64, "b" * 64, [PathDifference(f"/{n}", "mode", "1", "2") for n in range(50)]),
        part_result("uki", "c" * 64, "c" * 64),
    )
    text = rebuild_text(RebuildReport("disk", parts, ("other inputs",), 3.0), color=False)
    assert "/0: mode 1 / 2" in text
    assert "and 10 more" in text
    assert "other inputs" in text
    assert "NOT the same bytes" in text


def test_inspect_as_json_and_exit_codes_of_verify(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "image").disk
    shown = CliRunner().invoke(app, ["inspect", str(disk), "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["track"] == "container"
    checked = CliRunner().invoke(app, ["verify", "image", str(disk), "--json"])
    assert checked.exit_code == 1
    assert json.loads(checked.stdout)["good"] is False
