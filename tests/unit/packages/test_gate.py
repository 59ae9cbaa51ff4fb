"""The gate: what would change its meaning as an RPM relation, and whom that stops."""

from __future__ import annotations

import pytest

from bedplate.model.definition.facts import DroppedRequirement
from bedplate.model.errors import BadInput, Level
from bedplate.packages.gate import check_import, check_index
from support.debs import Deb


def test_an_ordinary_set_passes() -> None:
    index = [
        Deb(name="a", version="1.2-1", control={"Depends": "b (>= 2.0~rc1), c (<< 3)"}).upstream(),
        Deb(name="b", version="2.0-1").upstream(),
        Deb(name="b", version="2.0-1+deb13u1").upstream(),
        Deb(name="virtual", version="9", control={"Provides": "c (= 2.9)"}).upstream(),
    ]
    report = check_import(index, index, [])
    assert (report.pairs, report.constraints, report.findings) == (1, 3, ())
    report.require()


def test_versions_that_sort_differently_stop_their_import_only() -> None:
    # Debian sorts letters before all else, rpm before numbers only.
    index = [Deb(name="a", version=version).upstream() for version in ("1.x-1", "1.1-1")]
    with pytest.raises(BadInput) as caught:
        check_import(index[:1], index, []).require()
    assert caught.value.details == ("a: versions 1.1-1 and 1.x-1 sort differently as RPM versions",)
    assert [finding.level for finding in check_index(index).findings] == [Level.WARNING]


def test_a_relation_that_changes_its_answer_stops() -> None:
    asking = Deb(name="a", control={"Depends": "b (<= 1:140.x)"}).upstream()
    index = [asking, Deb(name="b", version="1:140.12-1").upstream()]
    (finding,) = check_import([asking], index, []).stopping
    assert finding.where == "a"
    assert finding.cause == "b (<= 1:140.x) is True for 1:140.12-1, but False as an RPM relation"


def test_a_wish_that_changes_its_answer_is_a_warning() -> None:
    asking = Deb(name="a", control={"Suggests": "b (<= 1:140.x)"}).upstream()
    report = check_import([asking], [asking, Deb(name="b", version="1:140.12-1").upstream()], [])
    assert [finding.level for finding in report.findings] == [Level.WARNING]
    report.require()


def test_a_conflict_with_an_old_version_that_hits_a_stand_in_stops_until_dropped() -> None:
    asking = Deb(name="perl-base", control={"Breaks": "perl-modules (<< 5.40)"}).upstream()
    index = [asking, Deb(name="perl-modules-5.40", control={"Provides": "perl-modules"}).upstream()]
    (finding,) = check_import([asking], index, []).stopping
    assert "provide of perl-modules without a version" in finding.cause
    rule = DroppedRequirement(name="perl-modules", relation="conflicts", of=["perl-*"], reason="an old split is meant")
    assert check_import([asking], index, [rule]).findings == ()


def test_a_package_that_provides_its_own_name_is_no_stand_in() -> None:
    asking = Deb(name="a", control={"Breaks": "b (<< 2)"}).upstream()
    index = [asking, Deb(name="b", version="3", control={"Provides": "b"}).upstream()]
    assert check_import([asking], index, []).findings == ()


def test_packages_of_other_formats_are_passed_over() -> None:
    assert check_index([]).findings == ()
