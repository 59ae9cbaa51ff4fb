"""RPM dependency strings: ``name``, ``name >= [e:]v[-r]`` and rich ones such as ``(a or b)``.

Sources: rpm ``docs/manual/dependencies.md``, ``docs/manual/boolean_dependencies.md``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.model.errors import BadInput
from bedplate.packages.rpm.tags import Sense

_OPERATORS = {
    "<": Sense.LESS,
    "<=": Sense.LESS | Sense.EQUAL,
    "=": Sense.EQUAL,
    ">=": Sense.GREATER | Sense.EQUAL,
    ">": Sense.GREATER,
}
_COMPARISON = Sense.LESS | Sense.GREATER | Sense.EQUAL
_SYMBOLS = {int(sense): symbol for symbol, sense in _OPERATORS.items()}
_EVR = re.compile(r"(?:[0-9]+:)?[A-Za-z0-9._+~^%{}]+(?:-[A-Za-z0-9._+~^%{}]+)?\Z")


@dataclass(frozen=True, slots=True, order=True)
class Dependency:
    """One dependency as the header stores it. ``evr`` is empty without a comparison; a rich one is all in ``name``."""

    name: str
    sense: Sense = Sense.ANY
    evr: str = ""

    @classmethod
    def parse(cls, text: str) -> Dependency:
        """Parse a dependency string.

        Raises:
            BadInput: an unknown operator, a missing version, unbalanced parentheses, or a character rpm forbids.
        """
        text = text.strip()
        if text.startswith("("):
            if _is_balanced(text) and text.isprintable():
                return cls(text)
            raise BadInput(f"rich dependency {text!r} has unbalanced parentheses")
        words = text.split()
        if len(words) == 1:
            return cls(words[0])
        if len(words) != 3 or words[1] not in _OPERATORS or not _EVR.match(words[2]):
            raise BadInput(f"{text!r} is not an RPM dependency", remedy="write NAME, NAME OPERATOR EVR, or (…)")
        return cls(words[0], _OPERATORS[words[1]], words[2])

    @property
    def is_rich(self) -> bool:
        """Whether this is a boolean dependency, which only ``name`` holds."""
        return self.name.startswith("(")

    def __str__(self) -> str:
        symbol = _SYMBOLS.get(int(self.sense & _COMPARISON))
        return f"{self.name} {symbol} {self.evr}" if symbol and self.evr else self.name


def parse_all(texts: Iterable[str]) -> set[Dependency]:
    """The set of dependencies of ``texts``."""
    return {Dependency.parse(text) for text in texts}


def _is_balanced(text: str) -> bool:
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth < 0 or (depth == 0 and position != len(text) - 1):
            return False
    return depth == 0


def sysusers_provides(text: str) -> set[Dependency]:
    """What rpm 4.20 makes of a sysusers.d(5) file: ``user(…)``, ``group(…)`` and ``groupmember(…/…)`` provides.

    The item that creates a user or group carries its whole line as base64 in place of a version, which rpm hands to
    systemd-sysusers before it unpacks the package; a group that comes with a user is provided without.
    """
    found: set[Dependency] = set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 2 or line.startswith("#"):
            continue
        kind, name = fields[0].rstrip("!+-="), fields[1]
        item = " ".join(fields).encode()
        # "=" cannot stand in a version, so rpm fills up with NULs to a length that needs none.
        encoded = base64.b64encode(item + b"\0" * (-len(item) % 3)).decode()
        sense = Sense.FIND_PROVIDES | Sense.EQUAL
        if kind == "u":
            found.add(Dependency(f"user({name})", sense, encoded))
            found.add(Dependency(f"group({name})", Sense.FIND_PROVIDES))
        elif kind == "g":
            found.add(Dependency(f"group({name})", sense, encoded))
        elif kind == "m" and len(fields) >= 3:
            found.add(Dependency(f"groupmember({name}/{fields[2]})", sense, encoded))
    return found


def account_provides(text: str) -> set[Dependency]:
    """What rpm 4.20 makes of a package's own passwd(5) or group(5) file: ``user(…)`` or ``group(…)`` for each line."""
    kinds = {7: "user", 4: "group"}
    lines = [line.split(":") for line in text.splitlines()]
    known = [(kinds[len(fields)], fields[0]) for fields in lines if len(fields) in kinds]
    return {Dependency(f"{kind}({name})", Sense.FIND_PROVIDES) for kind, name in known}


def membership_requires(text: str) -> set[Dependency]:
    """``user(NAME)`` and ``group(NAME)`` that the ``m`` lines of a sysusers.d(5) file need, as rpm's generator does."""
    found: set[Dependency] = set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 3 and fields[0] == "m":
            found.add(Dependency(f"user({fields[1]})", Sense.FIND_REQUIRES))
            found.add(Dependency(f"group({fields[2]})", Sense.FIND_REQUIRES))
    return found


def owner_requires(users: Iterable[str], groups: Iterable[str]) -> set[Dependency]:
    """What rpm 4.19 and later require of the owners of files, so that set-id bits and owners can be applied."""
    sense = Sense.SCRIPT_PRE | Sense.SCRIPT_POSTUN
    return {Dependency(f"user({name})", sense) for name in users if name != "root"} | {
        Dependency(f"group({name})", sense) for name in groups if name != "root"
    }
