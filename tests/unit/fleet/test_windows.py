"""Windows: minutes of the week in a zone, an hour missing in spring, an hour twice in autumn."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.fleet.windows import Window, find_zone, next_start, openings, opens_at, start_allowed

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_ordinary_night() -> None:
    windows = (Window.parse("tue", "22:30", 4 * 3600.0),)
    assert not start_allowed(windows, BERLIN, at("2026-11-24T21:29"), 60)
    assert start_allowed(windows, BERLIN, at("2026-11-24T21:30"), 60)
    assert start_allowed(windows, BERLIN, at("2026-11-25T01:29"), 60)
    assert not start_allowed(windows, BERLIN, at("2026-11-25T01:29"), 61)


@pytest.mark.parametrize(
    ("day", "zone", "minute", "expected"),
    [
        # Berlin goes from 02:00 to 03:00 on 2027-03-28, at 01:00 UTC; 02:30 does not exist.
        ("2027-03-28", BERLIN, 150, "2027-03-28T01:00"),
        ("2027-03-28", BERLIN, 120, "2027-03-28T01:00"),
        ("2027-03-28", BERLIN, 180, "2027-03-28T01:00"),
        ("2027-03-28", BERLIN, 119, "2027-03-28T00:59"),
        # And from 03:00 back to 02:00 on 2026-10-25; 02:30 is twice, at 00:30 and 01:30 UTC.
        ("2026-10-25", BERLIN, 150, "2026-10-25T00:30"),
        # Lord Howe moves by half an hour: 02:00 to 02:30 on 2026-10-04, at 15:30 UTC the day before.
        ("2026-10-04", "Australia/Lord_Howe", 135, "2026-10-03T15:30"),
        # Apia had no 2011-12-30 at all.
        ("2011-12-30", "Pacific/Apia", 600, "2011-12-30T10:00"),
    ],
)
def test_daylight_saving_rule(day: str, zone: str, minute: int, expected: str) -> None:
    assert opens_at(date.fromisoformat(day), minute, find_zone(zone)) == at(expected)


@pytest.mark.parametrize("sunday", ["2027-03-28", "2026-10-25", "2026-11-22"])
def test_window_over_the_change_is_as_long_as_ever(sunday: str) -> None:
    windows = (Window.parse("sun", "01:00", 3 * 3600.0),)
    noon = at(f"{sunday}T12:00")
    spans = [(start, end) for start, end in openings(windows, BERLIN, noon) if noon - 86400 < start < noon]
    assert [end - start for start, end in spans] == [3 * 3600.0]


def test_windows_that_touch_are_one() -> None:
    windows = tuple(Window.parse(day, "00:00", 86400.0) for day in ("sat", "sun"))
    saturday = at("2026-11-21T00:00")
    assert start_allowed(windows, "UTC", saturday, 2 * 86400)
    assert not start_allowed(windows, "UTC", saturday + 1, 2 * 86400)


def test_no_window_is_long_enough() -> None:
    assert next_start((Window.parse("sat", "00:00", 600.0),), "UTC", at("2026-11-20T00:00"), 601) is None


moments = st.one_of(st.floats(-1e18, 1e18), st.floats(1.7e9, 1.9e9))
weekly = st.builds(
    Window, day=st.integers(0, 6), minute=st.integers(0, 1439), length=st.floats(60, 7 * 86400, allow_nan=False)
)


@given(st.lists(weekly, min_size=1, max_size=4).map(tuple), st.sampled_from([BERLIN, "UTC"]), moments)
def test_next_start_is_a_start_and_none_was_before_it(windows: tuple[Window, ...], zone: str, now: float) -> None:
    start = next_start(windows, zone, now, 1800)
    if start is not None and 1e9 < now < 4e9:
        assert start >= now
        assert start_allowed(windows, zone, start, 1800)
        if start_allowed(windows, zone, now, 1800):
            assert start == now
        else:
            assert not start_allowed(windows, zone, (now + start) / 2, 1800)
