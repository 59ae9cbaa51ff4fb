"""Debian's relationship fields as values. Source: deb-control(5), Debian Policy chapter 7."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from bedplate.model.errors import BadInput

_ATOM = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)"
    r"(?::(?P<arch>[a-z0-9-]+))?"
    r"\s*(?:\(\s*(?P<op><<|<=|>=|>>|=|<|>)\s*(?P<version>[^\s)]+)\s*\))?\s*\Z"
)
# The single "<" and ">" are long deprecated and have always meant "or equal".
_OPERATORS = {"<": "<=", ">": ">="}


@dataclass(frozen=True, slots=True)
class Atom:
    """``name[:arch] [(op version)]``; ``op`` is one of ``<<``, ``<=``, ``=``, ``>=``, ``>>`` or empty."""

    name: str
    arch: str = ""
    op: str = ""
    version: str = ""


@lru_cache(maxsize=262_144)
def parse_atom(text: str) -> Atom:
    """Parse one relation.

    Raises:
        BadInput: it is none; build-time syntax (``[arch]``, ``<profile>``) is none of a binary package's either.
    """
    match = _ATOM.match(text)
    if match is None:
        raise BadInput(f"not a package relation: {text.strip()!r}", remedy="report the package to its upstream")
    op = match["op"] or ""
    return Atom(match["name"], match["arch"] or "", _OPERATORS.get(op, op), match["version"] or "")


def parse_field(text: str) -> list[list[Atom]]:
    """Parse a whole field: a list (``,``) of alternatives (``|``)."""
    return [[parse_atom(part) for part in clause.split("|")] for clause in text.split(",") if clause.strip()]
