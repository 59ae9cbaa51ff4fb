"""The installer's medium writes the system to an empty disk by an answer file, and the disk boots by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedplate.compose.gpt import read_gpt
from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine
from bedplate.emulator.options import Drive, MachineOptions
from bedplate.emulator.ssh import wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.formats import add_formats
from bedplate.flows.images import find_image
from bedplate.flows.tracks import build_tracks
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.vm

GIB = 1 << 30
SECONDS = 1500.0
ANSWERS = """
version = 1
after = "poweroff"
[disk]
serial = "target"
[system]
hostname = "installed.example.com"
[user]
name = "ada"
ssh_keys = ["{key}"]
[swap]
enabled = false
"""


@dataclass(frozen=True)
class Medium:
    """The medium, the machine's keys, and where a target disk can lie."""

    path: Path
    options: MachineOptions
    toolbox: Toolbox
    place: Path

    def run(self, target: Path, answers: str, ends: bytes) -> str:
        """Boot the medium with ``target`` as a second disk until it powers down or says ``ends``; what it said."""
        said = bytearray()
        wanted = replace(
            self.options,
            image=self.path,
            disk_bytes=self.path.stat().st_size,
            drives=(Drive(target, "target", read_only=False),),
            credentials={"bedplate.answers": answers.encode()},
            restart=False,
        )
        with Machine(wanted, choose(self.toolbox), self.toolbox, on_console=said.extend) as machine:
            end = time.monotonic() + SECONDS
            while machine.running and ends not in said and time.monotonic() < end:
                machine.wait(0.5)
        return said.decode(errors="replace")


def blank(path: Path, size: int) -> Path:
    """An empty disk."""
    with path.open("xb") as stream:
        stream.truncate(size)
    return path


@pytest.fixture(scope="module")
def medium(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Medium:
    build = add_formats(workspace, build_tracks(workspace, ["server"]).builds[0], ["installer"])
    options = machine_options(workspace, find_image(workspace, str(build.directory)))
    return Medium(build.directory / "installer.raw", options, toolbox, tmp_path_factory.mktemp("installer"))


def test_a_disk_too_small_and_a_wrong_key_are_told_at_once_and_nothing_is_written(medium: Medium) -> None:
    target = blank(medium.place / "small", 64 << 20)
    said = medium.run(target, ANSWERS.format(key="not a key").replace("ada", "root"), b"start the machine again")
    assert "nothing was written" in said
    assert "user.ssh_keys[0]" in said and "user.name: root" in said
    assert not any(target.read_bytes())


def test_an_empty_disk_is_written_and_boots_by_itself(medium: Medium) -> None:
    target = blank(medium.place / "target", 8 * GIB)
    options, access = with_ssh(replace(medium.options, image=target), medium.place)
    key = options.credentials["ssh.authorized_keys.root"].decode().strip()
    said = medium.run(target, ANSWERS.format(key=key), b"failed:")
    assert "done: /dev/vdb boots" in said, said[-3000:]
    labels = [part.label for part in read_gpt(target).partitions]
    assert labels == ["esp", "root"]
    plain = replace(options, credentials={})
    with Machine(plain, choose(medium.toolbox), medium.toolbox) as machine:
        assert wait_until_reachable(machine, access, SECONDS)
        ada = [word.replace("root@", "ada@") for word in access.command()]
        asked = (
            "cloud-init status --wait >/dev/null; hostname; getenforce; findmnt -no SIZE -b /; swapon --show | wc -l"
        )
        end = time.monotonic() + SECONDS
        while (done := medium.toolbox.run(*ada, asked, ok=range(256))).code == 255 and time.monotonic() < end:
            machine.wait(2)  # the account is made after the server greets
    name, mode, size, swaps = done.text.split()
    assert name.partition(".")[0] == "installed"
    assert (mode, swaps) == ("Enforcing", "0")
    assert int(size) > 6 * GIB
