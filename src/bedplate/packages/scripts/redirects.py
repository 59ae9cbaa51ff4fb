"""Redirections, blanks and line ends: what stands between the words of commands.

Implements POSIX.1-2024 Shell Command Language 2.3 and 2.7.
"""

from __future__ import annotations

import re

from bedplate.packages.scripts.heredocs import HereDocument
from bedplate.packages.scripts.syntax import Literal, Redirect, Word
from bedplate.packages.scripts.words import WordScanner

_REDIRECT = re.compile(r"[0-9]*(?=[<>])")
_BOTH_TO_NULL = re.compile(r"&>[ \t]*/dev/null(?=[ \t\n;&|)]|\Z)")
_REDIRECT_OPS = ("<<-", "<<", ">>", "<&", ">&", "<>", ">|", "<", ">")
_FOREIGN = ("<<<", "<(", ">(", "&>", "|&", ";&", ";;&")


class RedirectScanner(WordScanner):
    """A word scanner that also reads redirections, and the here-documents behind the line that asked for them."""

    def __init__(self, text: str, first_line: int, depth: int) -> None:
        super().__init__(text, first_line, depth)
        self.pending: list[HereDocument] = []

    # -- blanks, comments, here-documents --------------------------------------------------------------------------

    def blanks(self) -> None:
        """Step over blanks, continued lines and a comment."""
        text = self.text
        while self.pos < len(text):
            char = text[self.pos]
            if char in " \t":
                self.pos += 1
            elif char == "\\" and text.startswith("\\\n", self.pos):
                self.pos += 2
            elif char == "#":
                end = text.find("\n", self.pos)
                self.pos = len(text) if end < 0 else end
            else:
                return

    def newlines(self) -> None:
        """Step over blanks and line ends, with the here-documents that start behind them."""
        self.blanks()
        while self.peek() == "\n":
            self.pos += 1
            self._read_here_documents()
            self.blanks()

    def _read_here_documents(self) -> None:
        pending, self.pending = self.pending, []
        for document in pending:
            document.read(self)

    def refuse_foreign(self) -> None:
        """Raise at an operator that is not POSIX shell."""
        for operator in _FOREIGN:
            if self.text.startswith(operator, self.pos):
                raise self.fail(f"{operator} is not POSIX shell")

    def redirects(self) -> tuple[Redirect, ...]:
        """All redirections at this position, here-documents read."""
        found: list[Redirect | HereDocument] = []
        while True:
            self.blanks()
            redirect = self.redirect()
            if redirect is None:
                break
            found.append(redirect)
        documents = [redirect for redirect in found if isinstance(redirect, HereDocument)]
        if documents:
            self.look_ahead(documents)
        return settled(found)

    def redirect(self) -> Redirect | HereDocument | None:
        """The redirection at this position, if there is one."""
        both = _BOTH_TO_NULL.match(self.text, self.pos)
        if both:
            # bash: both streams to /dev/null. POSIX: in the background, and an empty redirection. See the evaluation.
            self.pos = both.end()
            return Redirect("&>", Word((Literal("/dev/null", quoted=False),)), self.line, self.line)
        found = _REDIRECT.match(self.text, self.pos)
        if not found or found.end() >= len(self.text):
            return None
        self.pos = found.end()
        self.refuse_foreign()
        operator = next(op for op in _REDIRECT_OPS if self.text.startswith(op, self.pos))
        self.pos += len(operator)
        first = self.line
        self.blanks()
        if not self.peek() or self.peek() in "\n|&;<>()":
            raise self.fail("a redirection without a target")
        target = self.word()
        if operator in ("<<", "<<-"):
            return HereDocument(target, operator == "<<-", self.line)
        return Redirect(operator, target, first, self.line)

    def look_ahead(self, documents: list[HereDocument]) -> None:
        """Read the bodies of ``documents`` without stepping over them."""
        # A body starts behind the newline that ends the line of its operator, after the bodies asked for before it.
        # What follows on the operator's own line may hold quotes that span lines; then the start is not certain.
        end = self.text.find("\n", self.pos)
        rest = self.text[self.pos : end if end >= 0 else len(self.text)]
        if end < 0:
            raise self.fail("here-document without its end")
        if any(char in rest for char in "'\"`\\$"):
            raise self.fail("quotes behind a here-document on its line")
        here, self.pos = self.pos, end + 1
        for document in self.pending:
            document.read(self)
        for document in documents:
            document.read(self)
        self.pos = here
        self.pending.extend(documents)


def settled(redirects: list[Redirect | HereDocument]) -> tuple[Redirect, ...]:
    """``redirects`` with the bodies of their here-documents, which must have been read."""
    result: list[Redirect] = []
    for redirect in redirects:
        body = redirect.body if isinstance(redirect, HereDocument) else redirect
        assert body is not None
        result.append(body)
    return tuple(result)
