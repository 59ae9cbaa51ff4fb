"""What ``test``, ``dpkg --compare-versions`` and ``case`` patterns say when their operands are known.

Answers are True, False, or None for "could be either". Sources: POSIX ``test``, dpkg(1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from bedplate.model.evr import debvercmp
from bedplate.packages.scripts.state import Field

Tri = bool | None

_UNARY = frozenset("abcdefghknprstuwxzGLNOS")
_INTEGER = re.compile(r"-?[0-9]{1,9}\Z")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}
_RELATIONS = {
    "lt": (-1,),
    "le": (-1, 0),
    "eq": (0,),
    "ne": (-1, 1),
    "ge": (0, 1),
    "gt": (1,),
    "<<": (-1,),
    "<=": (-1, 0),
    "=": (0,),
    ">=": (0, 1),
    ">>": (1,),
}
_VERSION = re.compile(r"[A-Za-z0-9.+~:-]*\Z")

ABSENT_WHILE_COMPOSING = frozenset({"/run/systemd/system", "/run/systemd/system/"})
"""Directories that tell a script that a service manager runs: none does while an image is composed."""


def negate(value: Tri) -> Tri:
    """Not; unknown stays unknown."""
    return None if value is None else not value


def both(one: Tri, two: Tri) -> Tri:
    """And."""
    if one is False or two is False:
        return False
    return True if one and two else None


def either(one: Tri, two: Tri) -> Tri:
    """Or."""
    return negate(both(negate(one), negate(two)))


def evaluate_test(arguments: Sequence[Field]) -> Tri:
    """The status of ``test`` with these arguments, by POSIX' rules for their number; True is status 0."""
    match arguments:
        case []:
            return False
        case [only]:
            return None if only is None else only != ""
        case ["!", *rest] if len(arguments) <= 4:
            return negate(evaluate_test(rest))
        case [str(operator), operand] if _is_unary(operator):
            return _unary(operator, operand)
        case [left, str(operator), right] if operator in ("=", "==", "!=") or operator in _COMPARE:
            return _binary(left, operator, right)
        case [left, ("-a" | "-o") as operator, right]:
            return _combine(evaluate_test([left]), operator, evaluate_test([right]))
        case _ if len(arguments) > 4 and None not in arguments:
            return _Expression([argument or "" for argument in arguments]).value()
        case _:
            return None


def _is_unary(operator: str) -> bool:
    return len(operator) == 2 and operator[0] == "-" and operator[1] in _UNARY | {"n"}


def _unary(operator: str, operand: Field) -> Tri:
    if operand is None:
        return None
    if operator in ("-n", "-z"):
        return (operand != "") == (operator == "-n")
    if operand in ABSENT_WHILE_COMPOSING and operator in ("-d", "-e", "-r", "-x", "-w", "-s"):
        return False
    return None


def _binary(left: Field, operator: str, right: Field) -> Tri:
    if left is None or right is None:
        return None
    if operator in _COMPARE:
        if not (_INTEGER.match(left) and _INTEGER.match(right)):
            return None
        return _COMPARE[operator](int(left), int(right))
    return (left == right) == (operator != "!=")


def _combine(left: Tri, operator: str, right: Tri) -> Tri:
    return both(left, right) if operator == "-a" else either(left, right)


class _Expression:
    """``test`` with more than four known arguments: ``-o`` binds less than ``-a``, ``!`` most. No parentheses."""

    def __init__(self, arguments: list[str]) -> None:
        self._left = arguments

    def value(self) -> Tri:
        if any(argument in ("(", ")") for argument in self._left):
            return None
        alternatives = _split(self._left, "-o")
        result: Tri = False
        for alternative in alternatives:
            conjunction: Tri = True
            for primary in _split(alternative, "-a"):
                if not 1 <= len(primary) <= 4:
                    return None
                conjunction = both(conjunction, evaluate_test(primary))
            result = either(result, conjunction)
        return result


def _split(arguments: list[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == separator:
            parts.append([])
        else:
            parts[-1].append(argument)
    return parts


def compare_versions(arguments: Sequence[Field]) -> Tri:
    """``dpkg --compare-versions LEFT RELATION RIGHT``: an empty version is earlier than any, with ``-nl`` later."""
    if len(arguments) != 3:
        return None
    left, relation, right = arguments
    if left is None or relation is None or right is None or not (_VERSION.match(left) and _VERSION.match(right)):
        return None
    base = relation.removesuffix("-nl")
    if base not in _RELATIONS or (relation != base and not base.isalpha()):
        return None
    if left and right:
        order = debvercmp(left, right)
    else:
        order = bool(left) - bool(right)
        if relation != base:
            order = -order
    return order in _RELATIONS[base]


def matches_pattern(subject: str, pattern: str) -> Tri:
    """Whether a ``case`` pattern without quotes or expansions matches the whole subject."""
    if not any(char in pattern for char in "*?[\\"):
        return subject == pattern
    if "[" in pattern or "\\" in pattern:
        return None
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), subject, re.S) is not None
