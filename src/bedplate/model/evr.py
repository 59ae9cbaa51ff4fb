"""Epoch, version, release: parsing and the two orders in use, RPM's and Debian's.

Sources: rpm's ``rpmvercmp`` (rpm-version(7)) and deb-version(7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from itertools import zip_longest

_RPM_TOKEN = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^")
_DEB_PART = re.compile(r"([^0-9]*)([0-9]*)")


def rpmvercmp(left: str, right: str) -> int:
    """Order two version (or release) strings as rpm does: -1, 0 or 1."""
    if left == right:
        return 0
    for one, two in zip_longest(_RPM_TOKEN.findall(left), _RPM_TOKEN.findall(right)):
        result = _compare_rpm_tokens(one, two)
        if result:
            return result
    return 0


def _compare_rpm_tokens(one: str | None, two: str | None) -> int:
    if one == two:
        return 0
    # "~" sorts before everything, even the end; "^" after the end but before anything else.
    if one == "~" or two == "~":
        return -1 if one == "~" else 1
    if one == "^" or two == "^":
        if one == "^":
            return 1 if two is None else -1
        return -1 if one is None else 1
    if one is None or two is None:
        return -1 if one is None else 1
    if one.isdigit() != two.isdigit():
        return 1 if one.isdigit() else -1
    if one.isdigit():
        return (int(one) > int(two)) - (int(one) < int(two))
    return (one > two) - (one < two)


def _deb_order(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def _compare_deb_text(one: str, two: str) -> int:
    for a, b in zip_longest(one, two):
        # The end of the non-digit part sorts after "~" and before everything else.
        order_a, order_b = (0 if a is None else _deb_order(a)), (0 if b is None else _deb_order(b))
        if order_a != order_b:
            return 1 if order_a > order_b else -1
    return 0


def _compare_deb_part(one: str, two: str) -> int:
    parts_one, parts_two = _DEB_PART.findall(one), _DEB_PART.findall(two)
    for (text_a, digits_a), (text_b, digits_b) in zip_longest(parts_one, parts_two, fillvalue=("", "")):
        result = _compare_deb_text(text_a, text_b)
        if result:
            return result
        number_a, number_b = int(digits_a or 0), int(digits_b or 0)
        if number_a != number_b:
            return 1 if number_a > number_b else -1
    return 0


def debvercmp(left: str, right: str) -> int:
    """Order two Debian versions ``[epoch:]upstream[-revision]`` as dpkg does: -1, 0 or 1."""
    (epoch_a, up_a, rev_a), (epoch_b, up_b, rev_b) = split_deb_version(left), split_deb_version(right)
    if epoch_a != epoch_b:
        return 1 if epoch_a > epoch_b else -1
    return _compare_deb_part(up_a, up_b) or _compare_deb_part(rev_a, rev_b)


def split_deb_version(text: str) -> tuple[int, str, str]:
    """Split a Debian version into epoch (0 when absent), upstream version and revision ("" when native)."""
    epoch, colon, rest = text.partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", text
    upstream, dash, revision = rest.rpartition("-")
    return (int(epoch), upstream, revision) if dash else (int(epoch), rest, "")


@total_ordering
@dataclass(frozen=True, slots=True)
class Evr:
    """Epoch, version and release of an RPM, in rpm's order. ``release`` may be empty in a relation."""

    epoch: int
    version: str
    release: str

    @classmethod
    def parse(cls, text: str) -> Evr:
        """Parse ``[epoch:]version[-release]``."""
        head, colon, rest = text.partition(":")
        epoch, body = (int(head), rest) if colon and head.isdigit() else (0, text)
        version, dash, release = body.rpartition("-")
        return cls(epoch, version, release) if dash else cls(epoch, body, "")

    def __str__(self) -> str:
        epoch = f"{self.epoch}:" if self.epoch else ""
        release = f"-{self.release}" if self.release else ""
        return f"{epoch}{self.version}{release}"

    def compare(self, other: Evr) -> int:
        """-1, 0 or 1; an empty release on either side matches any release, as in rpm relations."""
        if self.epoch != other.epoch:
            return 1 if self.epoch > other.epoch else -1
        result = rpmvercmp(self.version, other.version)
        if result or not self.release or not other.release:
            return result
        return rpmvercmp(self.release, other.release)

    def __lt__(self, other: Evr) -> bool:
        return self.compare(other) < 0
