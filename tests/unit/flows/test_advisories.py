"""Which advisories come of a source package, its packages and its change log."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.flows.advisories import Candidate, of_source
from bedplate.model.definition.distro import AdvisoryPolicy
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra, SourceRef
from bedplate.packages.changelog import ChangelogEntry

POLICY = AdvisoryPolicy(prefix="B", suites=["stable-security"], reboot=["linux*"])
STABLE = frozenset({"stable", "stable-security"})
DATE = 1_790_000_000  # 2026


def entry(version: str, target: str, text: str = "") -> ChangelogEntry:
    return ChangelogEntry(version, (target,), DATE, text)


def told(source: str, version: str, suite: str, entries: list[ChangelogEntry], *binaries: str) -> dict[str, list[str]]:
    evr = Evr.parse(version)
    members = [
        Candidate(Nevra(name, Evr.parse(text), "x86_64"), SourceRef(source, evr), suite, Path("x"), "")
        for name, text in (one.split(" ") for one in binaries)
    ]
    found = of_source(POLICY, STABLE, SourceRef(source, evr), members, entries, suite == "stable-security")
    return {one.id: [str(package.nevra) for package in one.packages] for one in found}


def test_every_fix_of_the_release_is_told_with_the_version_that_brought_it() -> None:
    entries = [
        entry("1-2+deb1u3", "stable-security", "CVE-2026-1003"),
        entry("1-2+deb1u2", "stable", "a crash"),
        entry("1-2+deb1u1", "stable-security", "CVE-2026-1001"),
        entry("1-2", "unstable", "CVE-2025-1000"),
    ]
    assert told("curl", "1-2+deb1u3", "stable-security", entries, "curl 1-2+deb1u3", "libcurl 1-2+deb1u3+b1") == {
        "B-2026:curl-1-2+deb1u3": ["curl-1-2+deb1u3.x86_64", "libcurl-1-2+deb1u3+b1.x86_64"],
        "B-2026:curl-1-2+deb1u1": ["curl-1-2+deb1u1.x86_64", "libcurl-1-2+deb1u1.x86_64"],
    }


def test_a_fix_that_a_point_release_took_in_is_still_one() -> None:
    entries = [entry("1-2+deb1u1", "stable-security"), entry("1-2", "unstable")]
    assert list(told("curl", "1-2+deb1u1", "stable", entries, "curl 1-2+deb1u1")) == ["B-2026:curl-1-2+deb1u1"]


def test_an_ordinary_update_is_none() -> None:
    assert told("curl", "1-2+deb1u1", "stable", [entry("1-2+deb1u1", "stable")], "curl 1-2+deb1u1") == {}


def test_a_version_of_another_release_taken_as_it_is_tells_of_itself_only() -> None:
    entries = [entry("2-1~deb1u1", "stable-security"), entry("2-1", "unstable"), entry("1-9", "stable-security")]
    assert list(told("openssl", "2-1~deb1u1", "stable-security", entries, "openssl 2-1~deb1u1")) == [
        "B-2026:openssl-2-1~deb1u1"
    ]


def test_what_is_numbered_apart_from_its_source_is_told_of_in_its_present_version_only() -> None:
    entries = [entry("6.12.2+1", "stable-security"), entry("6.12.1+1", "stable-security")]
    assert told("linux-signed", "6.12.2+1-0", "stable-security", entries, "linux-image-6.12.2 6.12.2-1") == {
        "B-2026:linux-signed-6.12.2+1-0": ["linux-image-6.12.2-6.12.2-1.x86_64"]
    }


@pytest.mark.parametrize(("source", "is_needed"), [("linux-signed", True), ("curl", False)])
def test_what_only_a_reboot_brings_in_says_so(source: str, is_needed: bool) -> None:
    evr = Evr.parse("1-1+deb1u1")
    member = Candidate(Nevra("a", evr, "x86_64"), SourceRef(source, evr), "stable-security", Path("x"), "")
    (found,) = of_source(
        POLICY, STABLE, SourceRef(source, evr), [member], [entry("1-1+deb1u1", "stable-security")], True
    )
    assert [one.reboot for one in found.packages] == [is_needed]
    assert "no proof" in found.rests_on
