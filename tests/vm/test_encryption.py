"""A server's disk is encrypted to its TPM on the first boot where that was asked for: one disk, booted four times.

In order: the power goes while the root is being encrypted; the next boot goes on and comes up; then the disk is in a
machine with another TPM, which takes the recovery key and is bound to; then that machine opens it by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedplate.compose.gpt import read_gpt
from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine, MachineState
from bedplate.emulator.options import GIB, DiskForm, MachineOptions
from bedplate.emulator.ssh import SshAccess, wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Completed, Toolbox

pytestmark = pytest.mark.vm

BOOT_SECONDS = 900.0
CONSOLE_SECONDS = 600.0
SSH_FAILED = 255
RECOVERY = "a recovery key of the operator's own"
# Lies in a file of every server's root; the other one is written by the test.
KNOWN = b"Description=Swap with a key of this boot's"
MARKER = "5f0c9b1e a secret of this machine 77d1"


@dataclass(frozen=True)
class Server:
    """One disk, and how machines with it are booted."""

    image: FoundImage
    options: MachineOptions
    access: SshAccess
    state: MachineState
    toolbox: Toolbox

    @contextmanager
    def running(self, **credentials: str) -> Iterator[Machine]:
        added = {f"bedplate.{name}": value.encode() for name, value in credentials.items()}
        options = replace(self.options, credentials={**self.options.credentials, **added})
        with Machine(options, choose(self.toolbox), self.toolbox, self.state) as machine:
            yield machine

    @contextmanager
    def booted(self, **credentials: str) -> Iterator[Callable[[str], Completed]]:
        with self.running(**credentials) as machine:
            assert wait_until_reachable(machine, self.access, BOOT_SECONDS), console(machine)

            command = [*self.access.command(), "bash", "-s"]

            def ask(script: str) -> Completed:
                return self.toolbox.run(command[0], *command[1:], stdin=script.encode(), ok=range(256))

            end = time.monotonic() + BOOT_SECONDS
            # While it boots it may close a connection that it has greeted.
            while (done := ask("timeout 800 systemctl is-system-running --wait")).code == SSH_FAILED:
                assert machine.running and time.monotonic() < end, f"ssh: {done.stderr}\n{console(machine)}"
                machine.wait(1.0)
            yield ask
            ask("systemctl poweroff")
            assert machine.wait(CONSOLE_SECONDS) is not None, "it does not power down"

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
    options, access = with_ssh(machine_options(workspace, image), place)
    options = replace(options, disk_form=DiskForm.COPY, disk_bytes=3 * GIB)
    yield Server(image, options, access, MachineState(place / "machine"), toolbox)
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


def test_the_next_boot_goes_on_and_comes_up(server: Server) -> None:
    # The recovery key is not needed any more: what was begun is finished.
    with server.booted() as ask:
        state = ask("systemctl is-system-running; systemctl --failed --plain --no-legend; getenforce").text.split("\n")
        assert state[:2] == ["running", "Enforcing"]
        root = ask("findmnt -no SOURCE /; df --output=size -B1 / | tail -1; cryptsetup status root").text
        assert root.split()[0] == "/dev/mapper/root"
        assert int(root.split()[1]) > (3 << 30) * 6 // 10  # it grew within its encrypted device
        assert "aes-xts-plain64" in root
        swap = ask("swapon --noheadings --show=NAME; dmsetup table swap").text
        assert swap.startswith(("/dev/mapper/swap", "/dev/dm-"))
        assert "aes-xts-plain64" in swap
        # The key cannot be had from the TPM any more, not even by root.
        # (A copy of the program, because SELinux keeps the real one from the signature of PCR 11 already.)
        again = ask(
            "cp /usr/sbin/cryptsetup /root/copy && /root/copy open --test-passphrase --token-only"
            " --token-type systemd-tpm2 /dev/disk/by-partlabel/root"
        )
        assert again.code != 0
        assert "Failed to unseal" in again.stderr
        denied = "{ journalctl -b -k -o cat; cat /var/log/audit/audit.log; } | grep -o 'avc:  *denied.*' | sort -u"
        assert ask(denied).text.splitlines() == []
        assert ask(f"echo '{MARKER}' >/root/marker; sync; cat /root/marker").text.strip() == MARKER
    assert not in_root(server.disk, KNOWN)
    assert not in_root(server.disk, MARKER.encode())


def test_another_machine_does_not_open_it_but_takes_the_recovery_key(server: Server) -> None:
    shutil.rmtree(server.state.tpm)
    with server.running() as machine:
        wait_for(machine, "the TPM does not open the disk")
        wait_for(machine, "recovery key: ")
        machine.console.send(b"not the key\n")
        wait_for(machine, "that is not its recovery key")
        machine.console.send(f"{RECOVERY}\n".encode())
        wait_for(machine, "Shall this machine's TPM open it")
        machine.console.send(b"yes\n")
        wait_for(machine, "the disk is bound to this machine's TPM")
        time.sleep(1)  # the line above is its last word; what follows is an ordinary boot
    assert not in_root(server.disk, RECOVERY.encode())


def test_it_opens_by_itself_from_then_on(server: Server) -> None:
    with server.booted() as ask:
        assert ask("cat /root/marker").text.strip() == MARKER
        assert ask("journalctl -b -k -o cat | grep -c 'recovery key'").text.strip() == "0"
