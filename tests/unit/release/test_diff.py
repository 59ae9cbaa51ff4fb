"""What a release changes, told to the person who decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.model.release import Release, SignedBy
from bedplate.release.diff import diff_releases
from support.releases import World


def facts(**changes: object) -> dict[str, object]:
    packages = {
        "openssl": {"evr": "3.5.1-1", "source": "openssl", "source_evr": "3.5.1-1"},
        "libssl3t64": {"evr": "3.5.1-1", "source": "openssl", "source_evr": "3.5.1-1"},
        "dash": {"evr": "0.5-1", "source": "dash", "source_evr": "0.5-1"},
    }
    return {
        "packages": packages, "setid": [], "capabilities": [], "world_writable": ["/tmp"], "interpreters": [],
        "listening": ["tcp/22"], "slots": {"root_mib": 320}, **changes,
    }  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> Release:
    return World(tmp_path).draft("1.0.1")


def test_packages_kernel_and_the_fixed_cves(old: Release) -> None:
    after = facts()
    after["packages"] = {
        "openssl": {"evr": "3.5.2-1", "source": "openssl", "source_evr": "3.5.2-1"},
        "libssl3t64": {"evr": "3.5.2-1", "source": "openssl", "source_evr": "3.5.2-1"},
        "zsh": {"evr": "5.9-1", "source": "zsh", "source_evr": "5.9-1"},
    }
    new = replace(old, version="1.0.2", kernel="6.12.2")
    result = diff_releases(old, facts(), new, after, {"CVE-2026-1": ["openssl"], "CVE-2026-2": ["dash"]})
    assert [(one.name, one.kind) for one in result.packages] == [
        ("dash", "removed"), ("libssl3t64", "upgraded"), ("openssl", "upgraded"), ("zsh", "added"),
    ]  # fmt: skip
    assert result.cves == ("CVE-2026-1",)
    text = "\n".join(result.lines())
    assert "kernel 6.12.1 -> 6.12.2" in text
    assert "openssl 3.5.1-1 -> 3.5.2-1  fixes CVE-2026-1" in text


def test_what_opens_the_image_up_is_named(old: Release) -> None:
    after = facts(setid=["/usr/bin/su"], listening=["tcp/22", "tcp/80"])
    new = replace(old, version="1.0.2", command_line="quiet debug roothash=" + "cd" * 32)
    result = diff_releases(old, facts(), new, after)
    assert {(one.what, one.added) for one in result.lists} == {
        ("set-id files", ("/usr/bin/su",)),
        ("listening sockets", ("tcp/80",)),
        ("kernel command line", ("debug",)),
    }


def test_what_an_operator_must_know(old: Release) -> None:
    new = replace(
        old,
        version="1.0.3",
        floor="1.0.2",
        notes="Back up first",
        signers={**old.signers, "update": SignedBy("ff" * 20, False)},
    )
    known = diff_releases(old, facts(), new, facts(slots={"root_mib": 640})).must_know
    assert known[0] == "nodes below 1.0.2 go to 1.0.2 first, 1.0.1 among them"
    assert "nodes reboot into it" in known
    assert any("signed by another update key" in one for one in known)
    assert "sizes of the partitions changed; installed machines keep theirs" in known
    assert known[-1] == "Back up first"


def test_going_back_is_named_first(old: Release) -> None:
    newer = replace(old, version="2.0")
    assert diff_releases(newer, facts(), old, facts()).must_know[0].startswith("1.0.1 is older than 2.0")
