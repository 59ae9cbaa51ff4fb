"""Tutorials that can be run: the fenced blocks of a page, where each is typed, and what must be seen.

A block begins with three backquotes, ``sh`` and a place: ``desk`` (where the checkout is), ``desk background`` (which
stays), ``desk login`` (the command that opens a session) or ``server`` (typed into that session). A comment
right behind a block, which readers of the page do not see, says what it must show as a regular expression:

    <!-- shows: Welcome to nginx -->
    <!-- fails with 1, shows: was taken back -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLOCK = re.compile(r"^```sh (?P<place>[a-z ]+)\n(?P<text>.*?)^```\n(?P<comment>(?:<!--.*?-->\n)*)", re.M | re.S)
_FENCE = re.compile(r"^```", re.M)
_COMMENT = re.compile(r"<!-- (?:fails with (?P<code>\d+)(?:, )?)?(?:shows: (?P<shows>.*?))? -->")
PLACES = ("desk", "desk background", "desk login", "server")


@dataclass(frozen=True)
class Step:
    """One block: its line in the page, where it is typed, its text, the exit status and patterns it must show."""

    line: int
    place: str
    text: str
    code: int = 0
    shows: tuple[str, ...] = ()


def steps(page: str) -> list[Step]:
    """The blocks of a page in order.

    Raises:
        ValueError: a fenced block that says no place, an unknown place, or a comment that is not understood.
    """
    found = []
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        comments = [_COMMENT.fullmatch(text) for text in match["comment"].splitlines()]
        if match["place"] not in PLACES or None in comments:
            raise ValueError(f"line {line}: no such place, or a comment that is not understood")
        codes = [int(one["code"]) for one in comments if one and one["code"]]
        shows = tuple(one["shows"] for one in comments if one and one["shows"])
        found.append(Step(line, match["place"], match["text"], codes[0] if codes else 0, shows))
    if len(_FENCE.findall(page)) != 2 * len(found):
        raise ValueError("a fenced block does not say where it is typed")
    return found
