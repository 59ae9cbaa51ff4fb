"""Version order as rpm and dpkg define it."""

import pytest

from bedplate.model.evr import Evr, debvercmp, rpmvercmp, split_deb_version

RPM_RISING = [
    ("1.0~rc1", "1.0"),
    ("1.0~rc1", "1.0~rc1^git1"),
    ("1.0~rc1^git1", "1.0~rc2"),
    ("1.0", "1.0^"),
    ("1.0^20160101", "1.0.1"),
    ("1.0", "1.0a"),
    ("1.0a", "1.0.1"),
    ("2.9", "2.10"),
    ("a", "1"),
    ("5.5p1", "5.5p10"),
    ("10xyz", "10.1xyz"),
    ("xyz10", "xyz10.1"),
]
DEB_RISING = [
    ("1.0~rc1-1", "1.0-1"),
    ("1.0-1", "1.0-1+b1"),
    ("1.0-1+deb13u1", "1.0-2"),
    ("2", "1:1"),
    ("1.0", "1.0+dfsg"),
    ("1.2~~", "1.2~"),
    ("1.2a", "1.2+"),
    ("0.9", "0.10"),
]


@pytest.mark.parametrize(("lower", "higher"), RPM_RISING)
def test_rpm_order(lower, higher):
    assert rpmvercmp(lower, higher) == -1
    assert rpmvercmp(higher, lower) == 1


@pytest.mark.parametrize(("one", "two"), [("1.0", "1_0"), ("01", "1"), ("1..0", "1.0"), ("2_0", "2.0")])
def test_rpm_separators_and_leading_zeros_do_not_count(one, two):
    assert rpmvercmp(one, two) == 0


@pytest.mark.parametrize(("lower", "higher"), DEB_RISING)
def test_deb_order(lower, higher):
    assert debvercmp(lower, higher) == -1
    assert debvercmp(higher, lower) == 1


def test_deb_version_splits_at_the_last_dash():
    assert split_deb_version("1:2.3-rc-4") == (1, "2.3-rc", "4")
    assert split_deb_version("2.3") == (0, "2.3", "")


def test_a_relation_without_release_matches_any_release():
    assert Evr.parse("1.2").compare(Evr.parse("1.2-7")) == 0
    assert Evr.parse("2:1.0-1") > Evr.parse("9.0-1")


@pytest.mark.parametrize("text", ["1.0-1", "3:1.0-1", "1.0"])
def test_evr_is_written_as_it_was_read(text):
    assert str(Evr.parse(text)) == text
