"""RPM dependency strings, plain and rich, as values.

Source: rpm-dependencies(7) and the rich dependency grammar of rpm's manual (``(a or b >= 2)``, ``(a if b else c)``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr

COMPARISONS = frozenset({"<", "<=", "=", ">=", ">"})
_RICH_WORDS = frozenset({"and", "or", "if", "unless", "else", "with", "without"})
_CHAINABLE = frozenset({"and", "or", "with"})
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Plain:
    """``name`` or ``name OP evr``."""

    name: str
    comparison: str = ""
    evr: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.comparison} {self.evr}" if self.comparison else self.name


@dataclass(frozen=True, slots=True)
class Rich:
    """``(first OP second …)``; ``if`` and ``unless`` may hold a third part, their ``else``."""

    operator: str
    parts: tuple[Relation, ...]

    def __str__(self) -> str:
        if self.operator in ("if", "unless") and len(self.parts) == 3:
            return f"({self.parts[0]} {self.operator} {self.parts[1]} else {self.parts[2]})"
        return "(" + f" {self.operator} ".join(str(part) for part in self.parts) + ")"


Relation: TypeAlias = Plain | Rich


@lru_cache(maxsize=65536)
def parse_relation(text: str) -> Relation:
    """Parse one RPM dependency string.

    Raises:
        BadInput: not a dependency (a comparison without version, unbalanced parentheses, an unknown word).
    """
    if not text.startswith("("):
        return _plain(text.split(), text)
    tokens = _tokens(text)
    relation, rest = _rich(tokens, 0, text, 0)
    if rest != len(tokens):
        raise _bad(text)
    return relation


def relation_names(text: str) -> tuple[str, ...]:
    """Every capability name a dependency string mentions, in the order written."""
    if not text.startswith("("):
        return (text.partition(" ")[0],)
    return tuple(plain.name for plain in plain_parts(parse_relation(text)))


def plain_parts(relation: Relation) -> Iterator[Plain]:
    """The plain relations within ``relation``, in the order written."""
    if isinstance(relation, Plain):
        yield relation
    else:
        for part in relation.parts:
            yield from plain_parts(part)


def provides_match(provide: Plain, wanted: Plain) -> bool:
    """Whether a provided capability meets a plain requirement: rpm's rule of overlapping ranges.

    Where either side names no version, every version is meant (unlike in Debian, where a provide without a version
    meets no requirement that has one).
    """
    if provide.name != wanted.name:
        return False
    if not wanted.comparison or not provide.comparison:
        return True
    order = Evr.parse(provide.evr).compare(Evr.parse(wanted.evr))
    if order < 0:
        return ">" in provide.comparison or "<" in wanted.comparison
    if order > 0:
        return "<" in provide.comparison or ">" in wanted.comparison
    return bool(set(provide.comparison) & set(wanted.comparison))


def without_plain(relation: Relation, name: str) -> Relation | None:
    """``relation`` after a requirement called ``name`` is left out; None when nothing is left to require.

    An ``or`` that offers ``name`` falls as a whole: its other parts are stand-ins for the same thing. An ``and``
    loses that part only. A condition (``if``, ``unless``) is left alone unless what it requires falls.
    """
    if isinstance(relation, Plain):
        return None if relation.name == name else relation
    if relation.operator == "and":
        kept = tuple(part for part in (without_plain(part, name) for part in relation.parts) if part is not None)
        if not kept:
            return None
        return kept[0] if len(kept) == 1 else replace(relation, parts=kept)
    if relation.operator == "or":
        return None if any(without_plain(part, name) is None for part in relation.parts) else relation
    return None if without_plain(relation.parts[0], name) is None else relation


def _bad(text: str) -> BadInput:
    return BadInput(f"not an RPM dependency: {text!r}", remedy="write `name`, `name >= evr` or `(a or b)`")


def _tokens(text: str) -> list[str]:
    """Split into parentheses and words; a parenthesis within a word (``lib.so()(64bit)``) belongs to the word."""
    found: list[str] = []
    position, end = 0, len(text)
    while position < end:
        char = text[position]
        if char.isspace():
            position += 1
        elif char in "()":
            found.append(char)
            position += 1
        else:
            start, open_within = position, 0
            while position < end and not text[position].isspace():
                open_within += {"(": 1, ")": -1}.get(text[position], 0)
                if open_within < 0:
                    break
                position += 1
            found.append(text[start:position])
    return found


def _plain(tokens: list[str], text: str) -> Plain:
    if len(tokens) == 1 and tokens[0] not in COMPARISONS:
        return Plain(tokens[0])
    if len(tokens) == 3 and tokens[1] in COMPARISONS:
        return Plain(tokens[0], tokens[1], tokens[2])
    raise _bad(text)


def _rich(tokens: list[str], start: int, text: str, depth: int) -> tuple[Relation, int]:
    """Parse the parenthesis that opens at ``start``; give the relation and the position after it."""
    if depth > _MAX_DEPTH:
        raise _bad(text)
    parts: list[Relation] = []
    operator = ""
    position = start + 1
    while True:
        if position >= len(tokens):
            raise _bad(text)
        if tokens[position] == "(":
            part, position = _rich(tokens, position, text, depth + 1)
        else:
            end = position
            while end < len(tokens) and tokens[end] not in _RICH_WORDS and tokens[end] not in "()":
                end += 1
            part, position = _plain(tokens[position:end], text), end
        parts.append(part)
        if position >= len(tokens):
            raise _bad(text)
        word = tokens[position]
        position += 1
        if word == ")":
            break
        operator = _next_operator(operator, word, len(parts), text)
    if not operator:
        return parts[0], position
    return Rich(operator, tuple(parts)), position


def _next_operator(operator: str, word: str, parts: int, text: str) -> str:
    if word not in _RICH_WORDS:
        raise _bad(text)
    if not operator:
        if word == "else":
            raise _bad(text)
        return word
    if word == "else" and operator in ("if", "unless") and parts == 2:
        return operator
    if word == operator and operator in _CHAINABLE:
        return operator
    raise _bad(text)
