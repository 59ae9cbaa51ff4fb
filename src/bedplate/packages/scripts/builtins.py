"""Rules for what the shell does itself, and for commands that only look or speak."""

from __future__ import annotations

import re

from bedplate.packages.scripts.claims import Claim, Kind, Unknown
from bedplate.packages.scripts.conditions import compare_versions, evaluate_test
from bedplate.packages.scripts.kinds import Call, Outcome, rule, safe_assignment
from bedplate.packages.scripts.state import Field

CONFMODULE = "/usr/share/debconf/confmodule"

HELPERS = {
    "/usr/lib/php/php-maintscript-helper": "php",
    "/usr/share/apache2/apache2-maintscript-helper": "apache2",
}
"""Files of functions of the packages named. Reading one sets variables of its own prefix and defines functions."""

_SHELL = Claim(Kind.SHELL)
_QUERY = Claim(Kind.QUERY)


@rule(":", "true")
def _true(call: Call) -> Outcome:
    return Outcome(_SHELL, status=True)


@rule("false")
def _false(call: Call) -> Outcome:
    return Outcome(_SHELL, status=False)


@rule("test", "[")
def _test(call: Call) -> Outcome | None:
    operands = call.operands
    if not call.exact:
        return Outcome(_QUERY)
    if call.fields[0] == "[":
        if not operands or operands[-1] != "]":
            return None
        operands = operands[:-1]
    return Outcome(_QUERY, status=evaluate_test(operands))


@rule("exit")
def _exit(call: Call) -> Outcome:
    return Outcome(_SHELL, ends="script")


@rule("return")
def _return(call: Call) -> Outcome:
    return Outcome(_SHELL, ends="return")


@rule("break", "continue", "umask", "wait", "sleep", "sync", "cd")
def _shell_only(call: Call) -> Claim:
    return _SHELL


@rule("set")
def _set(call: Call) -> Outcome | None:
    """Options keep the meaning of what follows, except -f, -n, -k and named ones."""
    operands = list(call.operands)
    while operands and operands[0] is not None and re.match(r"[-+][euxvC]+\Z", operands[0]):
        operands.pop(0)
    if not operands and call.exact:
        return Outcome(_SHELL, status=True)
    if operands and operands[0] == "--":
        return Outcome(_SHELL, positional=(tuple(operands[1:]) if call.exact else None,))
    return None


@rule("shift")
def _shift(call: Call) -> Outcome:
    known = call.state.positional
    count = call.operands[0] if call.operands else "1"
    if known is None or not call.exact or count is None or not count.isdigit() or int(count) > len(known):
        return Outcome(_SHELL, positional=(None,))
    return Outcome(_SHELL, positional=(known[int(count) :],))


@rule("unset")
def _unset(call: Call) -> Outcome | None:
    names = call.operands
    if not call.exact or any(name is None or not name.isidentifier() for name in names):
        return None
    return Outcome(_SHELL, assigns=tuple((name, None) for name in names if name), status=None)


@rule("read")
def _read(call: Call) -> Outcome | None:
    names = [operand for operand in call.operands if operand != "-r"]
    if not call.exact or any(name is None or not name.isidentifier() for name in names):
        return None
    if any(isinstance(safe_assignment(name or ""), Unknown) for name in names):
        return None
    return Outcome(_QUERY, assigns=tuple((name, None) for name in names if name))


@rule("command")
def _command(call: Call) -> Outcome | None:
    if call.operands[:1] in (("-v",), ("-V",)):
        return Outcome(_QUERY)
    if not call.operands or call.operands[0] is None or call.operands[0].startswith("-"):
        return None
    return Outcome(inner=Call(call.operands, call.exact, call.state, no_functions=True))


@rule(".")
def _source(call: Call) -> Outcome:
    if call.exact and call.operands == (CONFMODULE,):
        return Outcome(Claim(Kind.DEBCONF), loads_debconf=True, assigns=(("RET", None),))
    helper = HELPERS.get(call.operands[0] or "") if call.exact and len(call.operands) == 1 else None
    if helper is not None:
        # "@" cannot be part of a variable's name: a script cannot claim to have read the file.
        return Outcome(_SHELL, assigns=((f"{helper.upper()}_NEED_ACTION", None), (f"@{helper}", "read")))
    return Outcome(Unknown("runs another file in this shell"), forgets_all=True)


