"""The running system as health is judged by: units, listening sockets, network. systemctl(1), proc(5)."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bedplate_patch.door import Completed, run

_EPHEMERAL = 32768


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What runs: failed units, active services, listening sockets as ``tcp/22@0.0.0.0``, interfaces that are up,
    default routes as ``eth0 10.0.2.2``."""

    failed: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {key: list(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Snapshot:
        """From ``as_json``."""
        return cls(**{key: tuple(values.get(key, ())) for key in cls.__dataclass_fields__})


class System:
    """The machine this runs on."""

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self.proc = proc
        self.sys = sys

    def snapshot(self) -> Snapshot:
        """The state of this moment."""
        return Snapshot(
            self._units("failed"),
            self._units("active"),
            listening(self.proc / "1/net" if (self.proc / "1/net").is_dir() else self.proc / "net"),
            interfaces_up(self.sys / "class/net"),
            default_routes(self.proc / "net/route"),
        )

    def _units(self, state: str) -> tuple[str, ...]:
        kinds = ["--type=service", "--type=socket", "--type=timer", "--type=mount", "--type=path"]
        if state == "active":
            kinds = ["--type=service"]
        done = run(
            ["systemctl", "list-units", f"--state={state}", *kinds, "--plain", "--no-legend", "--full"], seconds=60
        )
        names = [line.split()[0] for line in done.text.splitlines() if line.split() and "." in line.split()[0]]
        return tuple(sorted(names)) if done.code == 0 else ()

    def ordering(self, units: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Unit -> what it is ordered after."""
        found: dict[str, tuple[str, ...]] = {}
        for unit in units:
            found[unit] = tuple(run(["systemctl", "show", "--value", "-p", "After", unit], seconds=60).text.split())
        return found

    def active(self, unit: str) -> bool:
        """Whether a unit is active."""
        return run(["systemctl", "is-active", "--quiet", unit], seconds=60).code == 0

    def expected(self, unit: str) -> bool:
        """Whether a service ought to run all the time: enabled, and not one that ends by itself."""
        keys = ("Type", "UnitFileState")
        done = run(["systemctl", "show", unit, *(f"--property={key}" for key in keys)], seconds=60)
        values = dict(line.partition("=")[::2] for line in done.text.splitlines())
        return values.get("UnitFileState", "").startswith("enabled") and values.get("Type") != "oneshot"

    def restart(self, unit: str) -> Completed:
        """Restart a unit if it runs."""
        return run(["systemctl", "try-restart", unit], seconds=300)

    def start(self, unit: str) -> Completed:
        """Start a unit that ought to run, whatever happened to it before."""
        run(["systemctl", "reset-failed", unit], seconds=60)
        return run(["systemctl", "start", unit], seconds=300)

    def reload_manager(self) -> None:
        """Unit files are read anew."""
        run(["systemctl", "daemon-reload"], seconds=300)

    def reboot(self) -> None:
        """Restart the machine."""
        run(["systemctl", "--no-block", "reboot"], seconds=60)

    def reboot_at_once(self) -> None:
        """Restart a machine that cannot stop its services any more."""
        os.sync()
        run(["systemctl", "--force", "reboot"], seconds=60)

    def boot_id(self) -> str:
        """The kernel's name for this boot."""
        return (self.proc / "sys/kernel/random/boot_id").read_text().strip()

    def run_check(self, command: Sequence[str], seconds: float) -> Completed:
        """Run a check of the operator's."""
        return run(command, seconds=seconds, environment={"PATH": "/usr/sbin:/usr/bin"})


def listening(net: Path) -> tuple[str, ...]:
    """Listening TCP and bound UDP sockets below port 32768, from /proc/net."""
    found = set()
    for name, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        try:
            lines = (net / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) < 4 or fields[3] != state:
                continue
            address, _, port = fields[1].partition(":")
            if name.startswith("tcp") or int(port, 16) < _EPHEMERAL:
                found.add(f"{name.rstrip('6')}/{int(port, 16)}@{_address(address)}")
    return tuple(sorted(found))


def _address(text: str) -> str:
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    return str(ip_address(b"".join(words)))


def interfaces_up(folder: Path) -> tuple[str, ...]:
    """Network interfaces that are up, the loopback apart."""
    found = []
    for one in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            state = (one / "operstate").read_text().strip()
        except OSError:
            continue
        if state == "up" and one.name != "lo" and not one.name.startswith(("veth", "cali", "lxc")):
            found.append(one.name)
    return tuple(found)


def default_routes(path: Path) -> tuple[str, ...]:
    """IPv4 default routes, as ``interface gateway``."""
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:
        return ()
    rows = [line.split() for line in lines]
    return tuple(
        sorted({f"{row[0]} {_address(row[2])}" for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"})
    )
