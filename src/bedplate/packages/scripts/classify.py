"""One script, line by line: which lines are of a known kind, and which are not. Independent of the definition.

Every line of a script that is neither blank nor a comment is in a :class:`Piece`, a :class:`Gap`, or both; a line in a
gap is not accounted for, whatever else is on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from bedplate.model.package import Script
from bedplate.packages.scripts import syntax
from bedplate.packages.scripts.claims import Claim, Judgement, Kind, Need, Unknown
from bedplate.packages.scripts.evaluate import Judgements, Leaf, TooLongError, follow
from bedplate.packages.scripts.kinds import Call, judge
from bedplate.packages.scripts.shell import NotUnderstoodError, parse
from bedplate.packages.scripts.state import Field, State

_SHELLS = re.compile(r"(/usr)?/bin/(sh|dash|bash)(\s+-[eux]+)*\Z")

SHOWN_REASONS = 3

Parameters = tuple[Field, ...] | None

# What a script is started with at a first installation (deb-preinst(5), deb-postinst(5), debconf-devel(7); rpm's
# scriptlets documentation: the number of instances of the package after the operation). No entry: never started.
_STARTED_WITH: dict[str, tuple[Parameters, ...]] = {
    "preinst": (("install",),),
    "postinst": (("configure", ""),),
    "config": (("configure", ""),),
    "%pre": (("1",),),
    "%post": (("1",),),
    "%pretrans": (None,),
    "%posttrans": (None,),
    "%triggerprein": (None,),
    "%triggerin": (None,),
    "%filetriggerin": (None,),
    "%transfiletriggerin": (None,),
}
_TRIGGERED: Parameters = ("triggered", None)
_NEVER = """
    prerm postrm %preun %postun %preuntrans %postuntrans %triggerun %triggerpostun %filetriggerun %filetriggerpostun
    %transfiletriggerun %transfiletriggerpostun %verifyscript %verify
"""
_NEVER_STARTED = frozenset(_NEVER.split())
_ACTIVATED = {
    "ldconfig": Kind.LDCONFIG,
    "update-initramfs": Kind.INITRD,
    "update-ca-certificates": Kind.CA_BUNDLE,
    "update-ca-certificates-fresh": Kind.CA_BUNDLE,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines ``first`` to ``last`` of one known kind, true if the definition holds all ``needs``."""

    kind: Kind
    first: int
    last: int
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines that are not accounted for, and why."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class Classification:
    """Pieces and gaps of one script, by line."""

    pieces: tuple[Piece, ...]
    gaps: tuple[Gap, ...]


def script_digest(script: Script) -> str:
    """Hex SHA-256 that a verdict is pinned to: of the script's text, where that says all. An interpreter that the text
    does not name and a trigger's condition are pinned with it."""
    text = script.text
    if not text.startswith("#!") and script.interpreter:
        text = f"#!{script.interpreter}\n{text}"
    if script.condition:
        text = f"# for {script.condition}\n{text}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def classify(script: Script, *, triggered: bool) -> Classification:
    """Classify one script. ``triggered`` says that its package is interested in dpkg triggers."""
    return _classify(script, triggered)


@lru_cache(maxsize=4096)
def _classify(script: Script, triggered: bool) -> Classification:
    kind = script.kind.split()[0] if script.kind.split() else ""
    whole = (1, script.text.rstrip("\n").count("\n") + 1)
    if kind == "triggers":
        return _classify_triggers(script.text)
    if kind in _NEVER_STARTED:
        return Classification((Piece(Kind.NEVER, *whole),), ())
    runs = _STARTED_WITH.get(kind)
    if runs is None:
        return Classification((), (Gap(*whole, f"{script.kind or 'it'} is no kind of script that Bedplate knows"),))
    if kind == "postinst" and triggered:
        runs = (*runs, _TRIGGERED)
    interpreter, problem = _interpreter(script)
    if problem:
        return Classification((), (Gap(*whole, problem),))
    if not _SHELLS.match(interpreter):
        return _without_shell(interpreter, script.text, whole)
    try:
        tree = parse(script.text)
        judgements = Judgements()
        for positional in runs:
            follow(tree, positional, judgements)
    except NotUnderstoodError as error:
        return Classification((), (Gap(*whole, f"not understood: {error}"),))
    except (TooLongError, RecursionError):
        return Classification((), (Gap(*whole, "not understood: too many paths through it"),))
    return _collect(script.text, tree, judgements)


