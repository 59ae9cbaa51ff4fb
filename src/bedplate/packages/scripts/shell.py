"""A strict parser of POSIX shell scripts: all of a script is understood, or :class:`NotUnderstoodError` says where not.

Implements POSIX.1-2024 Shell Command Language 2.3, 2.4, 2.7, 2.9 and 2.10. Own, because a ledger must never take a
wrong reading for a right one: error-tolerant parsers repair what they do not understand, and bash parsers accept
what a POSIX shell reads otherwise.
"""

from __future__ import annotations

import re

from bedplate.packages.scripts.heredocs import HereDocument
from bedplate.packages.scripts.redirects import RedirectScanner, settled
from bedplate.packages.scripts.syntax import (
    AndOr,
    Assignment,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Literal,
    Pipeline,
    Redirect,
    Redirected,
    Sequence,
    Simple,
    Subshell,
    While,
    Word,
)
from bedplate.packages.scripts.words import NotUnderstoodError

__all__ = ["NotUnderstoodError", "as_assignment", "parse"]

MAX_TEXT = 1 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_KEYWORD = re.compile(r"[a-z{}!\[]+(?=[ \t\n;&|<>()]|\Z)")
_CLOSERS = frozenset({"then", "elif", "else", "fi", "do", "done", "esac", "}"})
_RESERVED = _CLOSERS | {"if", "while", "until", "for", "case", "in", "{", "!"}
_BASH_KEYWORDS = frozenset({"function", "select", "[[", "coproc", "time"})


def parse(text: str) -> Sequence:
    """The syntax tree of a whole script.

    Raises:
        NotUnderstoodError: not POSIX shell, or something that shells read differently.
    """
    if len(text) > MAX_TEXT:
        raise NotUnderstoodError("larger than a maintainer script can be", 1)
    for char, reason in (("\0", "holds a NUL byte"), ("\r", "holds a carriage return")):
        if char in text:
            raise NotUnderstoodError(reason, text.count("\n", 0, text.index(char)) + 1)
    parser = _Parser(text, 1, 0)
    return parser.script()


