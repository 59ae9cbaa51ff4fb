"""The installer: what it refuses, its questions, power lost while it writes, and a disk that boots by itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedplate.compose.gpt import read_gpt
from bedplate.emulator.accelerator import choose
from bedplate.emulator.boot import diagnose
from bedplate.emulator.channel import plain_text
from bedplate.emulator.machine import Machine
from bedplate.emulator.options import Drive, MachineOptions
from bedplate.emulator.ssh import SshAccess, wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.formats import add_formats
from bedplate.flows.images import find_image
from bedplate.flows.tracks import build_tracks
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BedplateError
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.vm

GIB = 1 << 30
MIB = 1 << 20
SECONDS = 1800.0
PROMPT = r"\]?# $"
# The address is the one the emulator's forwarding leads to; that it is not from DHCP is asked below.
ANSWERS = """
version = 1
after = "poweroff"
[disk]
serial = "target"
[system]
hostname = "installed.example.com"
[user]
name = "{user}"
ssh_keys = ["{key}"]
[network]
addresses = ["10.0.2.15/24"]
gateway = "10.0.2.2"
dns = ["10.0.2.3"]
[swap]
size_mib = 256
"""


@dataclass(frozen=True)
class Medium:
    """The medium, the machine's keys, an ssh key, and disks of three kinds."""

    path: Path
    options: MachineOptions
    access: SshAccess
    key: str
    toolbox: Toolbox
    small: Path
    full: Path
    target: Path

    @contextmanager
    def booted(self, answers: str) -> Iterator[Machine]:
        """A machine that starts from the medium and finds ``answers``."""
        drives = [Drive(path, path.name, read_only=False) for path in (self.small, self.full, self.target)]
        wanted = replace(
            self.options,
            image=self.path,
            disk_bytes=self.path.stat().st_size,
            drives=tuple(drives),
            credentials={"bedplate.answers": answers.encode()},
            restart=False,
        )
        with Machine(wanted, choose(self.toolbox), self.toolbox) as machine:
            yield machine


