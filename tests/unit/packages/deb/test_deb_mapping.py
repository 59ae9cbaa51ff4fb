"""Debian versions and relations in RPM's terms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.model.definition.facts import PackageFacts
from bedplate.model.errors import BadInput
from bedplate.model.evr import debvercmp
from bedplate.packages.deb.mapping import candidate, map_bound, map_field, map_version
from support.debs import Deb

_VERSIONS = st.from_regex(
    r"\A([1-3]:)?[0-9]{1,2}(\.[0-9]{1,2}){0,2}(~rc[1-3]|\+dfsg[1-2]?|\+~[0-9])?(-[0-9]{1,2}(\+b[1-2]|~deb13u[1-2]|\+deb13u[1-2])?)?\Z"
)


@pytest.mark.parametrize(
    ("debian", "rpm"),
    [
        ("2.41-12", "2.41-12"),
        ("1:9.2p1-2+deb12u3", "1:9.2p1-2+deb12u3"),
        ("13.8", "13.8-0"),
        ("1.2-rc1-3", "1.2.rc1-3"),
        ("5.1.1+~1.2-3", "5.1.1+1.2-3"),
        ("0~20240101-1~bpo13+1", "0~20240101-1~bpo13+1"),
        ("21.0.13+9-1~deb13u2", "21.0.13^9-1~deb13u2"),
        ("6.12.117+1", "6.12.117+1-0"),
        ("6.5+20250216-2", "6.5+20250216-2"),
    ],
)
def test_versions(debian: str, rpm: str) -> None:
    assert str(map_version(debian)) == rpm


@pytest.mark.parametrize(
    ("bound", "version", "is_below"),
    [
        ("1:2.47.3-.", "1:2.47.3-0+deb13u1", True),
        ("3.0.4-z", "3.0.4-3+deb13u11", True),
        ("0.5.6.0+", "0.5.6.0", True),
        ("7.2.30+", "7.2.30-1+b2", True),
        ("7.2.30+", "7.2.30+dfsg-1", False),
        ("1.1.0.", "1.1.0-1", True),
        ("1.1.0.", "1.1.1-1", False),
        ("3.1.11.1.~", "3.1.11.1-3", True),
        ("2.4.2+dfsg-1+", "2.4.2+dfsg-1", True),
    ],
)
def test_bounds_that_end_in_punctuation_keep_their_meaning(bound: str, version: str, is_below: bool) -> None:
    assert (debvercmp(version, bound) < 0) is is_below
    assert (map_version(version).compare(map_version(bound)) < 0) is is_below


def test_a_build_number_sorts_before_the_next_patch_level() -> None:
    older, newer = "21.0.13+9-1~deb13u2", "21.0.13.1+2-1~deb13u1"
    assert debvercmp(older, newer) < 0
    assert map_version(older).compare(map_version(newer)) < 0
    # A bound leaves the revision out, and still holds.
    assert map_version(older).compare(map_bound(">=", "21.0.13+9")) >= 0
    assert map_bound("=", "1.26.0+2") == map_version("1.26.0+2")


@given(_VERSIONS, _VERSIONS)
def test_both_orders_agree(one: str, two: str) -> None:
    assert map_version(one).compare(map_version(two)) == debvercmp(one, two)


def test_a_version_rpm_forbids_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        map_version("1:2:3-4")


@pytest.mark.parametrize(
    ("field", "relations"),
    [
        ("libc6 (>= 2.38), zlib1g (>= 1:1.1.4)", ("libc6 >= 2.38-0", "zlib1g >= 1:1.1.4-0")),
        ("a (<< 2), b (>> 3-1), c (= 1-1)", ("a < 2-0", "b > 3-1", "c = 1-1")),
        ("perl:any, python3:native", ("perl", "python3")),
        ("debconf (>= 0.5) | debconf-2.0", ("(debconf >= 0.5-0 or debconf-2.0)",)),
        ("a | a:any", ("a",)),
        ("a (< 2), b (> 1)", ("a <= 2-0", "b >= 1-0")),
        ("", ()),
    ],
)
def test_relations(field: str, relations: tuple[str, ...]) -> None:
    assert map_field(field) == relations


def test_a_malformed_relation_names_the_package() -> None:
    with pytest.raises(BadInput, match="not a package relation") as caught:
        candidate(Deb(control={"Depends": "libc6 (=> 2)"}).upstream(), None)
    assert caught.value.where == "demo 1.2-3"


def test_a_candidate_has_everything_in_rpm_terms() -> None:
    control = {
        "Source": "demo-source (1:1.2-2)",
        "Depends": "b",
        "Pre-Depends": "a (>= 1)",
        "Conflicts": "mail-agent",
        "Breaks": "old (<< 2)",
        "Provides": "mail-agent, api (= 7)",
        "Recommends": "x",
        "Suggests": "y",
    }
    found = candidate(
        Deb(version="1:1.2-2+b1", control=control).upstream(),
        PackageFacts(name="demo", provides=["/bin/sh"], requires=["plug-in"]),
    )
    assert str(found.nevra) == "demo-1:1.2-2+b1.x86_64"
    assert str(found.source) == "demo-source-1:1.2-2"
    assert found.requires == ("a >= 1-0", "b", "plug-in")
    assert found.provides == ("demo = 1:1.2-2+b1", "mail-agent", "api = 7-0", "/bin/sh")
    assert found.conflicts == ("mail-agent", "old < 2-0")
    assert (found.recommends, found.suggests) == (("x",), ("y",))


def test_architecture_all_is_noarch_and_a_foreign_one_is_refused() -> None:
    assert candidate(Deb(arch="all").upstream(), None).nevra.arch == "noarch"
    with pytest.raises(BadInput, match="architecture 'hurd-i386'"):
        candidate(Deb(arch="hurd-i386").upstream(), None)