class _Parser(RedirectScanner):
    # -- whole scripts ---------------------------------------------------------------------------------------------

    def script(self) -> Sequence:
        sequence = self._sequence()
        if self.pos < len(self.text):
            raise self.fail(f"unexpected {self.peek(10)!r}")
        if self.pending:
            raise self.fail("here-document without its end")
        return sequence

    def nested(self, text: str, line: int) -> _Parser:
        return _Parser(text, line, self.depth + 1)

    def parse_until_paren(self) -> Sequence:
        outer, self.pending = self.pending, []
        sequence = self._sequence()
        if self.peek() != ")" or self.pending:
            raise self.fail("( without its )")
        self.pending = outer
        self.pos += 1
        return sequence

    # -- lists -----------------------------------------------------------------------------------------------------

    def _sequence(self) -> Sequence:
        items: list[AndOr] = []
        self.newlines()
        while not self._at_end_of_list():
            items.append(self._and_or())
            self.blanks()
            if self.peek() in (";", "&") and self.peek(2) not in (";;", "&&"):
                self.refuse_foreign()
                if self.peek() == "&":
                    last = items[-1]
                    items[-1] = AndOr(last.first, last.rest, background=True)
                self.pos += 1
            elif self.peek() != "\n" and not self._at_end_of_list():
                raise self.fail(f"unexpected {self.peek(10)!r}")
            self.newlines()
        return Sequence(tuple(items))

    def _at_end_of_list(self) -> bool:
        return not self.peek() or self.peek() == ")" or self.peek(2) == ";;" or self._reserved() in _CLOSERS

    def _reserved(self) -> str:
        """The unquoted word at this position, if it could be a reserved word; nothing is stepped over."""
        found = _KEYWORD.match(self.text, self.pos)
        return found.group() if found else ""

    def _expect(self, keyword: str) -> None:
        self.newlines()
        if self._reserved() != keyword:
            raise self.fail(f"expected {keyword!r}, found {self.peek(10)!r}")
        self.pos += len(keyword)

    def _and_or(self) -> AndOr:
        first = self._pipeline()
        rest: list[tuple[str, Pipeline]] = []
        while True:
            self.blanks()
            operator = self.peek(2)
            if operator not in ("&&", "||"):
                return AndOr(first, tuple(rest), background=False)
            self.pos += 2
            self.newlines()
            rest.append((operator, self._pipeline()))

    def _pipeline(self) -> Pipeline:
        negated = False
        self.blanks()
        if self._reserved() == "!":
            negated = True
            self.pos += 1
            self.blanks()
        commands = [self._command()]
        while True:
            self.blanks()
            if self.peek() != "|" or self.peek(2) == "||":
                return Pipeline(tuple(commands), negated)
            self.refuse_foreign()
            self.pos += 1
            self.newlines()
            commands.append(self._command())

    # -- commands --------------------------------------------------------------------------------------------------

    def _command(self) -> Command:
        self.depth += 1
        if self.depth > 60:
            raise self.fail("nested too deeply")
        command = self._compound() or self._simple_or_function()
        self.depth -= 1
        return command

    def _compound(self) -> Command | None:
        compound: Command
        self.blanks()
        if self.peek() == "(":
            if self.peek(2) == "((":
                raise self.fail("(( is read differently by different shells")
            self.pos += 1
            compound = Subshell(self.parse_until_paren())
        else:
            keyword = self._reserved()
            method = {
                "{": self._group,
                "if": self._if,
                "while": self._while,
                "until": self._while,
                "for": self._for,
                "case": self._case,
            }.get(keyword)
            if keyword in _BASH_KEYWORDS or keyword in _CLOSERS:
                raise self.fail(f"unexpected {keyword!r}")
            if method is None:
                return None
            compound = method()
        redirects = self.redirects()
        return Redirected(compound, redirects) if redirects else compound

    def _body(self) -> Sequence:
        sequence = self._sequence()
        if not sequence.items:
            raise self.fail("a list without a command")
        return sequence

    def _group(self) -> Command:
        self.pos += 1
        body = self._body()
        self._expect("}")
        return Group(body)

    def _if(self) -> Command:
        branches: list[tuple[Sequence, Sequence]] = []
        keyword = "if"
        while keyword in ("if", "elif"):
            self.pos += len(keyword)
            condition = self._body()
            self._expect("then")
            branches.append((condition, self._body()))
            keyword = self._reserved()
        otherwise = None
        if keyword == "else":
            self.pos += 4
            otherwise = self._body()
        self._expect("fi")
        return If(tuple(branches), otherwise)

    def _while(self) -> Command:
        until = self._reserved() == "until"
        self.pos += 5
        condition = self._body()
        self._expect("do")
        body = self._body()
        self._expect("done")
        return While(condition, body, until)

    def _for(self) -> Command:
        line = self.line
        self.pos += 3
        self.blanks()
        name = self.word().literal()
        if name is None or not _NAME.match(name):
            raise self.fail("for without a variable name")
        self.newlines()
        words: list[Word] | None = None
        if self._reserved() == "in":
            self.pos += 2
            words = []
            self.blanks()
            while (char := self.peek()) and char not in ";\n":
                if char in "|&<>()":
                    raise self.fail(f"unexpected {char!r} in the words of for")
                words.append(self.word())
                self.blanks()
        if self.peek() == ";":
            self.pos += 1
        self._expect("do")
        body = self._body()
        self._expect("done")
        return For(name, None if words is None else tuple(words), body, line)

    def _case(self) -> Command:
        line = self.line
        self.pos += 4
        self.blanks()
        subject = self.word()
        self._expect("in")
        items: list[tuple[tuple[Word, ...], Sequence]] = []
        self.newlines()
        while self._reserved() != "esac":
            patterns = self._patterns()
            body = self._sequence()
            items.append((patterns, body))
            if self.peek(2) == ";;":
                self.refuse_foreign()
                self.pos += 2
            elif self._reserved() != "esac":
                raise self.fail("a case item without ;;")
            self.newlines()
        self.pos += 4
        return Case(subject, tuple(items), line)

    def _patterns(self) -> tuple[Word, ...]:
        if self.peek() == "(":
            self.pos += 1
        patterns: list[Word] = []
        while True:
            self.blanks()
            if not self.peek() or self.peek() in "\n;&<>()|":
                raise self.fail("a case item without a pattern")
            patterns.append(self.word())
            self.blanks()
            separator = self.peek()
            self.pos += 1
            if separator == ")":
                return tuple(patterns)
            if separator != "|":
                raise self.fail("a case pattern without )")

    def _simple_or_function(self) -> Command:
        first = self.line
        assignments: list[Assignment] = []
        words: list[Word] = []
        redirects: list[Redirect | HereDocument] = []
        last = first
        while True:
            self.blanks()
            char = self.peek()
            redirect = self.redirect()
            if redirect is not None:
                redirects.append(redirect)
            elif char == "(" and len(words) == 1 and not assignments and not redirects:
                return self._function(words[0], first)
            elif not char or char in "\n|&;)":
                self.refuse_foreign()
                break
            elif char == "(":
                raise self.fail("unexpected (")
            else:
                word = self.word()
                assignment = None if words else as_assignment(word)
                if assignment is not None:
                    assignments.append(assignment)
                else:
                    words.append(word)
            last = self.line
        if not (assignments or words or redirects):
            raise self.fail(f"expected a command, found {self.peek(10)!r}")
        documents = [redirect for redirect in redirects if isinstance(redirect, HereDocument)]
        if documents and self.line != documents[0].line:
            raise self.fail("a here-document whose line goes on in the next")
        if words and words[0].literal() in _RESERVED:
            raise NotUnderstoodError("a reserved word as a command", first)
        if documents:
            self.look_ahead(documents)
        return Simple(tuple(assignments), tuple(words), settled(redirects), first, last)

    def _function(self, name_word: Word, first: int) -> Command:
        name = name_word.literal()
        self.pos += 1
        self.blanks()
        if name is None or not _NAME.match(name) or self.peek() != ")":
            raise self.fail("unexpected (")
        self.pos += 1
        self.newlines()
        body = self._compound()
        if body is None:
            raise self.fail("a function without a compound body")
        return Function(name, body, first)


def as_assignment(word: Word) -> Assignment | None:
    """``name=value`` when ``word`` is an assignment; None when it is not."""
    first = word.parts[0] if word.parts else None
    if not isinstance(first, Literal) or first.quoted:
        return None
    found = _ASSIGNMENT.match(first.text)
    if not found:
        return None
    rest = first.text[found.end() :]
    parts = ((Literal(rest, quoted=False),) if rest else ()) + word.parts[1:]
    return Assignment(found.group(1), Word(parts))
