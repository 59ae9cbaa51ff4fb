"""Imported packages, installed and verified by rpm itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.definition.distro import Distro
from bedplate.model.definition.facts import Mode, PackageFacts
from bedplate.model.definition.own import OwnPackage
from bedplate.packages import own
from bedplate.toolchain.run import Completed, Toolbox
from support.debs import Deb
from support.imports import DEMO, IDS, import_debs, import_rules

_NO_SYSUSERS = ("--define", "__systemd_sysusers %{nil}")

pytestmark = pytest.mark.tools


def _rpm(toolbox: Toolbox, database: Path, *args: str | Path) -> Completed:
    return toolbox.run("rpm", "--dbpath", database, "--nosignature", *_NO_SYSUSERS, *args, ok=range(256))


@pytest.fixture
def closure(tmp_path: Path) -> list[Path]:
    """RPMs of a small closure: filesystem, the demo, what it needs, and a rival agent."""
    others = (
        Deb(name="libc6", version="2.41-12"),
        Deb(name="debconf", version="1.5", arch="all"),
        Deb(name="rival", control={"Provides": "agent", "Conflicts": "agent"}),
    )
    facts = PackageFacts(name="demo", modes={"/usr/bin/demo": Mode(mode="2755", group="shadow")})
    done = import_debs(tmp_path, DEMO, *others, rules=import_rules(facts, directories=frozenset({"/etc"})))
    distro = Distro(id="demo", name="Demo", version="1", stream="1", upstreams=[], source_date_epoch=1)
    base = OwnPackage.model_validate(
        {
            "name": "filesystem",
            "release": "1",
            "summary": "x",
            "description": "x",
            "directories": {"/etc": {"mode": "0755"}},
            "files": {"/usr/lib/sysusers.d/all.conf": {"make": "sysusers"}},
        }
    )
    return [own.build(base, own.OwnContext(distro, IDS, {}), tmp_path / "own").path, *(one.path for one in done)]


def test_a_package_that_provides_what_it_conflicts_with_does_not_conflict_with_itself(
    toolbox: Toolbox, tmp_path: Path, closure: list[Path]
) -> None:
    result = _rpm(toolbox, tmp_path / "db", "-i", "--test", *closure[:-1])
    assert (result.code, result.stderr) == (0, "")


def test_two_packages_of_one_virtual_name_conflict(toolbox: Toolbox, tmp_path: Path, closure: list[Path]) -> None:
    result = _rpm(toolbox, tmp_path / "db", "-i", "--test", *closure)
    assert result.code
    assert "agent conflicts with" in result.stderr


def test_rpm_reads_what_we_meant(toolbox: Toolbox, tmp_path: Path, closure: list[Path]) -> None:
    query = "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} %{ARCH}\n"
    assert _rpm(toolbox, tmp_path / "db", "-qp", "--qf", query, closure[1]).text == "demo 1:2.0-1 x86_64\n"
    assert "libc6 >= 2.38-0" in _rpm(toolbox, tmp_path / "db", "-qp", "--requires", closure[1]).text.splitlines()
    assert _rpm(toolbox, tmp_path / "db", "-qp", "--conflicts", closure[1]).text == "agent\n"
    assert _rpm(toolbox, tmp_path / "db", "-qpc", closure[1]).text == "/etc/demo.conf\n"
    assert _rpm(toolbox, tmp_path / "db", "-qp", "--scripts", closure[1]).text == ""
    assert _rpm(toolbox, tmp_path / "db", "-qp", "--requires", "--qf", "", closure[1]).code == 0


def test_the_database_of_an_image_takes_them_without_a_script(
    toolbox: Toolbox, tmp_path: Path, closure: list[Path]
) -> None:
    flags = ("-i", "--justdb", "--noscripts", "--notriggers", "--nodeps", "--ignoresize", "--nodigest")
    assert _rpm(toolbox, tmp_path / "db", *flags, *closure[:-1]).code == 0
    listed = _rpm(
        toolbox, tmp_path / "db", "-q", "--qf", "[%{FILEMODES:octal} %{FILEGROUPNAME} %{FILENAMES}\n]", "demo"
    )
    assert "102755 shadow /usr/bin/demo" in listed.text
