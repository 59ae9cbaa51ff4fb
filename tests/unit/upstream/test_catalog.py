"""Suites merged by version: the newest wins, every version stays findable, and reachable sets hold any solution."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from bedplate.model.package import UpstreamPackage
from bedplate.upstream import control
from bedplate.upstream.catalog import Catalog
from bedplate.upstream.index import VerifiedIndex
from bedplate.upstream.openpgp import VerifiedText
from support.mirror import Package


def index(suite: str, *packages: Package, upstream: str = "debian-13") -> VerifiedIndex:
    text = "\n".join(package.stanza() for package in packages).encode()
    table = control.make_table(control.parse_packages(text, "amd64", "test"), upstream, suite, "test")
    proof = cast(VerifiedText, SimpleNamespace(sha256=f"digest of {suite}"))
    return VerifiedIndex(upstream, suite, "deb", proof, datetime.now(UTC), table)


def names(packages: tuple[UpstreamPackage, ...]) -> list[str]:
    return [package.name for package in packages]


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(
        (
            index("trixie", Package("a", "1.0-1"), Package("b", "1.0~rc1-1"), Package("c", "2.0-1", arch="amd64")),
            index("trixie-updates", Package("b", "1.0-1")),
            index("trixie-security", Package("a", "1.0-1+deb13u1"), Package("b", "1.0~rc2-1"), Package("c", "2.0-1")),
        )
    )


def test_highest_version_wins_in_debian_order(catalog: Catalog) -> None:
    best = {package.name: (package.version, package.suite) for package in catalog.newest()}
    assert best == {
        "a": ("1.0-1+deb13u1", "trixie-security"),
        "b": ("1.0-1", "trixie-updates"),
        "c": ("2.0-1", "trixie"),
    }


def test_every_version_is_findable_for_a_lock(catalog: Catalog) -> None:
    found = catalog.find("b", "1.0~rc2-1", "amd64")
    assert found is not None
    assert found.suite == "trixie-security"
    assert catalog.find("b", "9", "amd64") is None
    assert catalog.find("b", "1.0-1", "all") is None
    assert [package.version for package in catalog.versions("b")] == ["1.0-1", "1.0~rc2-1", "1.0~rc1-1"]


def test_package_that_changes_its_architecture_is_one_package() -> None:
    catalog = Catalog((index("s", Package("a", "1-1", arch="amd64")), index("u", Package("a", "2-1", arch="all"))))
    assert [(p.version, p.arch) for p in catalog.best("a")] == [("2-1", "all")]


def test_upstreams_stand_side_by_side() -> None:
    catalog = Catalog((index("s", Package("a", "1-1")), index("t", Package("a", "2-1"), upstream="other")))
    assert [(p.location.upstream, p.version) for p in catalog.best("a")] == [("debian-13", "1-1"), ("other", "2-1")]


def test_digests_are_what_a_lock_records(catalog: Catalog) -> None:
    assert catalog.digests()["trixie-security"] == "digest of trixie-security"


def test_reachable_follows_alternatives_and_providers_but_nothing_else() -> None:
    catalog = Catalog(
        (
            index(
                "s",
                Package("top", fields="Depends: one | two (>= 3), virtual\nRecommends: nice\nPre-Depends: base:any\n"),
                Package("one"),
                Package("two"),
                Package("base"),
                Package("nice"),
                Package("maker", fields="Provides: virtual (= 1)\nDepends: deep\n"),
                Package("deep", fields="Depends: top\n"),
                Package("elsewhere"),
            ),
        )
    )
    assert names(catalog.reachable(["top"])) == ["base", "deep", "maker", "one", "top", "two"]
    assert "nice" in names(catalog.reachable(["top"], ("Depends", "Recommends")))
    assert names(catalog.reachable(["virtual", "elsewhere"]))[-1] == "two"


def test_offering_gives_every_version_and_provider(catalog: Catalog) -> None:
    maker = index("s", Package("maker", fields="Provides: b\n"), Package("unrelated"))
    found = Catalog((*catalog.indexes, maker)).offering("b")
    assert [(p.name, p.suite) for p in found] == [
        ("b", "trixie"),
        ("b", "trixie-updates"),
        ("b", "trixie-security"),
        ("maker", "s"),
    ]


def test_essential_packages_are_listed() -> None:
    essential = Package("base", fields="Essential: yes\n")
    catalog = Catalog(
        (index("s", essential, Package("a")), index("u", Package("base", "2-1", fields="Essential: yes\n")))
    )
    assert [(p.name, p.version) for p in catalog.essential()] == [("base", "2-1")]
