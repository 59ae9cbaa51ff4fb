"""The text interface: questions at the console, each checked as the answer file is, then a summary and a last word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .answers import Answers, WrongAnswers, check, is_address, is_host, is_interface, is_key, is_user
from .disks import Disk

Ask = Callable[[str], str]
Say = Callable[[str], None]
_KEY_LENGTH = 24


def asked(found: list[Disk], name: str, needed: int, ask: Ask, say: Say, fetch: Ask) -> Answers | None:
    """Ask for everything; None when the person does not want to go on.

    Args:
        found: The machine's disks.
        name: Of the system.
        needed: The least size of a disk in bytes.
        fetch: Gives the text at an address: keys are long, and a console often takes no paste.
    """
    say(f"\n{name} will be written to a disk of this machine.\n")
    if not found:
        say("There is no disk but this medium. Attach one and start the machine again.")
        return None
    while True:
        disk = _disk(found, needed, ask, say)
        if disk is None:
            return None
        data = _data(disk, ask, say, fetch)
        try:
            answers = check(data)
        except WrongAnswers as error:
            say("\n".join(["This cannot be used:", *(f"  {problem}" for problem in error.problems)]))
            continue
        say(_summary(answers, disk))
        if ask(f"\nType {disk.path} to go on, anything else to begin again: ").strip() == str(disk.path):
            return answers
        say("\nNothing was written.\n")


def _disk(found: list[Disk], needed: int, ask: Ask, say: Say) -> Disk | None:
    say("Disks:")
    refused = {disk.path: disk.refused or ("too small" if disk.size < needed else "") for disk in found}
    for number, disk in enumerate(found, 1):
        words = [str(number), str(disk.path), f"{disk.size >> 20} MiB", disk.model, disk.serial]
        note = refused[disk.path]
        say("  " + "  ".join(word for word in words if word) + (f"  ({note})" if note else ""))
    say(f"The system needs {-(-needed >> 20)} MiB.\n")
    while True:
        text = ask("Number of the disk (empty: stop): ").strip()
        if not text:
            return None
        if not text.isdecimal() or not 1 <= int(text) <= len(found):
            say(f"  Type a number from 1 to {len(found)}.")
            continue
        disk = found[int(text) - 1]
        if not refused[disk.path]:
            return disk
        say(f"  {disk.path} cannot be written: {refused[disk.path]}.")


def _data(disk: Disk, ask: Ask, say: Say, fetch: Ask) -> dict[str, Any]:
    def until(prompt: str, good: Callable[[str], object], what: str) -> str:
        while not good(text := ask(prompt).strip()):
            say(f"  {text!r} is not {what}.")
        return text

    data: dict[str, Any] = {"version": 1, "after": "reboot", "disk": {"path": str(disk.path), "erase": True}}
    data["system"] = {"hostname": until("Host name: ", is_host, "a host name in small letters")}
    user = until("User: ", lambda text: is_user(text) and text != "root", "a user name (root cannot log in)")
    data["user"] = {"name": user, "ssh_keys": _keys(user, ask, say, fetch)}
    address = until(
        "Address with prefix, such as 192.0.2.5/24 (empty: DHCP): ",
        lambda text: not text or is_interface(text),
        "an address with a prefix",
    )
    if address:
        network: dict[str, Any] = {"addresses": [address]}
        gateway = until("Gateway (empty: none): ", lambda text: not text or is_address(text), "an address")
        if gateway:
            network["gateway"] = gateway
        servers = until(
            "Name servers (empty: none): ",
            lambda text: all(is_address(one) for one in text.replace(",", " ").split()),
            "a list of addresses",
        )
        data["network"] = {**network, "dns": servers.replace(",", " ").split()}
    swap = until("Swap? [Y/n] ", lambda text: text.lower() in ("", "y", "yes", "n", "no"), "y or n")
    data["swap"] = {"enabled": not swap.lower().startswith("n")}
    return data


def _keys(user: str, ask: Ask, say: Say, fetch: Ask) -> list[str]:
    while True:
        text = ask(f"SSH public key of {user}, or the https address of a list of keys: ").strip()
        lines = [text]
        if text.startswith(("https://", "http://")):
            try:
                lines = [line.strip() for line in fetch(text).splitlines() if line.strip()]
            except WrongAnswers as error:
                say(f"  {error}")
                continue
        wrong = [line for line in lines if not is_key(line)]
        if lines and not wrong:
            return lines
        say(f"  {(wrong or [text])[0][:60]!r} is not an OpenSSH public key.")


def _summary(answers: Answers, disk: Disk) -> str:
    net = answers.network
    address = "DHCP"
    if net.addresses:
        servers = ", ".join(net.dns) or "none"
        address = f"{', '.join(net.addresses)}, gateway {net.gateway or 'none'}, name servers {servers}"
    rows = [
        ("disk", f"{disk.path} ({disk.size >> 20} MiB): everything on it will be lost"),
        ("host name", answers.hostname),
        ("user", f"{answers.user}, with {', '.join(_short(key) for key in answers.ssh_keys)}"),
        ("network", address),
        ("swap", "none" if answers.swap_mib == 0 else "as the disk has room"),
    ]
    return "\n" + "\n".join(f"  {what:10} {text}" for what, text in rows)


def _short(key: str) -> str:
    kind, text, *comment = key.split(None, 2)
    return " ".join([kind, text if len(text) <= _KEY_LENGTH else f"…{text[-_KEY_LENGTH // 2 :]}", *comment])
