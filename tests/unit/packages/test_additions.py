"""What facts add to a package: accounts, files, links and directories its scripts would have made."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.definition.facts import AddedFile, Edit, Ids, Mode, PackageFacts, User, accounts_of
from bedplate.model.errors import BadInput
from bedplate.model.package import FileFlag, FileKind
from bedplate.packages.importer import ImportRules
from bedplate.packages.rpm.reader import RpmPackage
from support.debs import file
from support.imports import DEMO, import_debs

IDS = Ids(
    users={"root": User(uid=0), "demo": User(uid=899, home="/var/lib/demo"), "other": User(uid=898)},
    groups={"adm": 4, "keys": 897},
    members={"keys": ["demo"]},
)


def rules(facts: PackageFacts) -> ImportRules:
    return ImportRules({facts.name: facts}, IDS)


def imported(tmp_path: Path, facts: PackageFacts) -> RpmPackage:
    (done,) = import_debs(tmp_path, DEMO, rules=rules(facts))
    return RpmPackage.open(done.path)


def test_an_account_comes_with_its_package_and_its_frozen_number(tmp_path: Path) -> None:
    package = imported(tmp_path, PackageFacts(name="demo", users=["demo"], groups=["keys"]))
    contents = {entry.path: data.decode() for entry, data in package.read(lambda path: "sysusers" in path)}
    text = contents["/usr/lib/sysusers.d/bedplate-demo.conf"]
    assert 'u demo 899 "demo" /var/lib/demo /usr/sbin/nologin' in text
    assert "g keys 897" in text and "m demo keys" in text and "other" not in text
    assert any(text.startswith("user(demo) = ") for text in package.provides)


def test_a_sysusers_file_of_upstreams_with_numbers_of_its_own_gives_way(tmp_path: Path) -> None:
    upstream = DEMO.having(file("./usr/lib/sysusers.d/demo.conf", b'u demo - "Demo"\n'))
    (done,) = import_debs(tmp_path, upstream, rules=rules(PackageFacts(name="demo", users=["demo"])))
    paths = {entry.path for entry in RpmPackage.open(done.path).files}
    assert "/usr/lib/sysusers.d/bedplate-demo.conf" in paths
    assert "/usr/lib/sysusers.d/demo.conf" not in paths


def test_an_account_of_upstreams_that_the_facts_do_not_name_stops(tmp_path: Path) -> None:
    upstream = DEMO.having(file("./usr/lib/sysusers.d/demo.conf", b"u demo -\nu stranger -\n"))
    with pytest.raises(BadInput, match="stranger"):
        import_debs(tmp_path, upstream, rules=rules(PackageFacts(name="demo", users=["demo"])))


def test_files_links_and_directories_of_scripts_are_part_of_the_package(tmp_path: Path) -> None:
    facts = PackageFacts(
        name="demo",
        directories={"/var/lib/demo": Mode(mode="0750", group="adm")},
        links={"/etc/demo.d/on": "../demo.conf"},
        files={
            "/etc/copy.conf": AddedFile(copy_of="/etc/demo.conf"),
            "/usr/lib/systemd/system/demo-setup.service": AddedFile(content="[Unit]\n", config=False),
        },
        tmpfiles=["d /var/log/demo 0750 root adm -"],
        modes={"/usr/bin/demo": Mode(mode="0755", capabilities="cap_net_raw=ep")},
    )
    package = imported(tmp_path, facts)
    files = {entry.path: entry for entry in package.files}
    contents = {entry.path: data for entry, data in package.read(lambda _path: True)}
    assert (files["/var/lib/demo"].kind, files["/var/lib/demo"].mode) == (FileKind.DIRECTORY, 0o750)
    assert files["/etc/demo.d/on"].target == "../demo.conf"
    assert contents["/etc/copy.conf"] == contents["/etc/demo.conf"]
    assert files["/etc/copy.conf"].flags == FileFlag.CONFIG | FileFlag.NOREPLACE
    assert files["/usr/lib/systemd/system/demo-setup.service"].flags == FileFlag.NONE
    assert contents["/usr/lib/tmpfiles.d/bedplate-demo.conf"] == b"d /var/log/demo 0750 root adm -\n"
    assert files["/usr/bin/demo"].capabilities == "cap_net_raw=ep"


def test_a_copy_of_what_is_not_there_stops(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not hold"):
        imported(tmp_path, PackageFacts(name="demo", files={"/etc/x": AddedFile(copy_of="/etc/gone")}))


def test_a_system_has_the_accounts_of_its_packages_and_those_nobody_brings() -> None:
    facts = {"demo": PackageFacts(name="demo", users=["demo"], groups=["keys"])}
    assert set(accounts_of(IDS, facts, ()).users) == {"root", "other"}
    here = accounts_of(IDS, facts, {"demo"})
    assert set(here.users) == {"root", "other", "demo"}
    assert here.groups == {"adm": 4, "keys": 897}


def test_a_file_is_edited_where_the_text_is_the_expected_one(tmp_path: Path) -> None:
    upstream = DEMO.having(file("./usr/share/demo/known.json", b'{"one": {}, "two": {}}'))
    path = "/usr/share/demo/known.json"
    edited = AddedFile(copy_of=path, edits=[Edit(old='"one": {}', new='"one": {}, "ours": {}')], config=False)
    (done,) = import_debs(tmp_path, upstream, rules=rules(PackageFacts(name="demo", files={path: edited})))
    package = RpmPackage.open(done.path)
    contents = {entry.path: data for entry, data in package.read(path.__eq__)}
    assert contents == {path: b'{"one": {}, "ours": {}, "two": {}}'}
    assert [entry.flags for entry in package.files if entry.path == path] == [FileFlag.NONE]


@pytest.mark.parametrize("old", ["absent", "{}"])
def test_an_edit_of_a_text_that_upstream_changed_stops(tmp_path: Path, old: str) -> None:
    upstream = DEMO.having(file("./usr/share/demo/known.json", b'{"one": {}, "two": {}}'))
    path = "/usr/share/demo/known.json"
    facts = PackageFacts(name="demo", files={path: AddedFile(copy_of=path, edits=[Edit(old=old, new="")])})
    with pytest.raises(BadInput, match="not once"):
        import_debs(tmp_path, upstream, rules=rules(facts))
