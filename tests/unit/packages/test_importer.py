"""Upstream files become our RPMs: what is in them, what is cached, what stops."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.model.definition.facts import DroppedRequirement, Mode, PackageFacts
from bedplate.model.errors import BadInput, Level
from bedplate.model.package import FileFlag, FileKind, Location, Script, UpstreamPackage
from bedplate.packages.importer import IMPORTER_VERSION, import_packages
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.writer import WRITER_VERSION, write_rpm
from support.debs import Deb, file
from support.imports import DEMO, Inline, import_debs, import_rules
from support.packages import CONTENT, demo_spec


def test_an_imported_package_holds_what_upstream_shipped(tmp_path: Path) -> None:
    (done,) = import_debs(tmp_path, DEMO)
    package = RpmPackage.open(done.path)
    files = {entry.path: entry for entry in package.files}
    assert str(package.nevra) == "demo-1:2.0-1.x86_64" == str(done.nevra)
    assert package.digest == done.rpm_sha256
    assert files["/etc/demo.conf"].flags == FileFlag.CONFIG | FileFlag.NOREPLACE
    assert files["/usr/share/doc/demo/README"].flags == FileFlag.DOC
    assert files["/usr/share/doc/demo/copyright"].flags == FileFlag.LICENSE
    assert files["/usr/bin/d"].target == "demo"
    assert files["/usr/bin/demo2"].hardlink == files["/usr/bin/demo"].hardlink == "/usr/bin/demo"
    assert {entry.path: data for entry, data in package.read(lambda _path: True)}["/usr/bin/demo2"] == b"#!/bin/sh\n"
    assert {"libc6 >= 2.38-0", "debconf"} <= set(package.requires)
    assert {"agent", "demo = 1:2.0-1"} <= set(package.provides)
    assert package.conflicts == ("agent",)


def test_maintainer_scripts_are_kept_for_the_ledger_and_never_run(tmp_path: Path) -> None:
    (done,) = import_debs(tmp_path, DEMO)
    assert done.scripts == (Script("postinst", "/bin/sh", "#!/bin/sh\nexit 0\n"),)
    assert RpmPackage.open(done.path).scripts == ()


def test_facts_of_a_package_are_applied(tmp_path: Path) -> None:
    facts = PackageFacts(
        name="demo",
        provides=["/bin/sh"],
        requires=["plug-in"],
        drop=["/usr/share/doc"],
        modes={"/usr/bin/demo": Mode(mode="2755", group="shadow"), "/usr/bin/gone": Mode(mode="0700")},
    )
    rules = import_rules(
        facts,
        dropped=(
            DroppedRequirement(name="debconf", reason="asks questions only"),
            DroppedRequirement(name="agent", relation="conflicts", reason="an old agent is meant"),
        ),
        directories=frozenset({"/etc"}),
    )
    (done,) = import_debs(tmp_path, DEMO, rules=rules)
    package = RpmPackage.open(done.path)
    files = {entry.path: entry for entry in package.files}
    assert not any(path.startswith("/usr/share/doc") or path == "/etc" for path in files)
    assert (files["/usr/bin/demo"].mode, files["/usr/bin/demo2"].group) == (0o2755, "shadow")
    assert "/bin/sh" in package.provides
    assert "plug-in" in package.requires
    assert "debconf" not in package.requires
    assert package.conflicts == ()
    assert "group(shadow)" in package.requires
    assert [(finding.id, finding.level) for finding in done.findings] == [("import.mode.unused", Level.WARNING)]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    (one,) = import_debs(tmp_path, DEMO, cache="one")
    (two,) = import_debs(tmp_path, DEMO, cache="two")
    assert one.path.read_bytes() == two.path.read_bytes()


def test_other_bytes_need_another_version_in_the_cache_key(tmp_path: Path) -> None:
    # A cache or a lock made before must not be taken for one made now: when this fails on purpose, raise
    # IMPORTER_VERSION or WRITER_VERSION and put the new digest here.
    (done,) = import_debs(tmp_path, DEMO)
    assert (IMPORTER_VERSION, WRITER_VERSION, done.rpm_sha256[:16]) == ("1", "2 zstd-1.5.7", "cbf5724b49068793")


def test_nothing_is_made_twice_and_a_changed_fact_makes_it_anew(tmp_path: Path) -> None:
    (first,) = import_debs(tmp_path, DEMO)
    started = Inline.started
    (again,) = import_debs(tmp_path, DEMO)
    assert (again, Inline.started) == (first, started)
    (changed,) = import_debs(tmp_path, DEMO, rules=import_rules(PackageFacts(name="demo", provides=["x"])))
    assert changed.path != first.path
    (verdict_only,) = import_debs(tmp_path, DEMO, rules=import_rules(PackageFacts(name="demo")))
    assert verdict_only == first


def test_results_come_in_the_order_asked_for_with_real_workers(tmp_path: Path) -> None:
    wanted = [Deb(name=f"p{size}").having(file("./usr/x", bytes(size))).write(tmp_path) for size in (10, 90_000, 1000)]
    done = import_packages(wanted, import_rules(), tmp_path / "c", jobs=2, executor_factory=ProcessPoolExecutor)
    assert [one.nevra.name for one in done] == ["p10", "p90000", "p1000"]


def test_files_of_users_without_a_frozen_id_stop_the_import(tmp_path: Path) -> None:
    deb = DEMO.having(file("./usr/x", user="stranger"), file("./usr/y", group="strangers"))
    with pytest.raises(BadInput) as caught:
        import_debs(tmp_path, deb)
    assert caught.value.details == ("demo: user 'stranger'", "demo: group 'strangers'")


def test_an_rpm_keeps_its_name_and_files_and_loses_its_scriptlets(tmp_path: Path) -> None:
    upstream = demo_spec(scriptlets=(Script("%post", "/bin/sh", "echo hello"),))
    written = write_rpm(upstream, lambda entry: (CONTENT[entry.path],), tmp_path / "demo.rpm")
    package = UpstreamPackage(
        format="rpm",
        name="demo",
        version="2:1.2~rc1-3",
        arch="x86_64",
        source_name="demo-source",
        source_version="4:1.2-3",
        location=Location("test", "demo.rpm", written.sha256, written.size),
        suite="test",
        fields={"requires": upstream.requires, "provides": upstream.provides, "conflicts": upstream.conflicts},
    )
    facts = PackageFacts(name="demo", modes={"/usr/bin/demo-elf": Mode(mode="0755")})
    rules = replace(import_rules(facts), dropped=(DroppedRequirement(name="libc6", reason="only for this test"),))
    (done,) = import_packages([(package, written.path)], rules, tmp_path / "c", jobs=1, executor_factory=Inline)
    ours, theirs = RpmPackage.open(done.path), RpmPackage.open(written.path)
    assert (ours.nevra, ours.source) == (theirs.nevra, theirs.source)
    assert ours.scripts == ()
    assert [script.kind for script in done.scripts] == ["%post"]
    assert "libc6 >= 2.38-0" not in ours.requires
    assert "(foo >= 1-0 or bar)" in ours.requires
    assert ours.provides == theirs.provides
    changed = {"/usr/bin/demo-elf"}
    assert [e for e in ours.files if e.path not in changed] == [e for e in theirs.files if e.path not in changed]
    assert {e.path: data for e, data in ours.read(bool)} == {e.path: data for e, data in theirs.read(bool)}
    assert any(entry.flags & FileFlag.GHOST for entry in ours.files)
    assert all(entry.kind is not FileKind.FILE or entry.mode < 0o1000 for entry in ours.files)
