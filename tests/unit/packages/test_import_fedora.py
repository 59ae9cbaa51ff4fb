"""Packages with Fedora's habits, built by the real rpmbuild, imported: everything kept but the scriptlets."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.definition.facts import PackageFacts
from bedplate.model.package import FileFlag, Location
from bedplate.packages.formats import FORMATS
from bedplate.packages.importer import ImportedPackage, import_packages
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.toolchain.run import Toolbox
from support.fedora import build_packages
from support.imports import Inline, import_rules

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def imported(
    toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[ImportedPackage, RpmPackage]]:
    """Each package of the repository: ours, and the upstream file."""
    folder = tmp_path_factory.mktemp("fedora")
    files = sorted((build_packages(toolbox, folder) / "Packages").glob("*.rpm"))
    describe = FORMATS["rpm"].describe
    wanted = [(describe(path, _location(path), "stable"), path) for path in files]
    rules = import_rules(PackageFacts(name="server", requires=["plug-in"]))
    done = import_packages(wanted, rules, folder / "cache", jobs=1, executor_factory=Inline)
    return {
        f"{one.nevra.name}.{one.nevra.arch}": (one, RpmPackage.open(path))
        for one, (_, path) in zip(done, wanted, strict=True)
    }


def _location(path: Path) -> Location:
    return Location("fedora", path.name, RpmPackage.open(path).digest, path.stat().st_size)


def test_names_relations_and_files_are_as_upstream_wrote_them(
    imported: dict[str, tuple[ImportedPackage, RpmPackage]],
) -> None:
    for done, theirs in imported.values():
        ours = RpmPackage.open(done.path)
        assert (ours.nevra, ours.source, ours.files) == (theirs.nevra, theirs.source, theirs.files)
        for kind in ("conflicts", "obsoletes", "recommends", "suggests"):
            assert ours.dependencies(kind) == theirs.dependencies(kind)
        assert set(theirs.requires) <= set(ours.requires)
        contents = {entry.path: data for entry, data in theirs.read(lambda _path: True)}
        assert {entry.path: data for entry, data in ours.read(lambda _path: True)} == contents


def test_rich_dependencies_users_capabilities_ghosts_and_hard_links_survive(
    imported: dict[str, tuple[ImportedPackage, RpmPackage]],
) -> None:
    ours = RpmPackage.open(imported["server.x86_64"][0].path)
    files = {entry.path: entry for entry in ours.files}
    assert "(server-tls if openssl-libs)" in ours.requires
    assert {"user(server)", "group(server)"} <= set(ours.provides)
    assert ours.dependencies("supplements") == ("(webapp and httpd)",)
    assert ours.dependencies("enhances") == ("desktop",)
    assert files["/usr/bin/server-ping"].capabilities == "cap_net_raw=p"
    assert files["/var/log/server.log"].flags & FileFlag.GHOST
    assert files["/usr/bin/server-alias"].hardlink == files["/usr/bin/serverd"].hardlink != ""


def test_requirements_of_the_facts_are_added(imported: dict[str, tuple[ImportedPackage, RpmPackage]]) -> None:
    done, theirs = imported["server.x86_64"]
    assert "plug-in" not in theirs.requires
    assert RpmPackage.open(done.path).requires.count("plug-in") == 1


def test_scriptlets_and_triggers_go_to_the_ledger(imported: dict[str, tuple[ImportedPackage, RpmPackage]]) -> None:
    done, _ = imported["server.x86_64"]
    assert {script.kind for script in done.scripts} == {"%pre", "%post", "%preun", "%transfiletriggerin"}
    assert RpmPackage.open(done.path).scripts == ()


def test_one_library_for_two_architectures_stays_two_packages(
    imported: dict[str, tuple[ImportedPackage, RpmPackage]],
) -> None:
    assert {"libfoo.x86_64", "libfoo.i686"} <= imported.keys()
