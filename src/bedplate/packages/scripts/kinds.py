"""The known kinds of command in maintainer scripts: a registry of rules, each a pattern over one parsed command.

A rule sees a command's fields after expansion and answers with a claim, or not. A command without a rule, with an
option its rule does not know, or whose name is not known, is of no known kind. Sources: the manual pages of the
programs named, debhelper(7), debconf-devel(7), Fedora's scriptlet macros.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bedplate.packages.scripts.claims import Claim, Judgement, Kind, Need, NeedKind, Unknown
from bedplate.packages.scripts.conditions import Tri
from bedplate.packages.scripts.state import Field, State

_PROGRAM_DIRECTORIES = frozenset(
    {"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/lib/systemd", "/usr/lib/runit-helper"}
)

# Variables that change what commands mean: an assignment to one is never just the shell's own business.
_TREACHEROUS = re.compile(
    r"(PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|CDPATH|LD_[A-Z_]+|DPKG_ROOT|DPKG_ADMINDIR|PERL5LIB|PERL5OPT"
    r"|PYTHON[A-Z]+|GLIBC_TUNABLES|SYSTEMD_[A-Z_]+|PS4|FPATH)\Z"
)


@dataclass(frozen=True, slots=True)
class Call:
    """A command to judge: its fields (unknown ones None); ``exact`` when there are no others behind them.

    ``no_functions`` says that it is a built-in or a program whatever functions there are (``command X``).
    """

    fields: tuple[Field, ...]
    exact: bool
    state: State
    no_functions: bool = False

    @property
    def operands(self) -> tuple[Field, ...]:
        """The fields behind the command's name."""
        return self.fields[1:]


_NOT_JUDGED = Unknown("not judged")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command is and does to the shell.

    ``inner`` is another command to judge in its place (``command X``), ``later`` one that runs besides it at some
    other time (``trap X``). ``ends`` is "script" or "return". ``positional``
    is a one-element tuple with the new positional parameters.
    """

    judgement: Judgement = _NOT_JUDGED
    status: Tri = None
    inner: Call | None = None
    later: Call | None = None
    ends: str = ""
    assigns: tuple[tuple[str, Field], ...] = ()
    positional: tuple[tuple[Field, ...] | None] | None = None
    forgets_all: bool = False
    loads_debconf: bool = False


Rule = Callable[[Call], Outcome | Claim | None]
"""Judges one command by name; None: this use of the command is of no known kind."""

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for commands of these names."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = function
        return function

    return register


def judge(call: Call) -> Outcome:
    """What ``call`` is. Functions of the script must have been looked up before."""
    from bedplate.packages.scripts import builtins, payload, programs  # noqa: F401  (they register the rules)

    name = call.fields[0] if call.fields else None
    if name is None:
        return Outcome(Unknown("a command whose name is not known"), forgets_all=True)
    directory, _, base = name.rpartition("/")
    if directory and directory not in _PROGRAM_DIRECTORIES:
        return Outcome(Unknown(f"{name} is of no known kind"))
    found = RULES.get(base)
    if found is None:
        return Outcome(Unknown(f"{base} is of no known kind"))
    result = found(call)
    if result is None:
        shown = " ".join("?" if known is None else known for known in call.fields[:4])
        return Outcome(Unknown(f"{shown!r}: this use is of no known kind"))
    return Outcome(result) if isinstance(result, Claim) else result


def safe_assignment(name: str) -> Judgement:
    """Whether setting a variable is the shell's own business."""
    if _TREACHEROUS.match(name):
        return Unknown(f"sets {name}, which changes what commands mean")
    return Claim(Kind.SHELL)


def judge_redirect(operator: str, target: Field) -> Judgement:
    """What a redirection is: harmless, or a file that is written."""
    if operator in (">&", "<&"):
        if target is not None and (target.isdigit() or target == "-"):
            return Claim(Kind.SHELL)
        return Unknown("a redirection to a file descriptor that is not a number")
    if operator == "&>":
        return Claim(Kind.SHELL)  # the parser takes it for /dev/null only
    if operator == "<":
        return Claim(Kind.QUERY)
    if target in ("/dev/null", "/dev/stderr", "/dev/stdout", "/dev/tty"):
        return Claim(Kind.SHELL)
    if target is not None and is_run_time(target):
        return Claim(Kind.RUN_TIME)
    if operator in (">", ">>", ">|") and target is not None and target.startswith("/") and ".." not in target:
        return Claim(Kind.PAYLOAD, (Need(NeedKind.OWNED, (canonical(target),)),))
    return Unknown(f"writes {target or 'a file whose name is not known'}")


def is_run_time(path: str) -> bool:
    """Whether ``path`` lies below /run, which no image holds."""
    return path.startswith(("/run/", "/var/run/")) and ".." not in path.split("/")


def canonical(path: str) -> str:
    """``path`` below the merged /usr: /bin/more and /usr/bin/more are one file."""
    path = re.sub(r"/{2,}", "/", path)
    return re.sub(r"\A/(bin|sbin|lib|lib32|lib64|libx32|libo32)/", r"/usr/\1/", path)