@rule("trap")
def _trap(call: Call) -> Outcome:
    """A function of the script, or nothing; a trap with commands of its own is of no known kind."""
    action = call.operands[0] if call.operands else None
    if action in ("", "-"):
        return Outcome(_SHELL)
    if action is None or None in (functions := call.state.functions.get(action, (None,))) or not functions:
        return Outcome(Unknown("a trap that can run anything"), forgets_all=True)
    return Outcome(_SHELL, later=Call((action,), True, call.state))


@rule("eval", "alias", "exec", "source", "builtin", "enable", "hash", "declare", "typeset", "let")
@rule("getopts", "mapfile", "readarray", "shopt", "unalias")
def _anything(call: Call) -> Outcome:
    return Outcome(Unknown(f"{call.fields[0]} can run or change anything"), forgets_all=True)


@rule("echo", "printf")
def _message(call: Call) -> Outcome | None:
    first = call.operands[0] if call.operands else ""
    if call.fields[0] == "printf" and (first is None or first.startswith("-")):
        return None
    return Outcome(Claim(Kind.MESSAGE))


@rule("cat", "readlink", "realpath", "basename", "dirname", "grep", "egrep", "fgrep", "cut", "head", "tail", "wc")
def _looks(call: Call) -> Claim:
    return _QUERY


@rule(
    "tr", "uname", "id", "getent", "stat", "md5sum", "sha256sum", "sha512sum", "cmp", "pidof", "pgrep", "which", "seq"
)
def _looks_too(call: Call) -> Claim:
    return _QUERY


@rule("ischroot", "findmnt", "mountpoint", "whoami", "tty", "ls", "who", "runlevel", "selinuxenabled", "dpkg-query")
@rule("df", "getcap", "aa-enabled")
def _looks_as_well(call: Call) -> Claim:
    return _QUERY


@rule("sort", "uniq")
def _filters(call: Call) -> Claim | None:
    """As filters only: with operands they may write a file."""
    plain = all(operand in ("-u", "-r", "-n", "-c", "-V", "-d") for operand in call.operands)
    return _QUERY if plain and call.exact else None


@rule("sed")
def _sed(call: Call) -> Claim | None:
    """Single substitutions and deletions only: sed scripts can write files and, in GNU sed, run commands."""
    operands = list(call.operands)
    scripts: list[Field] = []
    files: list[Field] = []
    while operands:
        operand = operands.pop(0)
        if operand in ("-n", "-E", "-r"):
            continue
        if operand in ("-e", "-ne") and operands:
            scripts.append(operands.pop(0))
        elif operand is not None and operand.startswith("-e") and len(operand) > 2:
            scripts.append(operand[2:])
        elif operand is not None and operand.startswith("-"):
            return None
        elif not scripts:
            scripts.append(operand)
        else:
            files.append(operand)
    if not call.exact or None in files or not scripts:
        return None
    return _QUERY if all(script is not None and _harmless_sed(script) for script in scripts) else None


def _harmless_sed(script: str) -> bool:
    found = re.match(r"(?:s(?P<d>[^\w\s\\;])|/)", script)
    if not found:
        return False
    delimiter = found.group("d") or "/"
    pieces = re.split(r"(?<!\\)" + re.escape(delimiter), script[found.end() :])
    if "\n" in script or "\\\\" in script:
        return False
    if found.group("d"):
        return len(pieces) == 3 and bool(re.match(r"[gIip0-9]*\Z", pieces[2]))
    return len(pieces) == 2 and pieces[1] in ("d", "p")


@rule("dpkg")
def _dpkg(call: Call) -> Outcome | None:
    match call.operands:
        case ("--compare-versions", *rest):
            return Outcome(_QUERY, status=compare_versions(rest) if call.exact else None)
        case (("-s" | "-l" | "-L" | "-S" | "--status" | "--list" | "--listfiles" | "--print-architecture"), *_):
            return Outcome(_QUERY)
        case _:
            return None


def _debconf(call: Call) -> Outcome | None:
    if not call.state.debconf:
        return None
    return Outcome(Claim(Kind.DEBCONF), assigns=(("RET", None),))


_DEBCONF_COMMANDS = """
    version capb input go get set fset fget reset subst stop purge metaget register unregister beginblock endblock
    settitle title info progress previous_module clear x_loadtemplatefile
"""
for _name in _DEBCONF_COMMANDS.split():
    rule(f"db_{_name}")(_debconf)
