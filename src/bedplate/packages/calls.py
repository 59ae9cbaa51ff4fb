"""What units and log rotations of packages start that none of the packages holds: helpers of another package manager.

Sources: systemd.service(5) and systemd.unit(5) for commands, drop-ins and conditions, logrotate(8) for its scripts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bedplate.packages.scripts.shell import parse
from bedplate.packages.scripts.syntax import Function, Simple, commands
from bedplate.packages.scripts.words import NotUnderstoodError

_UNIT = re.compile(r"/usr/lib/systemd/(?:system|user)/[^/]+\.(?:service|socket|mount|swap)")
_DROP_IN = re.compile(r"(?P<unit>/usr/lib/systemd/(?:system|user)/[^/]+\.\w+)\.d/[^/]+\.conf")
_ROTATION = re.compile(r"/etc/logrotate\.d/[^/]+")
_COMMAND = re.compile(r"(?P<key>Exec\w+)\s*=\s*(?P<value>.*)")
_CONDITION = re.compile(r"(?:Condition|Assert)(?:FileIsExecutable|PathExists|FileNotEmpty)\s*=\s*\|?(?P<path>/\S*)")
_SCRIPT = re.compile(
    r"^[ \t]*(?:prerotate|postrotate|firstaction|lastaction|preremove)[ \t]*$(?P<text>.*?)^[ \t]*endscript\b",
    re.MULTILINE | re.DOTALL,
)
_SHELLS = frozenset({"/usr/bin/sh", "/usr/bin/bash", "/usr/bin/dash"})
_BUILTINS = re.compile(
    r"[\[.:]|alias|bg|break|builtin|cd|command|continue|echo|eval|exec|exit|export|false|fg|getopts|hash|jobs|kill|local|"
    r"printf|pwd|read|readonly|return|set|shift|source|test|times|trap|true|type|ulimit|umask|unset|wait"
)
_ASKING = frozenset({"command", "which", "type", "hash"})


@dataclass(frozen=True, slots=True, order=True)
class StrayCall:
    """The file ``path`` of ``package`` starts ``program``, which no package holds; or, without ``program``, holds a
    script that cannot be read, for ``cause``."""

    package: str
    path: str
    program: str
    cause: str = "no package holds it"


def is_calling(path: str) -> bool:
    """Whether a file of this path is one that :func:`stray_calls` reads."""
    return any(kind.fullmatch(path) for kind in (_UNIT, _DROP_IN, _ROTATION))


def stray_calls(texts: Mapping[str, tuple[str, str]], there: Collection[str]) -> list[StrayCall]:
    """Programs that units and log rotations start and that are not ``there``, sorted.

    A drop-in may take a command of its unit away. What a unit has as a condition, or a script asks for first, may be
    missing. A failure that is ignored (``-`` before a command) is one all the same: what was to happen does not.

    Args:
        texts: Path -> package and text, of every file :func:`is_calling` says yes to.
        there: Paths of all files and links of all packages.
    """
    found: set[StrayCall] = set()
    drop_ins: dict[str, list[str]] = {}
    for path in sorted(texts):
        if match := _DROP_IN.fullmatch(path):
            drop_ins.setdefault(match["unit"], []).append(path)
    for path, (package, text) in texts.items():
        try:
            if _UNIT.fullmatch(path):
                parts = [(one, *texts[one]) for one in (path, *drop_ins.get(path, ()))]
                found.update(call for call in _of_unit(parts) if not _is_there(call.program, there))
            elif _ROTATION.fullmatch(path):
                programs = {one for script in _SCRIPT.finditer(text) for one in _of_script(script["text"])}
                found.update(StrayCall(package, path, one) for one in programs if not _is_there(one, there))
        except NotUnderstoodError as error:
            found.add(StrayCall(package, path, "", f"its script is not understood: {error}"))
    return sorted(found)


def _of_unit(parts: Iterable[tuple[str, str, str]]) -> Iterator[StrayCall]:
    """Every command that is left when all (path, package, text) of a unit are read in order."""
    left: dict[str, list[StrayCall]] = {}
    conditions: set[str] = set()
    for path, package, text in parts:
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if match := _CONDITION.fullmatch(line.strip()):
                conditions.add(_real(match["path"]))
            elif match := _COMMAND.fullmatch(line.strip()):
                calls = left.setdefault(match["key"], [])
                if not match["value"]:
                    calls.clear()
                calls += (StrayCall(package, path, program) for program in _of_command(match["value"]))
    for calls in left.values():
        yield from (call for call in calls if _real(call.program) not in conditions)


def _of_command(value: str) -> Iterator[str]:
    value = value.lstrip("@-:+!|")
    try:
        words = shlex.split(value)
    except ValueError:
        # systemd quotes otherwise here and there; the program stands before all of it.
        words = value.split()
    if not words or "$" in words[0] or "%" in words[0]:
        return
    yield words[0]
    if _real(words[0]) in _SHELLS and len(words) > 2 and re.fullmatch(r"-[a-z]*c", words[1]):
        yield from _of_script(words[2].replace("$$", "$").replace("%%", "%"))


def _of_script(text: str) -> Iterator[str]:
    """Programs of a shell script as they are called there, but for those it looks for itself.

    Raises:
        NotUnderstoodError: the text is not shell that every shell reads alike.
    """
    every = list(commands(parse(text)))
    own = {one.name for one in every if isinstance(one, Function)}
    calls: list[str] = []
    asked: set[str] = set()
    for one in every:
        if not isinstance(one, Simple) or not one.words:
            continue
        words = [word.literal() or "" for word in one.words]
        if words[0] in ("[", "test", *_ASKING):
            asked.update(_real(word) for word in words[1:])
        if words[0] in ("exec", "command") and len(words) > 1 and not words[1].startswith("-"):
            words = words[1:]
        if words[0] and not _BUILTINS.fullmatch(words[0]) and words[0] not in own:
            calls.append(words[0])
    yield from (call for call in calls if _real(call) not in asked)


def _real(path: str) -> str:
    """The path behind the links that make ``/bin`` and ``/usr/bin`` one."""
    return re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", path)


def _is_there(program: str, there: Collection[str]) -> bool:
    if program.startswith("/"):
        return _real(program) in there
    return any(folder + program in there for folder in ("/usr/sbin/", "/usr/bin/"))
