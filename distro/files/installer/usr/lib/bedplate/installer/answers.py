"""The answer file: TOML, checked as a whole, every mistake named at once."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 1 << 16
_MAX_HOST = 253
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_KEY_KINDS = r"ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-\S+@openssh\.com"
_KEY = re.compile(rf"({_KEY_KINDS}) [A-Za-z0-9+/]+={{0,3}}( [^\n]*)?")
_CARD = re.compile(r"[A-Za-z0-9*?_.-]{1,32}")
AFTER = ("poweroff", "reboot", "shell")


class WrongAnswers(Exception):
    """The answers cannot be used; ``problems`` names each mistake with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class DiskChoice:
    """Which disk: by serial, by path, or the only one there is. ``erase`` allows one that is not empty."""

    serial: str = ""
    path: str = ""
    erase: bool = False


@dataclass(frozen=True)
class Network:
    """DHCP, or fixed addresses (with prefix) on the interface ``name`` matches."""

    name: str = "e*"
    addresses: list[str] = field(default_factory=list)
    gateway: str = ""
    dns: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Answers:
    """Everything an installation needs to know. ``swap_mib`` is 0 for none, None for the image's own choice."""

    disk: DiskChoice
    hostname: str
    user: str
    ssh_keys: list[str]
    network: Network
    swap_mib: int | None
    encryption: str
    after: str


class _Table:
    """One table of the file: what is asked for is taken out, what is left at the end is unknown."""

    def __init__(self, name: str, data: Any, problems: list[str]) -> None:
        self._name, self._problems = name, problems
        self._data = dict(data) if isinstance(data, dict) else {}
        if not isinstance(data, dict):
            problems.append(f"[{name}]: not a table")

    def take(
        self, key: str, kind: type, default: Any, good: Callable[[Any], object] | None = None, what: str = ""
    ) -> Any:
        value = self._data.pop(key, None)
        place = f"{self._name}.{key}" if self._name else key
        if value is None:
            if default is ...:
                self._problems.append(f"{place}: missing")
                return kind()
            return default
        if type(value) is not kind:
            self._problems.append(f"{place}: {value!r} is not {_KINDS[kind]}")
            return kind()
        if good is not None and not good(value):
            self._problems.append(f"{place}: {value!r} is not {what}")
        return value

    def texts(self, key: str, default: Any, good: Callable[[str], object], what: str) -> list[str]:
        found = self.take(key, list, default)
        for number, value in enumerate(found):
            if not isinstance(value, str) or not good(value):
                self._problems.append(f"{self._name}.{key}[{number}]: {value!r} is not {what}")
        return found

    def table(self, key: str) -> _Table:
        return _Table(key, self._data.pop(key, {}), self._problems)

    def end(self) -> None:
        for key in self._data:
            self._problems.append(f"{self._name + '.' if self._name else ''}{key}: unknown")


def is_host(text: str) -> bool:
    """Whether this is a host name, short or full, in small letters."""
    return _HOST.fullmatch(text) is not None and len(text) <= _MAX_HOST


def is_user(text: str) -> bool:
    """Whether a user can be called so."""
    return _USER.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether this is a line of an OpenSSH public key."""
    return _KEY.fullmatch(text) is not None


_KINDS = {str: "a text", bool: "true or false", int: "a number", list: "a list"}


def is_interface(text: str) -> bool:
    """Whether this is an address with a prefix."""
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text


def is_address(text: str) -> bool:
    """Whether this is an address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse(text: str) -> Answers:
    """The answers in ``text``.

    Raises:
        WrongAnswers: not TOML, or any number of mistakes in it.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongAnswers([f"not valid TOML: {error}"]) from error
    return check(data)


def check(data: dict[str, Any]) -> Answers:
    """The same from plain data; see :func:`parse`."""
    problems: list[str] = []
    top = _Table("", data, problems)
    top.take("version", int, ..., lambda value: value == 1, "1, the only version there is")
    after = top.take("after", str, "poweroff", AFTER.__contains__, f"one of {', '.join(AFTER)}")
    disk = top.table("disk")
    choice = DiskChoice(
        disk.take("serial", str, ""),
        disk.take("path", str, "", lambda value: value.startswith("/dev/"), "a path below /dev"),
        disk.take("erase", bool, False),
    )
    if choice.serial and choice.path:
        problems.append("disk: serial and path are given, name the disk by one of them")
    system = top.table("system")
    hostname = system.take("hostname", str, ..., is_host, "a host name in small letters")
    user = top.table("user")
    name = user.take("name", str, ..., is_user, "a user name")
    if name == "root":
        problems.append("user.name: root cannot log in, name another user")
    keys = user.texts("ssh_keys", ..., is_key, "an OpenSSH public key")
    if not keys and not any(problem.startswith("user.ssh_keys") for problem in problems):
        problems.append("user.ssh_keys: nobody could log in without one")
    net = top.table("network")
    network = Network(
        net.take("interface", str, "e*", _CARD.fullmatch, "a pattern of interface names"),
        net.texts("addresses", [], is_interface, "an address with a prefix, such as 192.0.2.5/24"),
        net.take("gateway", str, "", is_address, "an address"),
        net.texts("dns", [], is_address, "an address"),
    )
    if network.gateway and not network.addresses:
        problems.append("network.gateway: there are no addresses, so DHCP gives it")
    swap = top.table("swap")
    enabled = swap.take("enabled", bool, True)
    size = swap.take("size_mib", int, None, lambda value: 64 <= value <= 1 << 20, "between 64 and 1048576")
    encryption = top.table("encryption")
    mode = encryption.take("mode", str, "none", ("none",).__contains__, "a mode this image has (none)")
    for table in (disk, system, user, net, swap, encryption, top):
        table.end()
    if problems:
        raise WrongAnswers(problems)
    return Answers(choice, hostname, name, keys, network, size if enabled else 0, mode, after)
