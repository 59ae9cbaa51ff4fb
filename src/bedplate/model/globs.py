"""Path patterns of the definition: ``*`` stays within one component, ``**`` crosses them, a directory means all below.

The language is that of gitignore(5) reduced to absolute patterns: ``*``, ``?``, ``[…]`` and ``**``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from bedplate.model.errors import BadInput

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def translate(pattern: str) -> str:
    """The regular expression (unanchored source) of one pattern.

    Raises:
        BadInput: the pattern is not absolute.
    """
    if not pattern.startswith("/"):
        raise BadInput("a path pattern must start with '/'", where=pattern, remedy="write the path from the root")
    parts = []
    for token in _TOKEN.findall(pattern.rstrip("/")):
        if token == "**/":
            parts.append("(?:[^/]+/)*")
        elif token == "**":
            parts.append(".*")
        elif token == "*":
            parts.append("[^/]*")
        elif token == "?":
            parts.append("[^/]")
        elif token.startswith("[") and len(token) > 1:
            inner = token[1:-1].replace("\\", r"\\")
            parts.append("[" + ("^" + inner[1:] if inner.startswith("!") else inner) + "]")
        else:
            parts.append(re.escape(token))
    return "".join(parts)


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("(?:" + "|".join(translate(pattern) for pattern in patterns) + ")(?:/.*)?")


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A test that is true for every path one of ``patterns`` names, and for everything below such a path.

    Raises:
        BadInput: a pattern is not absolute.
    """
    wanted = tuple(patterns)
    if not wanted:
        return lambda _path: False
    match = _compiled(wanted).fullmatch
    return lambda path: match(path) is not None