def _interpreter(script: Script) -> tuple[str, str]:
    """The interpreter with its arguments, and a problem when it is not certain."""
    first = script.text.split("\n", 1)[0]
    stated = " ".join(first[2:].split()) if first.startswith("#!") else ""
    if script.kind.startswith("%"):
        # rpm hands the text to the interpreter its header names; a "#!" in it is a comment.
        return script.interpreter or "/bin/sh", ""
    if not stated:
        return "", "names no interpreter"
    if script.interpreter and script.interpreter.split()[0] != stated.split()[0]:
        return "", f"its first line names {stated}, its package {script.interpreter}"
    return stated, ""


def _without_shell(interpreter: str, text: str, whole: tuple[int, int]) -> Classification:
    if text.strip():
        return Classification((), (Gap(*whole, f"a program for {interpreter}, which Bedplate does not read"),))
    judgement = judge(Call(tuple(interpreter.split()), True, State())).judgement
    if isinstance(judgement, Unknown):
        return Classification((), (Gap(*whole, judgement.reason),))
    return Classification((Piece(judgement.kind, *whole, judgement.needs),), ())


def _classify_triggers(text: str) -> Classification:
    """A deb's ``triggers`` file (deb-triggers(5)).

    Each interest runs the package's own ``postinst triggered``, which is judged with it; each activation runs other
    packages' scripts, which are judged with theirs.
    """
    pieces: list[Piece] = []
    gaps: list[Gap] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        verb = words[0].removesuffix("-noawait").removesuffix("-await")
        if len(words) != 2 or verb not in ("interest", "activate"):
            gaps.append(Gap(number, number, f"{line.strip()!r} is no trigger directive"))
        else:
            kind = _ACTIVATED.get(words[1], Kind.TRIGGERS) if verb == "activate" else Kind.TRIGGERS
            pieces.append(Piece(kind, number, number))
    return Classification(_joined(pieces), tuple(gaps))


# -- from leaves to lines ------------------------------------------------------------------------------------------


def _leaves(tree: syntax.Sequence) -> Iterable[tuple[Leaf, int, int]]:
    for command in syntax.commands(tree):
        match command:
            case syntax.Simple():
                yield command, command.first, command.last
                yield from ((redirect, redirect.first, redirect.last) for redirect in command.redirects)
            case syntax.Redirected():
                yield from ((redirect, redirect.first, redirect.last) for redirect in command.redirects)
            case syntax.For() | syntax.Case() | syntax.Function():
                yield command, command.line, command.line
            case _:
                continue


def _collect(text: str, tree: syntax.Sequence, judgements: Judgements) -> Classification:
    pieces: list[Piece] = []
    gaps: list[Gap] = []
    seen: set[int] = set()
    never = (Claim(Kind.NEVER),)
    for leaf, first, last in _leaves(tree):
        seen.update(range(first, last + 1))
        found = judgements.by_leaf.get(id(leaf))
        for judgement in found[1] if found else never:
            _add(judgement, first, last, pieces, gaps)
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if number not in seen and stripped and not stripped.startswith("#"):
            pieces.append(Piece(Kind.STRUCTURE, number, number))
    return Classification(_joined(pieces), joined_gaps(gaps))


def _add(judgement: Judgement, first: int, last: int, pieces: list[Piece], gaps: list[Gap]) -> None:
    if isinstance(judgement, Unknown):
        gaps.append(Gap(first, last, judgement.reason))
    else:
        pieces.append(Piece(judgement.kind, first, last, judgement.needs))


def joined_gaps(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Gaps by line, those of the same lines as one that gives the first :data:`SHOWN_REASONS` reasons."""
    reasons: dict[tuple[int, int], list[str]] = {}
    for gap in gaps:
        found = reasons.setdefault((gap.first, gap.last), [])
        if gap.reason not in found:
            found.append(gap.reason)
    return tuple(Gap(first, last, _some(found)) for (first, last), found in sorted(reasons.items()))


def _some(reasons: list[str]) -> str:
    more = len(reasons) - SHOWN_REASONS
    return "; ".join([*reasons[:SHOWN_REASONS], *([f"and {more} more"] if more > 0 else [])])


def _joined(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Pieces by line; neighbours of one kind without needs as one."""
    result: list[Piece] = []
    for piece in sorted(set(pieces), key=lambda piece: (piece.first, piece.last, piece.kind, piece.needs)):
        last = result[-1] if result else None
        if last and last.kind == piece.kind and not last.needs and not piece.needs and piece.first <= last.last + 1:
            result[-1] = Piece(last.kind, last.first, max(last.last, piece.last))
        else:
            result.append(piece)
    return tuple(result)
