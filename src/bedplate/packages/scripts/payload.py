"""Rules for commands that make files, links and directories, and for the helpers of packages that enable modules.

What such a command makes must be declared as a fact of the package (``directories``, ``files``, ``links``, ``modes``):
then our RPM holds it, and no script is needed.
"""

from __future__ import annotations

import posixpath
import re

from bedplate.packages.scripts.claims import Claim, Kind, Need, NeedKind
from bedplate.packages.scripts.kinds import Call, Outcome, canonical, rule
from bedplate.packages.scripts.programs import made, split_options

_QUERY = Claim(Kind.QUERY)


@rule("install")
def _install(call: Call) -> Claim | None:
    """``install -d DIRECTORY…`` and ``install SOURCE TARGET``."""
    parsed = split_options(
        call,
        flags=("-d", "-D", "-p", "--directory"),
        valued=("-m", "-o", "-g", "--mode", "--owner", "--group"),
    )
    if parsed is None:
        return None
    options, operands = parsed
    if options.keys() & {"-d", "--directory"}:
        return made(operands)
    return made(operands[1:]) if len(operands) == 2 else None


@rule("ln")
def _link(call: Call) -> Claim | None:
    parsed = split_options(call, flags=("-s", "-f", "-sf", "-sfn", "-sn", "-fs", "-nsf", "-snf", "-sfT", "--symbolic"))
    if parsed is None or len(parsed[1]) != 2 or not any("s" in option for option in parsed[0]):
        return None
    target, link = parsed[1]
    return made([posixpath.join(link, posixpath.basename(target)) if link.endswith("/") else link])


@rule("cp")
def _copy(call: Call) -> Claim | None:
    parsed = split_options(call, flags=("-p", "-a", "-f", "--preserve"))
    if parsed is None or len(parsed[1]) != 2 or parsed[1][1].endswith("/"):
        return None
    return made(parsed[1][1:])


_LEFTOVER = re.compile(r".*\.(dpkg|ucf)-(new|bak|old|dist|tmp|backup)\Z")


@rule("mv")
def _leftover(call: Call) -> Claim | None:
    """Takes back what a package manager put beside a file at an upgrade; a new system has no such file."""
    parsed = split_options(call, flags=("-f", "-n", "-v"))
    if parsed is None or len(parsed[1]) != 2 or not _LEFTOVER.match(parsed[1][0]):
        return None
    return Claim(Kind.CONFFILES)


@rule("setcap")
def _capabilities(call: Call) -> Claim | None:
    operands = [operand for operand in call.operands if operand != "-q"]
    if not call.exact or len(operands) != 2 or operands[1] is None or not operands[1].startswith("/"):
        return None
    return Claim(Kind.MODES, (Need(NeedKind.CAPABILITY, (canonical(operands[1]),)),))


@rule("apparmor_parser", "aa-status")
def _apparmor(call: Call) -> Claim:
    return Claim(Kind.APPARMOR)


@rule("update-menus", "update-icon-caches", "gtk-update-icon-cache", "update-mime-database", "update-desktop-database")
@rule("update-mime", "update-info-dir", "fc-cache", "helpztags")
def _desktop(call: Call) -> Claim:
    return Claim(Kind.DOCUMENTATION)


@rule("update-xmlcatalog", "update-catalog")
def _catalogs(call: Call) -> Claim:
    return Claim(Kind.XML_CATALOG)


@rule("hostname", "date", "nproc")
def _asks(call: Call) -> Claim | None:
    """Only with options that ask; with an operand ``hostname`` sets the name."""
    plain = all(
        operand is not None and operand.startswith(("-f", "--fqdn", "-s", "-d", "+")) for operand in call.operands
    )
    return _QUERY if plain and call.exact else None


@rule("expr", "tac", "a2query", "phpquery", "ss", "pg_lsclusters", "logger")
def _looks(call: Call) -> Claim:
    return _QUERY


def interpreter_call(call: Call) -> Claim | None:
    """Python compiling its own library (``python3.13 -E -S …/py_compile.py FILE…``)."""
    known = [operand for operand in call.operands if operand not in ("-E", "-S", "-O", "-OO")]
    script = known[0] if known else None
    if script is not None and re.match(r"/usr/lib/python3\.[0-9]+/py_compile\.py\Z", script):
        return Claim(Kind.BYTE_CODE)
    return None


for _minor in range(11, 20):
    rule(f"python3.{_minor}")(interpreter_call)


@rule("php_invoke")
def _php(call: Call) -> Outcome | None:
    """``php_invoke enmod VERSION SAPI MODULE``: links below ``/etc/php/VERSION/*/conf.d``."""
    match call.operands:
        case ("enmod", str(version), str(), str(module)) if call.exact and _has_helper(call, "php"):
            need = Need(NeedKind.LINK, (f"/etc/php/{version}/*/conf.d/*-{module}.ini",))
            return Outcome(Claim(Kind.MODULES, (need,)))
        case _:
            return None


@rule("phpenmod")
def _php_module(call: Call) -> Claim | None:
    """``phpenmod MODULE``: the same for every version and way of running."""
    if not call.exact or len(call.operands) != 1 or call.operands[0] is None or call.operands[0].startswith("-"):
        return None
    return Claim(Kind.MODULES, (Need(NeedKind.LINK, (f"/etc/php/*/conf.d/*-{call.operands[0]}.ini",)),))


@rule("apache2_invoke")
def _apache(call: Call) -> Outcome | None:
    """``apache2_invoke enmod|enconf|ensite NAME``: links below ``/etc/apache2/mods-enabled`` and its kin."""
    folders = {"enmod": "mods", "enconf": "conf", "ensite": "sites"}
    match call.operands:
        case (str(verb), str(name)) if verb in folders and call.exact and _has_helper(call, "apache2"):
            need = Need(NeedKind.LINK, (f"/etc/apache2/{folders[verb]}-enabled/{name.removesuffix('.conf')}.*",))
            return Outcome(Claim(Kind.MODULES, (need,)))
        case _:
            return None


@rule("apache2_msg", "php_msg")
def _helper_message(call: Call) -> Claim:
    return Claim(Kind.MESSAGE)


@rule("apache2_needs_action", "apache2_has_module")
def _helper_query(call: Call) -> Claim:
    return _QUERY


@rule("apache2_reload")
def _helper_reload(call: Call) -> Claim:
    return Claim(Kind.SERVICES)


def _has_helper(call: Call, name: str) -> bool:
    """Whether the helper was read: it alone gives the function its meaning."""
    return call.state.variables.get(f"@{name}") == "read"
