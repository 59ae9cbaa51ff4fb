"""What is known of the shell's variables, parameters and functions at one point of a script, and expansion with it.

Everything is three-valued: a value is known, or it is not (None). Nothing unknown ever counts as known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from bedplate.packages.scripts.syntax import Arithmetic, Function, Literal, Parameter, Part, Word

_PATTERN_CHARS = frozenset("*?[")

PREMISES = frozenset({"DPKG_ROOT"})
"""Variables known from outside. A script that sets one has a line of no known kind anyway."""

Field = str | None
"""One field after expansion: its text, or None when the text is not known."""


@dataclass(frozen=True, slots=True)
class State:
    """A point in a run.

    ``variables`` holds known values only. ``positional`` is None when not even the number of parameters is known.
    ``functions`` maps a name to what it may be: None among the values means "perhaps not defined". ``debconf`` says
    that debconf's shell library may be loaded.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    positional: tuple[Field, ...] | None = None
    functions: Mapping[str, tuple[Function | None, ...]] = field(default_factory=dict)
    debconf: bool = False

    def assign(self, name: str, value: Field) -> State:
        """The state with ``name`` set to ``value``; None forgets it."""
        variables = {key: known for key, known in self.variables.items() if key != name}
        if value is not None:
            variables[name] = value
        return replace(self, variables=variables)

    def forget(self, names: Iterable[str] | None) -> State:
        """The state with ``names`` unknown; None means everything, also the positional parameters."""
        if names is None:
            kept = {name: self.variables[name] for name in PREMISES if name in self.variables}
            return replace(self, variables=kept, positional=None)
        gone = set(names) - PREMISES
        state = replace(self, variables={key: known for key, known in self.variables.items() if key not in gone})
        return replace(state, positional=None) if "@" in gone else state

    def parameter(self, name: str) -> Field:
        """The value of ``$name`` when known. Unset positional parameters of a known list are empty."""
        if name.isdigit() and name != "0":
            if self.positional is None:
                return None
            index = int(name) - 1
            return self.positional[index] if index < len(self.positional) else ""
        if name == "#":
            return None if self.positional is None else str(len(self.positional))
        return self.variables.get(name)


def merge(one: State | None, two: State | None) -> State | None:
    """What is known when either state may be the case; None is "this point is not reached"."""
    if one is None or two is None or one is two:
        return one if two is None else two
    variables = {key: value for key, value in one.variables.items() if two.variables.get(key) == value}
    positional = one.positional if one.positional == two.positional else None
    functions: dict[str, tuple[Function | None, ...]] = {}
    for name in {**one.functions, **two.functions}:
        both = (*one.functions.get(name, (None,)), *two.functions.get(name, (None,)))
        functions[name] = tuple(dict.fromkeys(both))
    return State(variables, positional, functions, one.debconf or two.debconf)


def expand(words: Iterable[Word], state: State) -> tuple[Field, ...] | None:
    """The fields that ``words`` become; None when their number is not known."""
    fields: list[Field] = []
    for word in words:
        expanded = _expand_word(word, state)
        if expanded is None:
            return None
        fields.extend(expanded)
    return tuple(fields)


def expand_known_start(words: Iterable[Word], state: State) -> tuple[tuple[Field, ...], bool]:
    """The fields up to the first word whose number of fields is not known, and whether that was all of them."""
    fields: list[Field] = []
    for word in words:
        expanded = _expand_word(word, state)
        if expanded is None:
            return tuple(fields), False
        fields.extend(expanded)
    return tuple(fields), True


def text_of(word: Word, state: State) -> Field:
    """The word as one string, without splitting or path names (an assignment, a redirection, a case subject)."""
    if any(isinstance(part, Literal) and not part.quoted and part.text.startswith("~") for part in word.parts[:1]):
        return None
    pieces = [_part_text(part, state) for part in word.parts]
    return None if any(piece is None for piece in pieces) else "".join(piece or "" for piece in pieces)


def _expand_word(word: Word, state: State) -> tuple[Field, ...] | None:
    if len(word.parts) == 1 and isinstance(part := word.parts[0], Parameter) and part.name == "@" and not part.op:
        return _all_parameters(part, state)
    # A word of nothing but unquoted expansions that are all empty is no field at all.
    stays = any(isinstance(part, Literal | Arithmetic) or part.quoted for part in word.parts)
    pieces: list[Field] = []
    for part in word.parts:
        if isinstance(part, Parameter) and part.name in ("@", "*"):
            return None
        piece = _part_text(part, state)
        if isinstance(part, Literal):
            if not part.quoted and _is_special(part.text, first=part is word.parts[0]):
                piece = None
        elif not isinstance(part, Arithmetic) and not part.quoted and not _is_one_field(piece):
            return None
        pieces.append(piece)
    if any(piece is None for piece in pieces):
        return (None,)
    text = "".join(piece or "" for piece in pieces)
    return (text,) if text or stays else ()


def _all_parameters(part: Parameter, state: State) -> tuple[Field, ...] | None:
    if state.positional is None:
        return None
    if part.quoted:
        return state.positional
    plain = all(value and _is_one_field(value) for value in state.positional)
    return state.positional if plain else None


def _is_one_field(value: Field) -> bool:
    """Unquoted, an unknown or blank-holding value becomes any number of fields, or a path name pattern."""
    return value is not None and not any(char.isspace() or char in _PATTERN_CHARS for char in value)


def _is_special(text: str, *, first: bool) -> bool:
    """Whether unquoted characters may become something else: path name patterns, tildes, bash's braces."""
    if text == "[" and first:
        return False  # the command; a pattern needs its closing bracket
    return any(char in _PATTERN_CHARS for char in text) or (first and text.startswith("~")) or "{" in text


def _part_text(part: Part, state: State) -> Field:
    if isinstance(part, Literal):
        return part.text
    if not isinstance(part, Parameter) or part.name in ("@", "*"):
        return None
    value = state.parameter(part.name)
    if part.op in ("", ":?", "?"):
        return value
    if part.word is None or value is None or part.op not in (":-", "-", ":=", "=", ":+", "+"):
        return None
    # A known value is a set value, except a positional parameter beyond the last.
    unset = part.name.isdigit() and part.name != "0" and int(part.name) > len(state.positional or ())
    missing = unset or (not value and part.op.startswith(":"))
    if part.op.endswith("+"):
        return "" if missing else text_of(part.word, state)
    return text_of(part.word, state) if missing else value
