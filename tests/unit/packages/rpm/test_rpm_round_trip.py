"""What is written is read back, and the same input gives the same bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileFlag, FileKind, Nevra, PackageContent, Script
from bedplate.packages.rpm import assemble
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.spec import FileTrigger
from bedplate.packages.rpm.writer import write_rpm
from support.packages import CONTENT, DEMO_FILES, TIME, contents_of, demo_spec, regular, write_demo


def test_files_and_contents_come_back(tmp_path: Path) -> None:
    written = write_demo(tmp_path / "demo.rpm")
    package: PackageContent = RpmPackage.open(written.path)
    expected = {entry.path: entry for entry in DEMO_FILES}
    assert [entry.path for entry in package.files] == sorted(expected)
    for entry in package.files:
        wanted = expected[entry.path]
        assert (entry.kind, entry.mode, entry.user, entry.group, entry.mtime) == (
            wanted.kind,
            wanted.mode,
            wanted.user,
            wanted.group,
            TIME,
        )
        assert (entry.size, entry.target, entry.hardlink) == (wanted.size, wanted.target, wanted.hardlink)
        assert (entry.flags, entry.capabilities) == (wanted.flags, wanted.capabilities)
    contents = {entry.path: data for entry, data in package.read(lambda path: True)}
    assert contents == CONTENT
    assert {entry.path: entry.sha256 for entry in package.files if entry.sha256} == {
        path: hashlib.sha256(data).hexdigest() for path, data in CONTENT.items()
    }


def test_only_wanted_files_are_given(tmp_path: Path) -> None:
    package = RpmPackage.open(write_demo(tmp_path / "demo.rpm").path)
    assert [entry.path for entry, _ in package.read(lambda path: path == "/usr/bin/demo")] == ["/usr/bin/demo"]


def test_identity_source_and_dependencies_come_back(tmp_path: Path) -> None:
    package = RpmPackage.open(write_demo(tmp_path / "demo.rpm").path)
    assert str(package.nevra) == "demo-2:1.2~rc1-3.x86_64"
    assert str(package.source) == "demo-source-4:1.2-3"
    assert package.requires == (
        "(foo >= 1-0 or bar)",
        "/bin/sh",
        "config(demo) = 2:1.2~rc1-3",
        "group(_demo)",
        "group(audio)",
        "libc6 >= 2.38-0",
        "user(_demo)",
    )
    assert "mail-agent" in package.provides
    assert "virtual = 3:4-5" in package.provides
    assert "demo = 2:1.2~rc1-3" in package.provides
    assert "demo(x86-64) = 2:1.2~rc1-3" in package.provides
    assert package.conflicts == ("old < 1:2",)
    assert package.obsoletes == ("older <= 1",)
    assert (package.recommends, package.suggests) == (("baz",), ("quux",))


def test_same_input_same_bytes_however_content_is_cut(tmp_path: Path) -> None:
    one = write_rpm(demo_spec(), contents_of(CONTENT), tmp_path / "one.rpm")
    two = write_rpm(demo_spec(files=DEMO_FILES[::-1]), contents_of(CONTENT, 7), tmp_path / "two.rpm")
    assert (tmp_path / "one.rpm").read_bytes() == (tmp_path / "two.rpm").read_bytes()
    assert one.sha256 == two.sha256 == hashlib.sha256(one.path.read_bytes()).hexdigest()
    assert RpmPackage.open(one.path).digest == one.sha256
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.rpm", "two.rpm"]


def test_scriptlets_and_file_triggers_come_back(tmp_path: Path) -> None:
    scripts = (
        Script("%pre", "/bin/sh", "true\n"),
        Script("%posttrans", "<lua>", "print(1)\n"),
        Script("%verifyscript", "/bin/bash -e", "true\n"),
    )
    triggers = (
        FileTrigger("%transfiletriggerin", "/bin/sh", "ldconfig\n", ("/usr/lib", "/usr/lib64")),
        FileTrigger("%filetriggerpostun", "<lua>", "print(2)\n", ("/etc",), priority=5),
    )
    package = RpmPackage.open(write_demo(tmp_path / "d.rpm", scriptlets=scripts, file_triggers=triggers).path)
    assert set(package.scripts) == {
        *scripts,
        Script("%transfiletriggerin", "/bin/sh", "ldconfig\n", "/usr/lib, /usr/lib64"),
        Script("%filetriggerpostun", "<lua>", "print(2)\n", "/etc"),
    }
    assert "/bin/bash" in package.requires


def test_files_beyond_four_gigabytes_take_the_large_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "LARGE_FILE", 100)
    package = RpmPackage.open(write_demo(tmp_path / "demo.rpm").path)
    assert {entry.path: data for entry, data in package.read(lambda path: True)} == CONTENT
    header = package.header
    assert "rpmlib(LargeFiles)" in header.texts(1049)


def test_a_package_without_files(tmp_path: Path) -> None:
    package = RpmPackage.open(write_demo(tmp_path / "demo.rpm", files=()).path)
    assert package.files == ()
    package.verify_payload()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": (regular("/a/../b", b""),)}, "unsafe path"),
        ({"files": (regular("relative", b""),)}, "unsafe path"),
        ({"files": (regular("/a", b""), regular("/a", b""))}, "two files"),
        ({"files": (regular("/a", b"", hardlink="/b"),)}, "hard link"),
        ({"files": (FileEntry("/l", FileKind.SYMLINK, 0o777),)}, "no valid target"),
        ({"requires": ("a >> 1",)}, "not an RPM dependency"),
        ({"requires": ("(a or (b)",)}, "unbalanced"),
        ({"scriptlets": (Script("%what", "/bin/sh", ""),)}, "unknown kind"),
        ({"summary": "a\0b"}, "NUL"),
    ],
)
def test_a_spec_that_no_rpm_can_hold_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        write_rpm(demo_spec(**changes), contents_of({**CONTENT, "/a": b""}), tmp_path / "x.rpm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"short", b"far too long a text", b""])
def test_content_of_another_size_is_refused(tmp_path: Path, data: bytes) -> None:
    spec = demo_spec(files=(regular("/usr/bin/x", b"ten bytes!"),))
    with pytest.raises(BadInput, match="10 bytes long"):
        write_rpm(spec, contents_of({"/usr/bin/x": data}), tmp_path / "x.rpm")
    assert list(tmp_path.iterdir()) == []


def test_content_of_another_digest_is_refused(tmp_path: Path) -> None:
    spec = demo_spec(files=(regular("/usr/bin/x", b"good", sha256=hashlib.sha256(b"good").hexdigest()),))
    with pytest.raises(BadInput, match="digest"):
        write_rpm(spec, contents_of({"/usr/bin/x": b"evil"}), tmp_path / "x.rpm")


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(_NAMES, st.binary(max_size=600), max_size=12), st.integers(0, 0o7777), st.integers(0, 2**32 - 1))
def test_any_names_modes_and_contents_come_back(files: dict[str, bytes], mode: int, time: int) -> None:
    data = {f"/srv/{name}": content for name, content in files.items()}
    entries = tuple(FileEntry(path, FileKind.FILE, mode, mtime=time, size=len(one)) for path, one in data.items())
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        # Waiting for the disk each time would take longer than all the rest.
        patch.setattr(os, "fsync", lambda descriptor: None)
        written = write_rpm(demo_spec(files=entries), contents_of(data), Path(directory) / "x.rpm")
        package = RpmPackage.open(written.path)
        assert {entry.path: content for entry, content in package.read(lambda path: True)} == data
        assert all((entry.mode, entry.mtime) == (mode, time) for entry in package.files)


def test_ghosts_and_flags_survive(tmp_path: Path) -> None:
    package = RpmPackage.open(write_demo(tmp_path / "demo.rpm").path)
    flags = {entry.path: entry.flags for entry in package.files}
    assert flags["/var/log/demo.log"] == FileFlag.GHOST
    assert flags["/etc/demo.conf"] == FileFlag.CONFIG | FileFlag.NOREPLACE


def test_evr_without_epoch_has_none(tmp_path: Path) -> None:
    package = RpmPackage.open(write_demo(tmp_path / "d.rpm", nevra=Nevra("demo", Evr(0, "1", "0"), "noarch")).path)
    assert str(package.nevra) == "demo-1-0.noarch"
    assert "demo = 1-0" in package.provides
    assert not any(text.startswith("demo(") for text in package.provides)
