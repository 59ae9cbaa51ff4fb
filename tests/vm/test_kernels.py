"""Kernels come as packages with signed images: placed beside one another, tried once, kept when good; one machine."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from tests.support.kernels import KernelShop
from tests.support.server import DENIALS

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine
from bedplate.emulator.ssh import SshAccess, wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.serving import repository_server
from bedplate.toolchain.run import Completed, Toolbox
from bedplate.trust.keys import KeyStore

pytestmark = pytest.mark.vm

BOOT_SECONDS = 900.0
NAME = "bedplate-server-kernel-cloud"


@dataclass(frozen=True)
class Guest:
    """A booted server, a repository beside it, and rebuilds of its kernel: the image's own, a good one, one that finds
    no disk, one that another key signed."""

    machine: Machine
    access: SshAccess
    toolbox: Toolbox
    shop: KernelShop
    first: RpmPackage
    good: RpmPackage
    bad: RpmPackage
    foreign: RpmPackage

    def ask(self, script: str) -> Completed:
        done = self._try(script)
        assert done.code != 255, f"ssh: {done.stderr}\n{self.last_words}"
        return done

    def _try(self, script: str) -> Completed:
        # A machine that goes down does not always say goodbye.
        alive = ["-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=6"]
        *command, where = self.access.command()
        return self.toolbox.run(
            command[0], *command[1:], *alive, where, "bash", "-s", stdin=script.encode(), ok=range(256)
        )

    def restart(self) -> None:
        before = self.ask("cat /proc/sys/kernel/random/boot_id").text
        self._try("systemctl reboot")  # it may be gone before it answers
        end = time.monotonic() + BOOT_SECONDS
        while True:
            assert wait_until_reachable(self.machine, self.access, end - time.monotonic()), self.last_words
            now = self._try("cat /proc/sys/kernel/random/boot_id")
            if now.code == 0 and now.text and now.text != before:
                break
            self.machine.wait(1.0)
        self.ask("timeout 900 systemctl is-system-running --wait")

    @property
    def last_words(self) -> str:
        return self.machine.console.data[-2000:].decode("ascii", "replace")

    def kernels(self) -> dict[str, list[str]]:
        """What the machine says of each kernel, by the release of its package."""
        lines = [line.split() for line in self.ask("bedplate-kernels list").text.splitlines()]
        return {name.rpartition("-")[2]: words for name, _, *words in lines}

    def updated(self, switch: str) -> list[str]:
        """Let the timer of automatic updates elapse; how the service it starts ended."""
        return self.ask(
            f"sed -i 's/^UPDATES=.*/UPDATES={switch}/' /etc/bedplate/updates.conf\n"
            "before=$(systemctl show -P InvocationID bedplate-updates.service)\n"
            "systemctl restart bedplate-updates.timer\n"
            "for number in $(seq 900); do sleep 1\n"
            "  set -- $(systemctl show -P InvocationID bedplate-updates.service)"
            " $(systemctl show -P ActiveState bedplate-updates.service)\n"
            '  [ $# -ne 2 ] || [ "$1" = "$before" ] || [ "$2" = activating ] || break\n'
            "done\n"
            "for what in Result ExecMainStatus; do systemctl show -P $what bedplate-updates.service; done"
        ).text.split()

    def name_of(self, release: str) -> str:
        """The whole name of the kernel whose package has this release."""
        return self.ask(f"cd /usr/lib/modules && ls -d *-{release}").text.strip()

    def entries(self) -> list[str]:
        """The releases in the names of the boot entries, with their counters."""
        return re.findall(r"-(\d+\.\d+(?:\+\d+(?:-\d+)?)?\.efi)$", self.ask("ls /efi/EFI/Linux").text, re.MULTILINE)


@pytest.fixture(scope="module")
def guest(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    place = tmp_path_factory.mktemp("kernels")
    outcome = build_track(workspace, "server", Relock.WHEN_NEEDED)
    image = find_image(workspace, str(outcome.directory))
    shop = KernelShop(workspace, "server", place / "repository")
    first, good = shop.rebuilt(1), shop.rebuilt(2)
    bad = shop.rebuilt(3, initrd_modules=["ext4"])
    foreign = shop.rebuilt(4, keys=KeyStore(place / "other-keys"))
    shop.offer([first])
    options, access = with_ssh(machine_options(workspace, image), place)
    with repository_server(shop.root) as port:
        address = f"http://10.0.2.2:{port}\n".encode()
        options = replace(options, credentials={**options.credentials, "bedplate.repository": address})
        with Machine(options, choose(toolbox), toolbox) as machine:
            assert wait_until_reachable(machine, access, BOOT_SECONDS), machine.console.data[-2000:]
            there = Guest(machine, access, toolbox, shop, first, good, bad, foreign)
            there.ask("timeout 900 systemctl is-system-running --wait")
            yield there


def test_the_images_own_kernel_is_a_package_and_the_default(guest: Guest) -> None:
    assert guest.kernels() == {"1.1": ["running", "default"]}
    seen = guest.ask(f"rpm -V {NAME} && rpm -q --qf '%{{evr}} %{{sha256header}}\\n' {NAME}").text
    assert seen.split()[0] == str(guest.first.nevra.evr)
    assert guest.entries() == ["1.1.efi"]


def test_the_kernel_that_runs_is_not_removed(guest: Guest) -> None:
    package = f"{NAME}-{guest.first.nevra.evr}"
    done = guest.ask(f"dnf -y remove {package}")
    assert done.code == 1
    assert "is the kernel that runs" in done.text + done.stderr
    # rpm does not ask: its package goes, the boot entry stays.
    guest.ask(f"rpm -e {package}")
    assert guest.entries() == ["1.1.efi"]
    assert guest.ask(f"dnf -y install --refresh {package}").code == 0
    assert guest.kernels() == {"1.1": ["running", "default"]}


def test_a_full_system_partition_is_said_and_can_be_tried_again(guest: Guest) -> None:
    guest.shop.offer([guest.first, guest.good])
    done = guest.ask(
        "fallocate -l $(df --output=avail -B1 /efi | tail -1) /efi/full; dnf -y upgrade --refresh;"
        " code=$?; rm /efi/full; exit $code"
    )
    assert done.code != 0
    assert "has no room" in done.text + done.stderr
    assert guest.kernels() == {"1.1": ["running", "default"], "1.2": ["not-placed"]}
    assert guest.ask("bedplate-triggers retry").code == 0
    assert guest.kernels() == {"1.1": ["running", "default"], "1.2": ["next"]}
    assert sorted(guest.entries()) == ["1.1.efi", "1.2+3.efi"]


def test_removing_a_kernel_cleans_the_system_partition(guest: Guest) -> None:
    done = guest.ask(f"dnf -y remove {NAME}-{guest.good.nevra.evr}")
    assert done.code == 0, done.text + done.stderr
    assert guest.entries() == ["1.1.efi"]
    left = guest.ask("cd /var/lib/bedplate/kernels && ls -A . /usr/lib/modules && cat $(find . -type f)").text
    assert "-1.1" in left
    assert "-1.2" not in left


def test_the_switch_decides_what_the_timer_installs(guest: Guest) -> None:
    guest.ask(
        "mkdir -p /etc/systemd/system/bedplate-updates.timer.d;"
        " printf '[Timer]\\nOnCalendar=\\nOnActiveSec=1\\nAccuracySec=1\\nRandomizedDelaySec=0\\n'"
        " >/etc/systemd/system/bedplate-updates.timer.d/10-soon.conf; systemctl daemon-reload;"
        " printf '[health]\\nwatch_seconds = 1\\n' >/etc/bedplate/patch.toml"
    )
    assert guest.updated("off") == ["success", "0"]
    assert guest.kernels() == {"1.1": ["running", "default"]}
    assert guest.updated("all") == ["success", "0"]
    assert guest.kernels() == {"1.1": ["running", "default"], "1.2": ["next"]}


def test_a_newer_kernel_is_tried_and_kept(guest: Guest) -> None:
    guest.restart()
    assert guest.kernels() == {"1.1": [], "1.2": ["running", "default"]}
    assert sorted(guest.entries()) == ["1.1.efi", "1.2.efi"]
    assert guest.ask("systemctl is-system-running; getenforce").text.split() == ["running", "Enforcing"]


def test_an_entry_with_full_preemption_can_be_chosen(guest: Guest) -> None:
    entry = f"{guest.ask('cat /etc/kernel/entry-token').text.strip()}-{guest.name_of('1.2')}.efi@preempt"
    assert entry in guest.ask("bootctl list --json=short").text
    assert "preempt=full" not in guest.ask("cat /proc/cmdline").text
    done = guest.ask(f"bootctl set-default {entry}")
    assert done.code == 0, done.stderr
    assert guest.kernels()["1.2"] == ["running", "default"]


def test_a_bad_kernel_falls_back_by_itself_and_the_machine_says_so(guest: Guest) -> None:
    guest.shop.offer([guest.first, guest.good, guest.bad])
    done = guest.ask("dnf -y upgrade --refresh")
    assert done.code == 0, done.text + done.stderr
    guest.restart()
    assert guest.kernels() == {"1.1": [], "1.2": ["running", "default"], "1.3": ["fell-back"]}
    assert "1.3 did not come up" in guest.ask("journalctl -b -o cat -u bedplate-kernels").text
    # What was not found good keeps its mark, and the good one has none.
    assert sorted(guest.entries()) == ["1.1.efi", "1.2.efi", "1.3+2-1.efi"]


def test_the_chosen_entry_is_what_it_fell_back_to(guest: Guest) -> None:
    assert "preempt=full" in guest.ask("cat /proc/cmdline").text.split()
    assert "Dynamic Preempt: full" in guest.ask("journalctl -b -k -o cat").text
    assert guest.ask("systemctl is-system-running; getenforce").text.split() == ["running", "Enforcing"]


def test_a_kernel_signed_by_another_key_never_starts(guest: Guest) -> None:
    assert guest.ask(f"dnf -y remove {NAME}-{guest.bad.nevra.evr}").code == 0
    guest.shop.offer([guest.first, guest.good, guest.foreign])
    done = guest.ask("dnf -y upgrade --refresh")
    assert done.code == 0, done.text + done.stderr
    guest.restart()
    assert guest.kernels() == {"1.1": [], "1.2": ["running", "default"], "1.4": ["fell-back"]}
    assert "1.4+2-1.efi" in guest.entries()
    assert guest.ask("systemctl is-system-running").text.strip() == "running"


def test_nothing_was_denied(guest: Guest) -> None:
    assert guest.ask(DENIALS).text.splitlines() == []
