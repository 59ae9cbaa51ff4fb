"""The text interface: questions at the console, answered one by one, checked as the answer file is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .answers import Answers, WrongAnswers, check
from .disks import Disk

Ask = Callable[[str], str]
Say = Callable[[str], None]


def asked(found: list[Disk], name: str, ask: Ask, say: Say) -> Answers | None:
    """Ask for everything; None when the person does not want to go on."""
    say(f"\n{name} will be written to a disk of this machine. Disks:\n")
    for number, disk in enumerate(found, 1):
        say(f"  {number}  {disk.path}  {disk.size >> 30} GiB  {disk.model} {disk.serial} {disk.refused}".rstrip())
    if not found:
        say("  none")
        return None
    while True:
        data: dict[str, Any] = {"version": 1, "after": "reboot"}
        number = ask("\nNumber of the disk (empty: stop): ").strip()
        if not number:
            return None
        if not number.isdigit() or not 1 <= int(number) <= len(found):
            say("There is no such disk.")
            continue
        disk = found[int(number) - 1]
        data["system"] = {"hostname": ask("Host name: ").strip()}
        data["user"] = {"name": ask("User: ").strip(), "ssh_keys": [ask("The user's SSH public key: ").strip()]}
        address = ask("Address with prefix (empty: DHCP): ").strip()
        if address:
            gateway = ask("Gateway: ").strip()
            servers = ask("Name servers: ").replace(",", " ").split()
            data["network"] = {"addresses": [address], "gateway": gateway, "dns": servers}
        data["swap"] = {"enabled": ask("Swap? [Y/n] ").strip().lower() not in ("n", "no")}
        data["disk"] = {"path": str(disk.path), "erase": True}
        try:
            answers = check(data)
        except WrongAnswers as error:
            say("\n".join(["This cannot be used:", *(f"  {problem}" for problem in error.problems)]))
            continue
        say(f"Everything on {disk.path} will be lost.")
        if ask("Type the name of the disk to go on: ").strip() == str(disk.path):
            return answers
        say("Nothing was written.")
