"""Versions of images and releases: which are well-formed, and the order systemd gives them.

Source: the UAPI group's Version Format Specification, which systemd-sysupdate, systemd-boot and
``systemd-analyze compare-versions`` implement (``strverscmp_improved``); tests hold this module against the latter.
"""

from __future__ import annotations

import re
from functools import cmp_to_key

from bedplate.model.errors import BadInput

# A name on the GPT holds 36 characters: "container_VERSION_verity" must fit, and so must longer track names.
MAX_VERSION = 18
_VERSION = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_IGNORED = re.compile(r"[^0-9A-Za-z.~^-]*")
_SEGMENT = {True: re.compile(r"[0-9]*"), False: re.compile(r"[A-Za-z]*")}


def require_version(text: str, where: str = "") -> str:
    """``text`` when it can be the version of a release: numbers joined by dots, none with leading zeros, at most
    :data:`MAX_VERSION` characters. Such versions are equal in systemd's order only when they are the same text, and are
    safe in file names, partition labels, URLs and shell words.

    Raises:
        BadInput: anything else.
    """
    if len(text) > MAX_VERSION or not _VERSION.fullmatch(text):
        raise BadInput(
            f"{text[:40]!r} cannot be the version of a release",
            where=where,
            remedy=f"use numbers joined by dots, at most {MAX_VERSION} characters: 1.0.20261121.1",
        )
    return text


def compare_versions(left: str, right: str) -> int:
    """Order two versions as systemd does: -1, 0 or 1. Takes any text."""
    a, b = left, right
    while True:
        a, b = a[_end(_IGNORED, a) :], b[_end(_IGNORED, b) :]
        for mark in "~-^.":
            if mark == "-" and (not a or not b):
                # Everything but "~" makes a version longer, and longer is newer.
                return (a != "") - (b != "")
            has_a, has_b = a.startswith(mark), b.startswith(mark)
            if has_a != has_b:
                return -1 if has_a else 1
            if has_a:
                a, b = a[1:], b[1:]
        numeric = a[:1].isdigit() or b[:1].isdigit()
        end_a, end_b = _end(_SEGMENT[numeric], a), _end(_SEGMENT[numeric], b)
        result = _compare_segments(a[:end_a], b[:end_b], numeric)
        if result:
            return result
        a, b = a[end_a:], b[end_b:]


version_key = cmp_to_key(compare_versions)
"""Sort key of a version: ``sorted(versions, key=version_key)``, ``max(versions, key=version_key)``."""


def _end(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    return found.end() if found else 0


def _compare_segments(one: str, two: str, numeric: bool) -> int:
    if numeric:
        if bool(one) != bool(two):
            return 1 if one else -1
        one, two = one.lstrip("0"), two.lstrip("0")
        if len(one) != len(two):
            return 1 if len(one) > len(two) else -1
    return (one > two) - (one < two)
