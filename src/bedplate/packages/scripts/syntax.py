"""The syntax tree of a POSIX shell script. Every node knows its lines (1-based, inclusive)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """Characters as they are. ``quoted`` means neither split, nor a pattern, nor a reserved word."""

    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """``$name`` or ``${name op word}``; ``op`` is empty, ``len`` (for ``${#name}``) or one of ``:- - := = :? ? :+ + #
    ## % %%``."""

    name: str
    op: str
    word: Word | None
    quoted: bool


@dataclass(frozen=True, slots=True)
class Substitution:
    """``$( … )`` or back-quotes."""

    body: Sequence
    quoted: bool


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``$(( … ))``: the parts of the expression."""

    parts: tuple[Part, ...]


Part = Literal | Parameter | Substitution | Arithmetic


@dataclass(frozen=True, slots=True)
class Word:
    """One word before expansion."""

    parts: tuple[Part, ...]

    def literal(self) -> str | None:
        """The text when the word is one unquoted literal (what reserved words and function names must be)."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Literal) and not self.parts[0].quoted:
            return self.parts[0].text
        return None


@dataclass(frozen=True, slots=True)
class Assignment:
    """``name=value`` before a command."""

    name: str
    value: Word


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirection. For a here-document ``target`` is its body (an expandable word) and ``op`` is ``<<``."""

    op: str
    target: Word
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, words and redirections of one simple command."""

    assignments: tuple[Assignment, ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Subshell:
    body: Sequence


@dataclass(frozen=True, slots=True)
class Group:
    body: Sequence


@dataclass(frozen=True, slots=True)
class If:
    """``branches`` are (condition, body); the last body without a condition is ``otherwise``."""

    branches: tuple[tuple[Sequence, Sequence], ...]
    otherwise: Sequence | None


@dataclass(frozen=True, slots=True)
class While:
    condition: Sequence
    body: Sequence
    until: bool


@dataclass(frozen=True, slots=True)
class For:
    """``words`` is None for ``for x do`` (over ``"$@"``)."""

    name: str
    words: tuple[Word, ...] | None
    body: Sequence
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    subject: Word
    items: tuple[tuple[tuple[Word, ...], Sequence], ...]
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A definition; two are equal only when they are the same place in the script."""

    name: str
    body: Command
    line: int


@dataclass(frozen=True, slots=True)
class Redirected:
    """A compound command with redirections of its own."""

    command: Command
    redirects: tuple[Redirect, ...]


Command = Simple | Subshell | Group | If | While | For | Case | Function | Redirected


@dataclass(frozen=True, slots=True)
class Pipeline:
    commands: tuple[Command, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class AndOr:
    """``first`` followed by (``&&`` or ``||``, pipeline)."""

    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...]
    background: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[AndOr, ...]


def commands(sequence: Sequence) -> Iterator[Command]:
    """Every command of ``sequence``, also in compound commands, functions and substitutions, outer before inner."""
    for item in sequence.items:
        for pipeline in (item.first, *(pipeline for _, pipeline in item.rest)):
            for command in pipeline.commands:
                yield from _inside(command)


def words_of(command: Command) -> Iterator[Word]:
    """The words that belong to ``command`` itself: not those of commands inside it."""
    match command:
        case Simple():
            yield from (assignment.value for assignment in command.assignments)
            yield from command.words
            yield from (redirect.target for redirect in command.redirects)
        case Redirected():
            yield from (redirect.target for redirect in command.redirects)
        case For():
            yield from command.words or ()
        case Case():
            yield command.subject
            for patterns, _ in command.items:
                yield from patterns
        case _:
            return


def _inside(command: Command) -> Iterator[Command]:
    yield command
    for word in words_of(command):
        for sequence in substitutions(word.parts):
            yield from commands(sequence)
    match command:
        case Subshell() | Group() | For():
            yield from commands(command.body)
        case If():
            for condition, body in command.branches:
                yield from commands(condition)
                yield from commands(body)
            if command.otherwise is not None:
                yield from commands(command.otherwise)
        case While():
            yield from commands(command.condition)
            yield from commands(command.body)
        case Case():
            for _, body in command.items:
                yield from commands(body)
        case Function():
            yield from _inside(command.body)
        case Redirected():
            yield from _inside(command.command)
        case Simple():
            return


def substitutions(parts: tuple[Part, ...]) -> Iterator[Sequence]:
    """The command substitutions in ``parts``, also inside ``${x:-…}`` and arithmetic; not nested ones."""
    for part in parts:
        match part:
            case Substitution():
                yield part.body
            case Parameter(word=Word() as word):
                yield from substitutions(word.parts)
            case Arithmetic():
                yield from substitutions(part.parts)
            case _:
                continue


def expansion_assigns(parts: tuple[Part, ...]) -> frozenset[str]:
    """Variables that expanding ``parts`` may set: ``${x:=…}``, and any ("") by arithmetic."""
    names: set[str] = set()
    for part in parts:
        if isinstance(part, Arithmetic) and not _is_number(part):
            names.add("")
        elif isinstance(part, Parameter):
            if part.op in (":=", "="):
                names.add(part.name)
            if part.word is not None:
                names |= expansion_assigns(part.word.parts)
    return frozenset(names)


def _is_number(arithmetic: Arithmetic) -> bool:
    return all(
        isinstance(part, Literal) and not any(c.isalpha() or c == "_" for c in part.text) for part in arithmetic.parts
    )
