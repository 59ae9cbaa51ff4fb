"""Packages made from the definition: filesystem, bedplate-release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.flows.definition import read_definition
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.distro import Distro
from bedplate.model.definition.facts import Ids, Mode, User
from bedplate.model.definition.load import DefinitionSet, load_definition
from bedplate.model.definition.own import OwnFile, OwnPackage, OwnTrigger
from bedplate.model.errors import BadInput
from bedplate.model.package import FileKind
from bedplate.packages import own
from bedplate.packages.rpm.reader import RpmPackage

_DISTRO_DIRECTORY = Path(__file__).resolve().parents[3] / "distro"
_DISTRO = Distro(id="demo", name="Demo Linux", version="7.1", stream="7", upstreams=[], source_date_epoch=1_700_000_000)
_IDS = Ids(
    users={
        "root": User(uid=0, home="/root", shell="/bin/sh"),
        "sshd": User(uid=904, group="nogroup", gecos="Secure Shell"),
    },
    groups={"mail": 8, "nogroup": 65534},
    members={"mail": ["sshd"]},
)
_CONTEXT = own.OwnContext(_DISTRO, _IDS, {"packages": b"public key\n"})


def _package(**fields: object) -> OwnPackage:
    return OwnPackage(**{"name": "demo", "release": "2", "summary": "A demo", "description": "More.", **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def definition() -> DefinitionSet:
    """The distribution's own definition."""
    skipped = ("locks/", "files/", "keys/")
    files = {
        path.relative_to(_DISTRO_DIRECTORY).as_posix(): path.read_text() for path in _DISTRO_DIRECTORY.rglob("*.toml")
    }
    return load_definition({name: text for name, text in files.items() if not name.startswith(skipped)})


def test_filesystem_has_the_merged_usr_and_the_modes_of_every_system(definition: DefinitionSet, tmp_path: Path) -> None:
    context = own.OwnContext(definition.distro, definition.ids, {})
    package = RpmPackage.open(own.build(definition.own["filesystem"], context, tmp_path).path)
    found = {entry.path: entry for entry in package.files}
    links = {path: found[path].target for path in ("/bin", "/sbin", "/lib", "/lib64")}
    assert links == {"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/lib64": "usr/lib64"}
    modes = {path: found[path].mode for path in ("/root", "/tmp", "/var/tmp", "/proc", "/sys", "/usr")}
    assert modes == {"/root": 0o700, "/tmp": 0o1777, "/var/tmp": 0o1777, "/proc": 0o555, "/sys": 0o555, "/usr": 0o755}
    assert all(entry.kind is not FileKind.FILE for entry in package.files)


def test_release_says_who_the_distribution_is(definition: DefinitionSet, tmp_path: Path) -> None:
    context = own.OwnContext(definition.distro, definition.ids, {"packages": b"key"})
    package = RpmPackage.open(own.build(definition.own["bedplate-release"], context, tmp_path).path)
    contents = {entry.path: data.decode() for entry, data in package.read(lambda _path: True)}
    assert f"ID={definition.distro.id}\n" in contents["/usr/lib/os-release"]
    assert f"VERSION_ID={definition.distro.version}\n" in contents["/usr/lib/os-release"]
    assert "IMAGE_" not in contents["/usr/lib/os-release"]
    assert "g shadow 42\n" in contents["/usr/lib/sysusers.d/bedplate.conf"]
    assert contents["/etc/pki/rpm-gpg/RPM-GPG-KEY-bedplate"] == "key"
    assert any(text.startswith("group(shadow)") for text in package.provides)


def test_own_packages_are_candidates_without_a_download() -> None:
    found = own.candidate(_package(provides=["system-release = @VERSION@"], requires=["filesystem"]), _DISTRO)
    assert (str(found.nevra), found.location, found.requires) == ("demo-7.1-2.noarch", None, ("filesystem",))
    assert found.provides == ("demo = 7.1-2", "system-release = 7.1")


def test_sysusers_names_every_frozen_id() -> None:
    assert own.sysusers(_IDS).splitlines()[1:] == [
        "g mail 8",
        "g nogroup 65534",
        'u root 0 "root" /root /bin/sh',
        'u sshd 904:nogroup "Secure Shell" / /usr/sbin/nologin',
        "m sshd mail",
    ]


def test_the_same_definition_gives_the_same_bytes_and_another_key_other_ones(tmp_path: Path) -> None:
    package = _package(files={"/etc/key": OwnFile(make="key", key="packages"), "/etc/x": OwnFile(content="@NAME@\n")})
    one = own.build(package, _CONTEXT, tmp_path / "one")
    two = own.build(package, _CONTEXT, tmp_path / "two")
    again = own.build(package, _CONTEXT, tmp_path / "two")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert again == two
    other = own.build(package, replace(_CONTEXT, keys={"packages": b"other\n"}), tmp_path / "one")
    assert other.rpm_sha256 != one.rpm_sha256


def test_triggers_and_config_files(tmp_path: Path) -> None:
    package = _package(
        files={"/etc/demo.conf": OwnFile(content="a\n", config=True, mode=Mode(mode="0640", group="mail"))},
        triggers=[OwnTrigger(kind="%transfiletriggerin", prefixes=["/usr/lib"], script="ldconfig")],
    )
    built = RpmPackage.open(own.build(package, _CONTEXT, tmp_path).path)
    assert [(script.kind, script.text) for script in built.scripts] == [("%transfiletriggerin", "ldconfig")]
    assert (built.files[0].mode, built.files[0].group) == (0o640, "mail")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"files": {"/etc/x": OwnFile(content="@COLOUR@")}}, "unknown macro @COLOUR@"),
        ({"files": {"/etc/x": OwnFile(make="key", key="nobody")}}, "no public key of the role 'nobody'"),
        ({"directories": {"/srv/x": Mode(mode="0755", user="stranger")}}, "no frozen id"),
        ({"directories": {"/etc/x": Mode(mode="0755")}, "links": {"/etc/x": "y"}}, "two files are called /etc/x"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        own.build(_package(**fields), _CONTEXT, tmp_path)


def test_a_tree_of_the_definition_becomes_files_of_its_package(tmp_path: Path) -> None:
    workspace = Workspace.from_environment({"HOME": str(tmp_path)}, distro=_DISTRO_DIRECTORY)
    definition = read_definition(workspace)
    context = own.OwnContext(definition.distro, definition.ids, {})
    package = RpmPackage.open(own.build(definition.own["bedplate-patch"], context, tmp_path / "rpms").path)
    contents = {entry.path: data for entry, data in package.read(lambda _path: True)}
    place = "/usr/lib/python3/dist-packages/bedplate_patch"
    assert contents[f"{place}/saved.py"] == (_DISTRO_DIRECTORY / "node/bedplate_patch/saved.py").read_bytes()
    # What a link leads to, not the link.
    assert b"class Window" in contents[f"{place}/windows.py"]