class Person:
    """Somebody at the console, who reads what came since they last typed."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._at = 0

    def sees(self, pattern: str) -> str:
        """Wait until ``pattern`` is there, and give all that is new, as plain text."""
        end = time.monotonic() + SECONDS
        while True:
            text = plain_text(self._machine.console.data)[self._at :]
            if re.search(pattern, text):
                return text
            assert self._machine.running and time.monotonic() < end, f"no {pattern!r} in:\n{text[-3000:]}"
            self._machine.wait(0.2)

    def types(self, line: str, pattern: str) -> str:
        """Type a line and wait for what it brings."""
        self._at = len(plain_text(self._machine.console.data))
        self._machine.console.send(line.encode() + b"\r")
        return self.sees(pattern)


@pytest.fixture(scope="module")
def medium(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Medium:
    place = tmp_path_factory.mktemp("installer")
    build = add_formats(workspace, build_tracks(workspace, ["server"]).builds[0], ["installer"])
    options = machine_options(workspace, find_image(workspace, str(build.directory)))
    disks = {"small": 64 * MIB, "full": 4 * GIB, "target": 8 * GIB}
    for name, size in disks.items():
        with (place / name).open("xb") as stream:
            stream.truncate(size)
            stream.write(b"somebody's data" if name == "full" else b"")
    reached, access = with_ssh(options, place)
    key = reached.credentials["ssh.authorized_keys.root"].decode().strip()
    options = replace(reached, credentials={})
    return Medium(build.directory / "installer.raw", options, access, key, toolbox, *(place / name for name in disks))


def blocks(path: Path) -> int:
    """How much of a sparse file was ever written."""
    return path.stat().st_blocks


def test_what_is_wrong_is_told_before_anything_is_written_and_power_may_be_lost(medium: Medium) -> None:
    before = [blocks(path) for path in (medium.small, medium.full, medium.target)]
    with medium.booted(ANSWERS.format(user="root", key="rubbish")) as machine:
        person = Person(machine)
        said = person.sees(r"exit turns the machine off[^#]*" + PROMPT)
        assert "nothing was written" in said and "user.name: root" in said and "user.ssh_keys[0]" in said

        correct = f"sed -e 's/\"root\"/\"ada\"/' -e 's#rubbish#{medium.key}#'"
        files = "for x in small full; do sed s/target/$x/ good.toml > $x.toml; done"
        person.types(f"{correct} $CREDENTIALS_DIRECTORY/bedplate.answers > good.toml; {files}; echo made", r"\nmade\n")
        said = person.types("bedplate-install small.toml; echo status $?", r"status \d")
        assert "has 64 MiB, the system needs" in said and "nothing was written" in said and "status 2" in said
        said = person.types("bedplate-install full.toml; echo status $?", r"status \d")
        assert "holds something" in said and "erase = true" in said and "status 2" in said
        said = person.types("bedplate-install nothing.toml; echo status $?", r"status \d")
        assert "nothing.toml cannot be read" in said and "status 2" in said

        said = person.types("bedplate-install --ask; echo status $?", r"Number of the disk.*: $")
        assert re.search(r"1  /dev/\w+  64 MiB .*\(too small\)", said) and "The system needs" in said
        assert "cannot be written: too small" in person.types("1", r"small\.\n.*Number of the disk.*: $")
        person.types("3", r"Host name: $")
        assert "is not a host name" in person.types("Web 1", r"\n.*Host name: $")
        person.types("web1", r"User: $")
        person.types("ada", r"SSH public key.*: $")
        assert "is not an OpenSSH public key" in person.types("ssh-ed25519", r"\n.*SSH public key.*: $")
        person.types(medium.key, r"Address.*: $")
        person.types("", r"Swap\? \[Y/n\] $")
        said = person.types("", r"begin again: $")
        for words in ("everything on it will be lost", "web1", "ada, with ssh-ed25519", "DHCP"):
            assert words in said
        assert "Nothing was written." in person.types("no", r"Number of the disk.*: $")
        assert "stopped; nothing was written" in person.types("", r"status 1")
        assert before == [blocks(path) for path in (medium.small, medium.full, medium.target)]

        person.types("bedplate-install good.toml", r"% written")
        machine.kill()
    assert blocks(medium.target) > before[2]
    with pytest.raises(BedplateError):
        read_gpt(medium.target)


def test_a_half_written_disk_boots_nothing(medium: Medium) -> None:
    with Machine(replace(medium.options, image=medium.target), choose(medium.toolbox), medium.toolbox) as machine:
        end = time.monotonic() + SECONDS
        while (meaning := diagnose(machine.console.data)) is None and time.monotonic() < end:
            machine.wait(0.5)
    assert meaning is not None and meaning.id == "no-bootable-device"


def test_it_is_installed_unattended_and_boots_by_itself(medium: Medium) -> None:
    with medium.booted(ANSWERS.format(user="ada", key=medium.key)) as machine:
        end = time.monotonic() + SECONDS
        while machine.running and time.monotonic() < end:
            machine.wait(1)
            assert b"installer: failed" not in machine.console.data
        said = plain_text(machine.console.data)
    assert re.search(r"done: /dev/\w+ boots .* as installed.example.com", said), said[-3000:]
    assert [part.label for part in read_gpt(medium.target).partitions] == ["esp", "root"]

    installed = replace(medium.options, image=medium.target)
    with Machine(installed, choose(medium.toolbox), medium.toolbox) as machine:
        assert wait_until_reachable(machine, medium.access, SECONDS), plain_text(machine.console.data)[-3000:]
        command = [word.replace("root@", "ada@") for word in medium.access.command()]
        script = (
            "PATH=$PATH:/usr/sbin; cloud-init status --wait >/dev/null; systemctl is-system-running --wait; getenforce;"
            " hostname -f;"
            " findmnt -no SIZE -b /; swapon --noheadings --bytes --show=SIZE; sudo -n id -u;"
            " ip -4 -o address show scope global; resolvectl dns;"
            " od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-*"
        )
        end = time.monotonic() + SECONDS
        # The account is made a moment after the server greets.
        while (done := medium.toolbox.run(*command, script, ok=range(256))).code == 255 and time.monotonic() < end:
            machine.wait(2)
    state, mode, name, size, swap, root, address, *rest = done.text.splitlines()
    assert (state, mode, name, root) == ("running", "Enforcing", "installed.example.com", "0")
    assert int(size) > 6 * GIB
    assert 255 * MIB < int(swap) <= 256 * MIB
    assert "10.0.2.15/24" in address and "dynamic" not in address
    assert any("10.0.2.3" in line for line in rest)
    assert rest[-1].split() == ["1"]
