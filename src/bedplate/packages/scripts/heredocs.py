"""Here-documents: bodies that start on the line behind the command that asked for them. Source: POSIX 2.7.4."""

from __future__ import annotations

from bedplate.packages.scripts.syntax import Literal, Redirect, Word
from bedplate.packages.scripts.words import NotUnderstoodError, WordScanner


class HereDocument:
    """A here-document whose body is read when the line that asked for it ends."""

    def __init__(self, delimiter: Word, strip_tabs: bool, line: int) -> None:
        if not all(isinstance(part, Literal) for part in delimiter.parts):
            raise NotUnderstoodError("a here-document delimiter with an expansion", line)
        literals = [part for part in delimiter.parts if isinstance(part, Literal)]
        self.delimiter = "".join(part.text for part in literals)
        self.expands = not any(part.quoted for part in literals)
        self.strip_tabs = strip_tabs
        self.line = line
        self.body: Redirect | None = None

    def read(self, scanner: WordScanner) -> None:
        """Read the body from the scanner's position, which is the start of a line; step behind its delimiter."""
        first = scanner.line
        lines: list[str] = []
        while True:
            if scanner.pos >= len(scanner.text):
                raise NotUnderstoodError("here-document without its end", first)
            end = scanner.text.find("\n", scanner.pos)
            end = len(scanner.text) if end < 0 else end
            line = scanner.text[scanner.pos : end]
            last = scanner.line
            scanner.pos = min(end + 1, len(scanner.text))
            if self.strip_tabs:
                line = line.lstrip("\t")
            if line == self.delimiter:
                break
            if self.expands and line.endswith("\\"):
                raise NotUnderstoodError("a here-document line that is continued", last)
            lines.append(line + "\n")
        text = "".join(lines)
        body = scanner.nested(text, first).expandable_text() if self.expands else Word((Literal(text, quoted=True),))
        self.body = Redirect("<<", body, first, last)
