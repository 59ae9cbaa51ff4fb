"""Which variables commands may assign, read from the script without following it."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.packages.scripts import syntax
from bedplate.packages.scripts.syntax import Literal, Sequence, Simple


def names_in(nodes: Iterable[syntax.Command | Sequence]) -> frozenset[str]:
    """Names that commands in ``nodes`` may assign; "" stands for any name, "@" for the positional parameters."""
    names: set[str] = set()
    for node in nodes:
        sequence = node if isinstance(node, Sequence) else _as_sequence(node)
        for command in syntax.commands(sequence):
            names |= _assigned_by(command)
    return frozenset(names)


def local_names(function: syntax.Function) -> frozenset[str] | None:
    """Names that ``function`` may make local: they have their old values again behind it. None for "any"."""
    inside = tuple(syntax.commands(_as_sequence(function.body)))
    if not any(isinstance(one, Simple) and one.words and one.words[0].literal() == "local" for one in inside):
        return frozenset()
    names = names_in((function.body,)) - {"@"}
    return None if "" in names else names


def _as_sequence(command: syntax.Command) -> Sequence:
    return Sequence((syntax.AndOr(syntax.Pipeline((command,), negated=False), (), background=False),))


def _assigned_by(command: syntax.Command) -> set[str]:
    """Names that one command assigns itself; "" stands for any name, "@" for the positional parameters."""
    names: set[str] = set()
    for word in syntax.words_of(command):
        names |= syntax.expansion_assigns(word.parts)
    if isinstance(command, syntax.For):
        names.add(command.name)
    if not isinstance(command, Simple):
        return names
    names |= {assignment.name for assignment in command.assignments}
    first = command.words[0].literal() if command.words else ""
    if first in ("shift", "set"):
        names.add("@")
    elif first is None or first in (".", "eval", "source", "getopts", "command", "builtin"):
        names.add("")
    elif first in ("read", "export", "local", "readonly", "unset", "declare", "typeset"):
        for word in command.words[1:]:
            head = word.parts[0] if word.parts else None
            names.add(head.text.split("=")[0] if isinstance(head, Literal) else "")
    elif first.startswith("db_"):
        names.add("RET")
    return names
