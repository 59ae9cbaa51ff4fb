"""A server's disk is encrypted to its TPM on the first boot where that was asked for: the refusal, and a lost power.

What docs/howto/encrypt-a-server.md says of the boots that follow is not judged here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedplate.compose.gpt import read_gpt
from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine, MachineState
from bedplate.emulator.options import GIB, DiskForm, MachineOptions
from bedplate.flows.boot import machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.vm

CONSOLE_SECONDS = 600.0
RECOVERY = "a recovery key of the operator's own"
# Lies in a file of every server's root.
KNOWN = b"Description=Swap with a key of this boot's"


@dataclass(frozen=True)
class Server:
    """One disk, and how machines with it are booted."""

    image: FoundImage
    options: MachineOptions
    state: MachineState
    toolbox: Toolbox

    @contextmanager
    def running(self, **credentials: str) -> Iterator[Machine]:
        added = {f"bedplate.{name}": value.encode() for name, value in credentials.items()}
        options = replace(self.options, credentials={**self.options.credentials, **added})
        with Machine(options, choose(self.toolbox), self.toolbox, self.state) as machine:
            yield machine

    @property
    def disk(self) -> Path:
        return self.state.disk(DiskForm.COPY)


def console(machine: Machine) -> str:
    return machine.console.data[-3000:].decode("ascii", "replace")


def wait_for(machine: Machine, text: str) -> None:
    assert machine.console.wait_for(re.compile(re.escape(text.encode())), CONSOLE_SECONDS), console(machine)


def in_root(disk: Path, text: bytes) -> bool:
    """Whether the bytes lie anywhere in the partition of the root."""
    partition = read_gpt(disk).find("root")
    piece, kept = 16 << 20, b""
    with disk.open("rb") as stream:
        stream.seek(partition.start)
        for at in range(0, partition.size, piece):
            data = kept + stream.read(min(piece, partition.size - at))
            if text in data:
                return True
            kept = data[-len(text) :]
    return False


@pytest.fixture(scope="module")
def server(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("encryption")
    image = find_image(workspace, str(build_track(workspace, "server", Relock.WHEN_NEEDED).directory))
    options = replace(machine_options(workspace, image), disk_form=DiskForm.COPY, disk_bytes=3 * GIB)
    yield Server(image, options, MachineState(place / "machine"), toolbox)
    shutil.rmtree(place)


def test_a_machine_without_a_tpm_refuses(server: Server, tmp_path: Path) -> None:
    options = replace(server.options, tpm=False, disk_form=DiskForm.OVERLAY)
    other = replace(server, options=options, state=MachineState(tmp_path))
    with other.running(encrypt="tpm2") as machine:
        wait_for(machine, "this machine has no TPM 2.0")
        wait_for(machine, "cannot start this version")


def test_power_lost_while_the_root_is_encrypted(server: Server, tmp_path: Path) -> None:
    assert in_root(server.image.disk, KNOWN)
    # The disk carries the switch, as an installer or whoever uploads an image writes it.
    server.state.prepare(server.options, server.toolbox)
    switch = tmp_path / "switch"
    switch.write_text("tpm2\n")
    esp = f"{server.disk}@@{read_gpt(server.disk).find('esp').start}"
    quiet = {"MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1"}
    server.toolbox.run("mmd", "-i", esp, "::/loader/credentials", env=quiet)
    server.toolbox.run("mcopy", "-i", esp, switch, "::/loader/credentials/bedplate.encrypt.cred", env=quiet)
    with server.running(**{"encrypt.recovery": RECOVERY}) as machine:
        some = re.compile(rb"encrypting: [2-9]\d %")
        assert machine.console.wait_for(some, CONSOLE_SECONDS), console(machine)
    partition = read_gpt(server.disk).find("root")
    with server.disk.open("rb") as stream:
        stream.seek(partition.start)
        assert re.match(rb"bedplate-move \d+\n", stream.read(32))
