"""RPM dependency strings as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.model.relation import (
    Plain,
    Relation,
    Rich,
    parse_relation,
    provides_match,
    relation_names,
    without_plain,
)

_NAMES = st.sampled_from(["a", "libc.so.6()(64bit)", "lib(x)", "python(abi)", "/usr/bin/sh", "if-up", "g++"])
_PLAINS = st.builds(Plain, _NAMES) | st.builds(
    Plain, _NAMES, st.sampled_from(["<", "<=", "=", ">=", ">"]), st.just("1:2~a-3")
)


def _rich(inner: st.SearchStrategy[Relation]) -> st.SearchStrategy[Relation]:
    many = st.lists(inner, min_size=2, max_size=3).map(tuple)
    two = st.tuples(inner, inner)
    return st.one_of(
        st.builds(Rich, st.sampled_from(["and", "or", "with"]), many),
        st.builds(Rich, st.just("without"), two),
        st.builds(Rich, st.sampled_from(["if", "unless"]), two | st.tuples(inner, inner, inner)),
    )


@given(st.recursive(_PLAINS, _rich, max_leaves=6))
def test_writing_and_reading_again(relation: Relation) -> None:
    assert parse_relation(str(relation)) == relation


def test_names_are_told_in_order() -> None:
    assert relation_names("(b or (a >= 2 and c) or lib(x)(64bit))") == ("b", "a", "c", "lib(x)(64bit)")
    assert relation_names("a >= 2") == ("a",)


@pytest.mark.parametrize(
    ("provide", "wanted", "match"),
    [
        ("a = 2-1", "a >= 2", True),
        ("a = 2-1", "a = 2", True),
        ("a = 2-1", "a > 2-1", False),
        ("a = 2-1", "a < 2-1", False),
        ("a = 1:1-1", "a >= 9", True),
        ("a", "a >= 1", True),
        ("a", "a", True),
        ("a = 1", "b = 1", False),
        ("a < 3", "a >= 2", True),
        ("a < 3", "a >= 3", False),
        ("a > 3", "a < 3", False),
        ("a < 3", "a < 1", True),
    ],
)
def test_ranges_that_meet(provide: str, wanted: str, match: bool) -> None:
    one, two = parse_relation(provide), parse_relation(wanted)
    assert isinstance(one, Plain) and isinstance(two, Plain)
    assert provides_match(one, two) is match


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("debconf >= 1", None),
        ("other", "other"),
        ("(debconf >= 0.5 or debconf-2.0)", None),
        ("(a and debconf)", "a"),
        ("(a and debconf and b)", "(a and b)"),
        ("(debconf if a)", None),
        ("(a if debconf)", "(a if debconf)"),
    ],
)
def test_leaving_a_name_out(text: str, left: str | None) -> None:
    remaining = without_plain(parse_relation(text), "debconf")
    assert (None if remaining is None else str(remaining)) == left
