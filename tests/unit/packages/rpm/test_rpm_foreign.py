"""Packages that rpmbuild made, with the habits of Fedora and its kin, read by us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.model.package import FileFlag, Script
from bedplate.packages.rpm.metadata import describe
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.toolchain.run import Toolbox
from support.packages import CONTENT, DEMO_FILES, demo_spec
from support.rpmbuild import build

pytestmark = pytest.mark.tools

_SCRIPTS = """
%pre
getent passwd _demo
%post -p <lua>
print("x")
%preun -p /bin/bash
exit 0
%posttrans
systemctl daemon-reload
%triggerin -- glibc >= 2.38, kernel
echo trigger
%triggerpostun -p /bin/bash -- old < 2
echo gone
%filetriggerin -- /usr/lib/udev /etc/udev
udevadm control --reload
%transfiletriggerin -P 2000000 -- /usr/lib/sysusers.d
systemd-sysusers
%transfiletriggerpostun -- /usr/lib/systemd
systemctl daemon-reload
"""


@pytest.fixture
def foreign(toolbox: Toolbox, tmp_path: Path, request: pytest.FixtureRequest) -> RpmPackage:
    """The demo package by rpmbuild; the parameter is its payload compression."""
    payload = getattr(request, "param", "w3.zstdio")
    path = build(toolbox, demo_spec(), dict(CONTENT), tmp_path, payload=payload, more=_SCRIPTS)
    return RpmPackage.open(path)


@pytest.mark.parametrize("foreign", ["w19.zstdio", "w6.xzdio", "w9.gzdio", "w9.bzdio", "w.ufdio"], indirect=True)
def test_every_payload_compression_is_read(foreign: RpmPackage) -> None:
    assert {entry.path: data for entry, data in foreign.read(lambda path: True)} == CONTENT


def test_files_keep_ghosts_capabilities_owners_links_and_flags(foreign: RpmPackage) -> None:
    wanted = {entry.path: entry for entry in DEMO_FILES}
    assert [entry.path for entry in foreign.files] == sorted(wanted)
    for entry in foreign.files:
        other = wanted[entry.path]
        assert (entry.mode, entry.user, entry.group) == (other.mode, other.user, other.group)
        assert (entry.capabilities, entry.hardlink, entry.target) == (other.capabilities, other.hardlink, other.target)
        assert entry.flags & ~FileFlag.DOC == other.flags & ~FileFlag.DOC


def test_dependencies_keep_rich_ones_and_users(foreign: RpmPackage) -> None:
    assert {"(foo >= 1-0 or bar)", "user(_demo)", "group(_demo)", "libc6 >= 2.38-0"} <= set(foreign.requires)
    assert any(text.startswith("user(_demo) = ") for text in foreign.provides)
    assert str(foreign.source) == "demo-2:1.2~rc1-3"


def test_every_scriptlet_and_trigger_is_seen(foreign: RpmPackage) -> None:
    assert set(foreign.scripts) == {
        Script("%pre", "/bin/sh", "getent passwd _demo"),
        Script("%post", "<lua>", 'print("x")'),
        Script("%preun", "/bin/bash", "exit 0"),
        Script("%posttrans", "/bin/sh", "systemctl daemon-reload"),
        Script("%triggerin", "/bin/sh", "echo trigger", "glibc >= 2.38, kernel"),
        Script("%triggerpostun", "/bin/bash", "echo gone", "old < 2"),
        Script("%filetriggerin", "/bin/sh", "udevadm control --reload", "/etc/udev, /usr/lib/udev"),
        Script("%transfiletriggerin", "/bin/sh", "systemd-sysusers", "/usr/lib/sysusers.d"),
        Script("%transfiletriggerpostun", "/bin/sh", "systemctl daemon-reload", "/usr/lib/systemd"),
    }


@pytest.fixture
def createrepo(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """createrepo_c, whose librpm needs to find rpm's settings."""
    monkeypatch.setitem(os.environ, "RPM_CONFIGDIR", toolbox.environment()["RPM_CONFIGDIR"])
    import createrepo_c

    yield createrepo_c


def test_metadata_says_what_createrepo_says(foreign: RpmPackage, createrepo: Any) -> None:
    theirs = createrepo.package_from_rpm(str(foreign.path), checksum_type=createrepo.SHA256, changelog_limit=10)
    ours: list[Any] = []
    made = describe(foreign, theirs.pkgId, "Packages/demo.rpm")
    createrepo.xml_parse_primary_snippet(made.primary, None, ours.append)
    (package,) = ours
    for name in (
        "name", "arch", "epoch", "version", "release", "summary", "description", "url", "rpm_license", "rpm_group",
        "rpm_buildhost", "rpm_sourcerpm", "rpm_header_start", "rpm_header_end", "size_package", "size_installed",
        "size_archive", "time_build",
    ):  # fmt: skip
        assert (name, getattr(package, name) or "") == (name, getattr(theirs, name) or "")
    for kind in ("provides", "conflicts", "obsoletes", "recommends", "suggests"):
        assert (kind, sorted(getattr(package, kind))) == (kind, sorted(getattr(theirs, kind)))
    # createrepo_c leaves out what the package itself provides.
    assert {one[:5] for one in theirs.requires} <= {one[:5] for one in package.requires}
    listed: list[Any] = []
    createrepo.xml_parse_filelists_snippet(made.filelists, None, listed.append)
    assert {(kind or "", folder + name) for kind, folder, name, *_ in listed[0].files} == {
        (kind or "", folder + name) for kind, folder, name, *_ in theirs.files
    }
