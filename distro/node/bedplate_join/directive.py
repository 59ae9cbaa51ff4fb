"""The directive ``bedplate:`` of cloud-config, checked whole before anything is done: every mistake with its key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bedplate_join.errors import BadInput

KEYS: Mapping[str, str] = {
    "domain": "name of the domain, such as example.com",
    "server": "name or address of a domain controller; without it, DNS knows",
    "computer_ou": "organisational unit of the computer's account, such as OU=Servers,OU=Berlin",
    "user": "who may join computers",
    "password_credential": "name of the system credential that holds the user's password",
    "one_time_password": "password of a computer account that was made before; of no use afterwards",
    "admins": "groups that may log in and use sudo",
    "login": "groups that may log in, or the word all",
}
_TOP = {"shell": "default shell", "join": "a directory to join"}
_DOMAIN = re.compile(r"(?=.{3,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_USER = re.compile(r"[^\s/\\@:\"'-][^/\\:\"'\n]{0,255}")
_UNIT = re.compile(r"(?i)(OU|CN|DC)=[^\n\x00]{1,500}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_GROUP = re.compile(r"[^\s,/\\\"@:%#!=()-][^,/\\\"@:%#!=()\n\x00]{0,254}")
_LINE = re.compile(r"[^\n]{1,256}")
_SHELL = re.compile(r"/[A-Za-z0-9_./+-]+|[a-z][a-z0-9+.-]*")
REMEDY = "correct the user data and start the machine anew, or run: bedplate-join join --help"


@dataclass(frozen=True, slots=True)
class Request:
    """A join that was asked for. ``login`` None means all users of the domain. Either ``one_time_password`` or ``user``
    with the name of a credential (or with a password given apart, at a terminal)."""

    domain: str
    server: str = ""
    computer_ou: str = ""
    user: str = ""
    password_credential: str = ""
    one_time_password: str = ""
    admins: tuple[str, ...] = ()
    login: tuple[str, ...] | None = ()

    @property
    def realm(self) -> str:
        """The Kerberos realm."""
        return self.domain.upper()

    def as_json(self) -> dict[str, Any]:
        """For :func:`parse_join`, and to be kept."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        if self.login is None:
            values["login"] = "all"
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class Directive:
    """What ``bedplate:`` asks for."""

    shell: str = ""
    join: Request | None = None


def parse_directive(values: object) -> Directive:
    """The directive from the value of ``bedplate``.

    Raises:
        BadInput: mistakes, all at once.
    """
    mistakes: list[str] = []
    if not isinstance(values, Mapping):
        raise BadInput(
            "bedplate: write keys below it", remedy=REMEDY, mistakes=(f"bedplate: write {' or '.join(_TOP)} below it",)
        )
    _unknown("bedplate", values, _TOP, mistakes)
    shell = _text("bedplate", values, "shell", _SHELL, "a path or a package's name, such as /bin/zsh", mistakes)
    join = None
    if "join" in values:
        join = _join(values["join"], mistakes, needs_password=True)
    _raise(mistakes)
    return Directive(shell, join)


def parse_join(values: object, *, needs_password: bool = True) -> Request:
    """The join from the value of ``bedplate.join``.

    Raises:
        BadInput: mistakes, all at once.
    """
    mistakes: list[str] = []
    request = _join(values, mistakes, needs_password=needs_password)
    _raise(mistakes)
    assert request is not None
    return request


def _raise(mistakes: list[str]) -> None:
    if mistakes:
        raise BadInput("; ".join(mistakes), remedy=REMEDY, mistakes=tuple(mistakes))


def _join(values: object, mistakes: list[str], *, needs_password: bool) -> Request | None:
    name = "bedplate.join"
    if not isinstance(values, Mapping):
        mistakes.append(f"{name}: write keys below it, at least domain")
        return None
    if "password" in values:
        mistakes.append(
            f"{name}.password: user data can be read by whoever gets at the disk or service it came from;"
            " give the password as a system credential and its name in password_credential, or use one_time_password"
        )
    _unknown(name, {key: value for key, value in values.items() if key != "password"}, KEYS, mistakes)
    if "domain" not in values:
        mistakes.append(f"{name}.domain: is missing; write the {KEYS['domain']}")
    found = {
        "domain": _text(name, values, "domain", _DOMAIN, "a full name, such as example.com", mistakes).lower(),
        "server": _text(name, values, "server", _HOST, "a host's name or address", mistakes),
        "computer_ou": _text(name, values, "computer_ou", _UNIT, "a unit, such as OU=Servers", mistakes),
        "user": _text(name, values, "user", _USER, "the name alone, without the domain", mistakes),
        "password_credential": _text(name, values, "password_credential", _CREDENTIAL, "a credential's name", mistakes),
        "one_time_password": _text(name, values, "one_time_password", _LINE, "one line", mistakes),
    }
    admins = _groups(name, values, "admins", mistakes)
    login = None if values.get("login") == "all" else _groups(name, values, "login", mistakes)
    if "one_time_password" in values and ("user" in values or "password_credential" in values):
        mistakes.append(f"{name}.one_time_password: stands alone; leave out user and password_credential, or this")
    elif "one_time_password" not in values:
        if "user" not in values:
            mistakes.append(f"{name}.user: is missing; write {KEYS['user']}, or a one_time_password")
        if needs_password and "password_credential" not in values and "password" not in values:
            mistakes.append(f"{name}.password_credential: is missing; write the {KEYS['password_credential']}")
    return Request(**found, admins=admins, login=login)


def _unknown(where: str, values: Mapping[Any, Any], known: Mapping[str, str], mistakes: list[str]) -> None:
    for key in values:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), list(known), 1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
        mistakes.append(f"{where}.{key}: no such key{hint}")


def _text(
    where: str, values: Mapping[Any, Any], key: str, form: re.Pattern[str], example: str, mistakes: list[str]
) -> str:
    if key not in values:
        return ""
    value = values[key]
    if isinstance(value, str) and form.fullmatch(value):
        return value
    # What is secret is not repeated.
    shown = "" if key == "one_time_password" else f"{value!r:.80} does not fit; "
    mistakes.append(f"{where}.{key}: {shown}write {example}")
    return ""


def _groups(where: str, values: Mapping[Any, Any], key: str, mistakes: list[str]) -> tuple[str, ...]:
    value = values.get(key, [])
    if isinstance(value, list) and all(isinstance(one, str) and _GROUP.fullmatch(one) for one in value):
        return tuple(value)
    extra = " or the word all" if key == "login" else ""
    mistakes.append(f"{where}.{key}: write a list of groups without their domain{extra}, such as [server-admins]")
    return ()
