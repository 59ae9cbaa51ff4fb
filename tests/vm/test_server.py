"""The server boots enforcing, configures itself on first boot, and lives as an RPM system: one boot, asked in order."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support.repository import make_repository

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine
from bedplate.emulator.seed import write_seed
from bedplate.emulator.ssh import wait_until_reachable, with_ssh
from bedplate.flows.boot import boot_image, check_report, machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.packages.serving import repository_server
from bedplate.toolchain.run import Completed, Toolbox

pytestmark = pytest.mark.vm

BOOT_SECONDS = 1200.0
USER_DATA = """#cloud-config
users:
  - default
  - name: ada
    shell: /bin/bash
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    ssh_authorized_keys: ["{key}"]
write_files:
  - path: /etc/motd
    content: |
      written by cloud-init
packages: [tree, memcached]
"""
# What `rpm -Va` may show on a fresh system: configuration (c), and what the first boot or the image wrote.
EXPLAINED = re.compile(r"^\S+\s+c\s|^\.M\S+\s+/var/lib/chrony$")


@dataclass(frozen=True)
class Guest:
    """A booted server with a repository beside it."""

    machine: Machine
    ask: Callable[..., Completed]
    repository: Path


@pytest.fixture(scope="module")
def guest(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    place = tmp_path_factory.mktemp("server")
    outcome = build_track(workspace, "server", Relock.WHEN_NEEDED)
    image = find_image(workspace, str(outcome.directory))
    repository = make_repository(workspace, "server", ["nginx", "tree", "memcached"], place / "repository")
    options, access = with_ssh(machine_options(workspace, image), place)
    key = options.credentials["ssh.authorized_keys.root"].decode().strip()
    seed = write_seed(toolbox, place / "seed.img", USER_DATA.format(key=key), instance="one", hostname="first")
    with repository_server(repository) as port:
        address = f"http://10.0.2.2:{port}\n".encode()
        options = replace(
            options,
            drives=(*options.drives, seed),
            credentials={**options.credentials, "bedplate.repository": address},
        )
        with Machine(options, choose(toolbox), toolbox) as machine:
            assert wait_until_reachable(machine, access, BOOT_SECONDS), machine.console.data[-2000:].decode(
                "ascii", "replace"
            )

            def ask(script: str, user: str = "root") -> Completed:
                command = access.command()
                command[-1] = f"{user}@127.0.0.1"
                return toolbox.run(command[0], *command[1:], "bash", "-s", stdin=script.encode(), ok=range(256))

            ask("timeout 500 systemctl is-system-running --wait")
            yield Guest(machine, ask, repository)


def test_it_runs_enforcing_without_a_failed_unit(guest: Guest) -> None:
    state = guest.ask("systemctl is-system-running; systemctl --failed --plain --no-legend; getenforce").text.split(
        "\n"
    )
    assert state[:2] == ["running", "Enforcing"]


def test_cloud_init_made_the_user_who_logs_in_with_a_key(guest: Guest) -> None:
    done = guest.ask("cloud-init status --wait --long")
    # A warning or an error of any stage would make it 2.
    assert done.code == 0, done.text
    seen = guest.ask("id -un; sudo -n id -u; hostname; hostnamectl hostname; cat /etc/motd", "ada").text.split("\n")
    assert seen[:5] == ["ada", "0", "first", "first", "written by cloud-init"]


def test_everybody_may_ask_what_is_installed(guest: Guest) -> None:
    assert guest.ask("rpm -q --qf '%{NAME}\\n' bash", "ada").text.split() == ["bash"]


def test_cloud_init_installed_the_packages(guest: Guest) -> None:
    seen = guest.ask(
        "rpm -q --qf '%{NAME}\\n' tree memcached; id -un memcache; ls /var/lib/bedplate/failed"
    ).text.split()
    assert seen == ["tree", "memcached", "memcache"]


def test_no_password_opens_anything(guest: Guest) -> None:
    locked = guest.ask(
        "awk -F: '$2 !~ /^[!*]/ {print $1}' /etc/shadow; sshd -T | grep -i '^passwordauthentication'"
    ).text
    assert locked.split() == ["passwordauthentication", "no"]


def test_the_root_has_grown_and_there_is_swap(guest: Guest) -> None:
    seen = guest.ask("df --output=size -B1 / | tail -1; swapon --noheadings --show=NAME").text.split()
    assert int(seen[0]) > 4 << 30
    assert len(seen) == 2


def test_the_boot_entry_was_found_good(guest: Guest) -> None:
    entries = guest.ask("ls /efi/EFI/Linux").text.split()
    assert entries
    assert not [entry for entry in entries if re.search(r"\+\d+(-\d+)?\.efi$", entry)]


def test_the_package_database_agrees_with_the_disk(guest: Guest) -> None:
    lines = [line for line in guest.ask("rpm -Va").text.splitlines() if line.strip()]
    assert [line for line in lines if not EXPLAINED.search(line)] == []


def test_a_package_is_installed_enabled_and_serves_a_page(guest: Guest) -> None:
    done = guest.ask("dnf -y install nginx")
    assert done.code == 0, done.text + done.stderr
    assert guest.ask("systemctl is-enabled nginx").text.strip() == "disabled"
    assert guest.ask("systemctl enable --now nginx").code == 0
    page = guest.ask("curl -sf http://127.0.0.1/; ps -o label= -C nginx; ls /var/lib/bedplate/failed")
    assert "nginx" in page.text
    assert "httpd_t" in page.text


def test_its_logs_rotate_and_it_ends_when_told(guest: Guest) -> None:
    # A day has gone by, as far as logrotate remembers; its own service does it, confined.
    done = guest.ask("""
        log=/var/log/nginx/access.log state=/var/lib/logrotate/status
        printf 'logrotate state -- version 2\n"%s" 2020-1-1-0:0:0\n' $log >$state
        systemctl start logrotate; echo $?
        curl -s -o /dev/null http://127.0.0.1/after
        grep -c /after $log; grep -c /after $log.1
        systemctl stop nginx; echo $?
        for one in Result ExecMainStatus ExecStop; do systemctl show -p $one nginx; done
        journalctl -b -u nginx -u logrotate -o cat | grep -iE 'missing|not found|error'
        systemctl start nginx; systemctl is-active nginx
    """)
    seen = ["0", "1", "0", "0", "Result=success", "ExecMainStatus=0", "active"]
    assert done.text.split() == seen, done.text + done.stderr


def test_removing_it_stops_and_disables_it(guest: Guest) -> None:
    assert guest.ask("dnf -y remove nginx").code == 0
    seen = guest.ask(
        "systemctl is-active nginx; find /etc/systemd/system -name nginx.service; pgrep -c nginx"
    ).text.split()
    assert seen == ["inactive", "0"]


def test_an_unsigned_package_is_refused(guest: Guest, workspace: Workspace) -> None:
    unsigned = sorted((workspace.cache / "rpms/own").glob("filesystem-*.rpm"))[0]
    shutil.copyfile(unsigned, guest.repository / "unsigned.rpm")
    done = guest.ask(
        "curl -sfo /root/unsigned.rpm $(cat /etc/dnf/vars/bedplate_url)/unsigned.rpm"
        " && dnf -y reinstall /root/unsigned.rpm"
    )
    assert done.code != 0
    assert "not signed" in done.text + done.stderr


def test_a_trigger_that_fails_makes_the_transaction_fail_and_can_be_run_again(guest: Guest) -> None:
    # What units have had their preset cannot be noted: the trigger that notes it fails.
    done = guest.ask(
        "cd /var/lib/bedplate; mv units units.away; mkdir units; dnf -y install nginx; echo code=$?;"
        " rmdir units; mv units.away units; bedplate-triggers retry; echo again=$?; ls failed;"
        " grep -cx nginx.service units"
    )
    assert "code=1" in done.text
    assert "units failed" in done.text + done.stderr
    assert done.text.split("again=")[1].split() == ["0", "1"]


def test_nothing_was_denied(guest: Guest) -> None:
    found = guest.ask(
        "{ journalctl -b -k -o cat; cat /var/log/audit/audit.log; } | grep -o 'avc:  *denied.*' | sort -u"
    ).text
    assert found.splitlines() == []


def test_a_boot_with_a_report_proves_what_the_track_promises(workspace: Workspace) -> None:
    """What ``bedplate up --track server`` does: the report is a unit that comes by credential."""
    image = find_image(workspace, str(build_track(workspace, "server", Relock.WHEN_NEEDED).directory))
    report = boot_image(workspace, image)
    assert (report.selinux, report.selinux_denials) == ("enforcing", ())
    assert check_report(workspace, "server", report) == []
