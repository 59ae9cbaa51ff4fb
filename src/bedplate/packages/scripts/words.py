"""Scanning of shell words: quoting, parameters, substitutions, here-document bodies. The lower half of the parser.

Implements POSIX.1-2024 Shell Command Language 2.2, 2.6 and 2.7.4. Where dash and bash read the same characters
differently (``$'…'``, ``<(…)``, ``${x/…}``), nothing is guessed: the script is not understood.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from bedplate.packages.scripts.syntax import Arithmetic, Literal, Parameter, Part, Sequence, Substitution, Word

MAX_DEPTH = 60  # nesting of substitutions and compound commands; deeper is hostile

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[^\s|&;<>()\\'\"$`#]+")
_PLAIN_QUOTED = re.compile(r"[^\\$`\"]+")
_SPECIAL_PARAMETERS = "@*#?-$!0123456789"
_PARAMETER_OPS = (":-", ":=", ":?", ":+", "##", "%%", "-", "=", "?", "+", "#", "%")
_END_OF_WORD = frozenset(" \t\n|&;<>()")


class NotUnderstoodError(Exception):
    """The text is not a shell script that this parser reads the way every shell would. ``line`` is 1-based."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(f"line {line}: {reason}")
        self.reason = reason
        self.line = line


class WordScanner(ABC):
    """A position in a script's text, and the words that start there. Subclassed by the command parser."""

    def __init__(self, text: str, first_line: int, depth: int) -> None:
        self.text = text
        self.pos = 0
        self.depth = depth
        self._first_line = first_line
        self._counted_to, self._counted_lines = 0, 0
        if depth > MAX_DEPTH:
            raise NotUnderstoodError("nested too deeply", first_line)

    @abstractmethod
    def parse_until_paren(self) -> Sequence:
        """Parse commands up to the closing parenthesis at this level, and step over it."""

    @abstractmethod
    def script(self) -> Sequence:
        """Parse the whole text as commands."""

    @abstractmethod
    def nested(self, text: str, line: int) -> WordScanner:
        """A scanner of the same kind for ``text`` that starts at ``line``, one level deeper."""

    @property
    def line(self) -> int:
        """The line of the current position."""
        if self.pos < self._counted_to:
            self._counted_to, self._counted_lines = 0, 0
        self._counted_lines += self.text.count("\n", self._counted_to, self.pos)
        self._counted_to = self.pos
        return self._first_line + self._counted_lines

    def peek(self, length: int = 1) -> str:
        """The next characters without stepping over them; shorter at the end."""
        return self.text[self.pos : self.pos + length]

    def fail(self, reason: str) -> NotUnderstoodError:
        """The error for the current line."""
        return NotUnderstoodError(reason, self.line)

    def word(self) -> Word:
        """Scan one word; the position must be at its first character.

        Raises:
            NotUnderstoodError: an unterminated quote, or a construct shells disagree on.
        """
        parts: list[Part] = []
        while self.pos < len(self.text) and (char := self.text[self.pos]) not in _END_OF_WORD:
            if char == "\\":
                self._escaped(parts)
            elif char == "'":
                parts.append(self._single_quoted())
            elif char == '"':
                self.pos += 1
                inner = self._expandable('"')
                parts.extend(inner or [Literal("", quoted=True)])
            elif char == "$" and self.text[self.pos + 1 : self.pos + 2] in ("'", '"', "["):
                raise self.fail(f"${self.text[self.pos + 1]} is read differently by different shells")
            elif char in "$`":
                parts.append(self._expansion(quoted=False))
            else:
                found = _PLAIN.match(self.text, self.pos)
                end = found.end() if found else self.pos + 1
                parts.append(Literal(self.text[self.pos : end], quoted=False))
                self.pos = end
        return Word(_joined(parts))

    def _escaped(self, parts: list[Part]) -> None:
        following = self.text[self.pos + 1 : self.pos + 2]
        self.pos += 2
        if not following:
            raise self.fail("ends in a backslash")
        if following != "\n":
            parts.append(Literal(following, quoted=True))
        elif self.peek() in ("<", ">") and parts:
            raise self.fail("a redirection that began in the line before")

    def _single_quoted(self) -> Literal:
        end = self.text.find("'", self.pos + 1)
        if end < 0:
            raise self.fail("single quote without its end")
        text = self.text[self.pos + 1 : end]
        self.pos = end + 1
        return Literal(text, quoted=True)

    def _expandable(self, until: str) -> list[Part]:
        """Parts up to an unescaped ``until`` (stepped over): inside double quotes, or a whole here-document body."""
        parts: list[Part] = []
        start = self.line
        escapable = '$`"\\' if until == '"' else "$`\\"
        while True:
            if self.pos >= len(self.text):
                if until:
                    raise NotUnderstoodError("quote without its end", start)
                return list(_joined(parts))
            char = self.text[self.pos]
            if until and char == until:
                self.pos += 1
                return list(_joined(parts))
            if char == "\\":
                following = self.text[self.pos + 1 : self.pos + 2]
                self.pos += 2
                if following in escapable and following:
                    parts.append(Literal(following, quoted=True))
                elif following != "\n":
                    parts.append(Literal("\\" + following, quoted=True))
            elif char in "$`":
                parts.append(self._expansion(quoted=True))
            else:
                found = _PLAIN_QUOTED.match(self.text, self.pos)
                end = found.end() if found else self.pos + 1
                parts.append(Literal(self.text[self.pos : end], quoted=True))
                self.pos = end

    def expandable_text(self) -> Word:
        """The rest of the text as a here-document body: parameters and substitutions are expanded in it."""
        return Word(tuple(self._expandable("")))

    def _expansion(self, quoted: bool) -> Part:
        if self.text[self.pos] == "`":
            return self._backquoted(quoted)
        if self.text.startswith("$((", self.pos):
            return self._arithmetic()
        if self.text.startswith("$(", self.pos):
            self.pos += 2
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self.fail("nested too deeply")
            body = self.parse_until_paren()
            self.depth -= 1
            return Substitution(body, quoted)
        if self.text.startswith("${", self.pos):
            return self._braced(quoted)
        self.pos += 1
        if self.peek(2) == "\\\n":
            raise self.fail("a parameter that goes on in the next line")
        following = self.peek()
        if following and following in _SPECIAL_PARAMETERS:
            self.pos += 1
            return Parameter(following, "", None, quoted)
        found = _NAME.match(self.text, self.pos)
        if not found:
            return Literal("$", quoted=True)
        self.pos = found.end()
        return Parameter(found.group(), "", None, quoted)

    def _backquoted(self, quoted: bool) -> Substitution:
        line = self.line
        self.pos += 1
        inner: list[str] = []
        while (char := self.peek()) != "`":
            if not char:
                raise NotUnderstoodError("back-quote without its end", line)
            if char == "\\" and (following := self.text[self.pos + 1 : self.pos + 2]) in ("$", "`", "\\"):
                inner.append(following)
                self.pos += 2
            elif char == "\\" and quoted and following == '"':
                raise self.fail('\\" inside back-quotes is read differently by different shells')
            else:
                inner.append(char)
                self.pos += 1
        self.pos += 1
        return Substitution(self.nested("".join(inner), line).script(), quoted)

    def _arithmetic(self) -> Arithmetic:
        line = self.line
        self.pos += 3
        parts: list[Part] = []
        depth = 0
        while True:
            char = self.peek()
            if not char or char in "'\"\\":
                raise NotUnderstoodError("arithmetic without its end, or with quotes in it", line)
            if char in "$`":
                parts.append(self._expansion(quoted=True))
                continue
            if char == ")" and depth == 0:
                if self.peek(2) != "))":
                    raise NotUnderstoodError("$(( that is not arithmetic", line)
                self.pos += 2
                return Arithmetic(_joined(parts))
            depth += {"(": 1, ")": -1}.get(char, 0)
            parts.append(Literal(char, quoted=True))
            self.pos += 1

    def _braced(self, quoted: bool) -> Parameter:
        self.pos += 2
        if self.peek() == "#" and self.peek(2) not in ("#}", "#-", "#:", "##", "#%", "#?", "#+", "#="):
            self.pos += 1
            name = self._parameter_name()
            if self.peek() != "}":
                raise self.fail("${#…} of an unknown form")
            self.pos += 1
            return Parameter(name, "len", None, quoted)
        name = self._parameter_name()
        if self.peek() == "}":
            self.pos += 1
            return Parameter(name, "", None, quoted)
        op = next((op for op in _PARAMETER_OPS if self.text.startswith(op, self.pos)), "")
        if not op:
            raise self.fail("${…} of a form that is not in POSIX")
        self.pos += len(op)
        return Parameter(name, op, self._brace_word(quoted), quoted)

    def _parameter_name(self) -> str:
        found = _NAME.match(self.text, self.pos) or re.compile(r"[0-9]+|[@*#?$!-]").match(self.text, self.pos)
        if not found:
            raise self.fail("${…} without a name")
        self.pos = found.end()
        return found.group()

    def _brace_word(self, quoted: bool) -> Word:
        parts: list[Part] = []
        start = self.line
        while (char := self.peek()) != "}":
            if not char:
                raise NotUnderstoodError("${ without its end", start)
            if char == "'" and quoted:
                raise self.fail("single quote in ${…} inside double quotes is read differently by different shells")
            if char == "\\":
                self._escaped(parts)
            elif char == "'":
                parts.append(self._single_quoted())
            elif char == '"':
                self.pos += 1
                parts.extend(self._expandable('"') or [Literal("", quoted=True)])
            elif char in "$`":
                parts.append(self._expansion(quoted))
            else:
                parts.append(Literal(char, quoted))
                self.pos += 1
        self.pos += 1
        return Word(_joined(parts))


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """Neighbouring literals of one quoting as one."""
    result: list[Part] = []
    for part in parts:
        last = result[-1] if result else None
        if isinstance(part, Literal) and isinstance(last, Literal) and last.quoted == part.quoted:
            result[-1] = Literal(last.text + part.text, part.quoted)
        else:
            result.append(part)
    return tuple(result)
