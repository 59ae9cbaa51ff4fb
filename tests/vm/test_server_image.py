"""A server by image: enforcing and its owner's own, it moves itself to the next release and back from a bad one.

One machine, asked in order, and a real ``bedplate serve`` that hands out real releases.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.support.node import HOST, Node, variant
from tests.support.server import DENIALS

from bedplate.emulator.seed import write_seed
from bedplate.flows.boot import machine_options
from bedplate.flows.images import find_image
from bedplate.flows.release_create import Terms, create_releases
from bedplate.flows.release_publish import publish_release
from bedplate.flows.release_store import StorePlace, release_place
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BedplateError
from bedplate.serve.client import ServiceClient
from bedplate.serve.database import Database
from bedplate.serve.people import People, Role
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.vm

TRACK = "server-image"
CHANNEL = "edge"
BOOT_SECONDS = 1200.0
# The next version brings a package's directory below /var and an account; the one after it has a check that fails.
_MORE: Mapping[str, bytes] = {
    "/usr/share/bedplate/next": b"next\n",
    "/var/lib/next/note": b"of the image\n",
    "/usr/lib/sysusers.d/next.conf": b"u next 987\n",
}
_SICK: Mapping[str, bytes] = {
    "/usr/lib/systemd/system/sick.service": b"[Unit]\nDescription=A check that fails\nDefaultDependencies=no\n"
    b"Before=bedplate-health.target\n[Service]\nType=oneshot\nExecStart=false\n",
    "/usr/lib/systemd/system/bedplate-health.target.d/50-sick.conf": b"[Unit]\nRequires=sick.service\n",
}
_VERSIONS = {"1.0": {}, "2.0": _MORE, "3.0": {**_MORE, **_SICK}}
_POLICY = """
timeout = "2h"
poll = "10s"
[stop]
limit = 1
at_least = 1
[[rings]]
name = "all"
channel = "edge"
kind = "canary"
soak = 0
"""
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
runcmd: [[touch, /srv/by-cloud-init]]
"""
# This machine asks every few seconds and restarts at once: drop-ins in /etc, as its administrator writes them.
_HURRY = """
install -d /etc/systemd/system/bedplate-update.timer.d /etc/systemd/system/bedplate-update-apply.timer.d
cat >/etc/systemd/system/bedplate-update.timer.d/50-hurry.conf <<'U'
[Timer]
OnBootSec=
OnUnitInactiveSec=
OnCalendar=*:*:0/15
RandomizedDelaySec=0
U
cat >/etc/systemd/system/bedplate-update-apply.timer.d/50-hurry.conf <<'A'
[Timer]
OnCalendar=
OnCalendar=*:*:0/5
RandomizedDelaySec=0
AccuracySec=1s
A
systemctl daemon-reload
systemctl restart bedplate-update.timer bedplate-update-apply.timer
"""


@dataclass(frozen=True)
class Service:
    """A running update service, what it hands out, and a person who may act."""

    client: ServiceClient
    port: int
    store: StorePlace

    def node(self) -> dict[str, Any]:
        """What it knows of its only node."""
        (seen,) = self.client.nodes()
        return seen


@contextmanager
def _serving(place: Path, store: StorePlace) -> Iterator[Service]:
    """``bedplate serve`` as a process of its own."""
    database = f"sqlite:///{place / 'fleet.db'}"
    opened = Database(database)
    opened.migrate()
    _, secret = People(opened).create("test", Role.MANAGER, 86400.0, actor="test", now=time.time())
    (place / "policy.toml").write_text(_POLICY)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [
        sys.executable,
        "-m",
        "bedplate",
        "serve",
        "--listen",
        f"127.0.0.1:{port}",
        "--store",
        store.objects.url,
    ]
    command += ["--database", database, "--policy", str(place / "policy.toml")]
    with (place / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        client = ServiceClient(f"http://127.0.0.1:{port}", secret)
        try:
            until(lambda: _answers(client), 120)
            yield Service(client, port, store)
        finally:
            client.close()
            process.terminate()
            process.wait(60)


def _answers(client: ServiceClient) -> bool:
    try:
        client.call("GET", "/api/v1/nodes")
    except BedplateError:
        return False
    return True


def until(holds: Callable[[], Any], seconds: float) -> Any:
    """What ``holds`` gives as soon as it is true.

    Raises:
        AssertionError: it never was.
    """
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < end, "it never came to that"
        time.sleep(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server-image")


@pytest.fixture(scope="module")
def service(workspace: Workspace, place: Path) -> Iterator[Service]:
    # A name of its own: what was seen of a store is remembered by where it lies.
    store = release_place(workspace, str(place / f"releases-{uuid4().hex}"))
    for version, files in _VERSIONS.items():
        build = variant(workspace, place, version, files, TRACK)
        create_releases(workspace, store, [str(build.directory)], Terms(disk=False))
    publish_release(workspace, store, "1.0", CHANNEL, [])
    with _serving(place, store) as running:
        yield running


@pytest.fixture(scope="module")
def node(workspace: Workspace, toolbox: Toolbox, place: Path, service: Service) -> Iterator[Node]:
    body = {"kind": "node", "track": TRACK, "ring": "all", "count": 1, "days": 1, "tpm": False}
    (way_in,) = service.client.call("POST", "/api/v1/enrolments", body)
    url = f"http://{HOST}:{service.port}/v1/poll/{TRACK}/auto/%m/{way_in['secret']}/%A/%b/"
    options = machine_options(workspace, find_image(workspace, str(place / "out-1.0" / TRACK)))
    options = replace(options, credentials={"bedplate.update.url": url.encode()})
    machine = Node(options, toolbox, place / "node", announcing={})
    key = machine.options.credentials["ssh.authorized_keys.root"].decode().strip()
    seed = write_seed(toolbox, place / "seed.img", USER_DATA.format(key=key), instance="one", hostname="first")
    machine.options = replace(machine.options, drives=(*machine.options.drives, seed))
    machine.start()
    yield machine
    machine.kill()


def ask_as(node: Node, user: str, command: str) -> str:
    """Run a command as somebody else than root."""
    program, *arguments = node.access.command()
    return node.toolbox.run(program, *arguments[:-1], f"{user}@127.0.0.1", command).text


def roll_out(workspace: Workspace, service: Service, version: str) -> None:
    """Publish a release and begin to roll it out as soon as the service has seen it."""
    publish_release(workspace, service.store, version, CHANNEL, [])
    body = {"track": TRACK, "version": version, "channel": CHANNEL, "pace": "urgent"}

    def begun() -> bool:
        try:
            service.client.call("POST", "/api/v1/rollouts", body)
        except BedplateError:
            return False
        return True

    until(begun, 180)


def require_well(node: Node) -> None:
    """No failed unit, enforcing, nothing denied."""
    seen = node.run(
        "timeout 900 systemctl is-system-running --wait; systemctl --failed --plain --no-legend; getenforce"
    )
    assert seen.split() == ["running", "Enforcing"]
    denied = node.run(DENIALS, ok=(0, 1))
    assert denied == ""


def test_it_boots_enforcing_and_configured_and_is_found_good(node: Node) -> None:
    assert node.wait_until_good(seconds=BOOT_SECONDS) == "1.0"
    assert "status: done" in node.run("cloud-init status --wait --long")
    require_well(node)
    assert ask_as(node, "ada", "id -un; sudo -n id -u; hostname; cat /etc/motd; ls /srv").split("\n")[:5] == [
        "ada", "0", "first", "written by cloud-init", "by-cloud-init",
    ]  # fmt: skip


def test_its_programs_are_verified_and_its_own_files_encrypted_and_labelled(node: Node) -> None:
    assert node.run("veritysetup status root | grep -c 'status: *verified'").strip() == "1"
    assert "crypto_LUKS" in node.run("lsblk -nro FSTYPE /dev/disk/by-partlabel/var")
    node.run("! touch /usr/here && ! touch /etc/selinux/here && ! touch /var/lib/rpm/here")
    assert ask_as(node, "ada", "rpm -q --qf '%{NAME}\\n' bash").split() == ["bash"]
    # The overlay's work directory is the kernel's own; who adds an account labels the lock so on every server.
    wrong = node.run(
        "restorecon -Rnv /etc /home /root /srv /opt /usr/local /var | grep -v -e state/etc/work -e '/[.]pwd[.]lock '",
        ok=(0, 1),
    )
    assert wrong.splitlines() == []


def test_it_moves_by_itself_and_takes_its_own_files_along(node: Node, workspace: Workspace, service: Service) -> None:
    ask_as(node, "ada", "echo mine >note")
    node.run("echo '192.0.2.1 elsewhere' >>/etc/hosts; echo tool >/usr/local/bin/tool; echo app >/opt/app")
    key = node.run("cat /etc/ssh/ssh_host_ed25519_key.pub")
    roll_out(workspace, service, "2.0")
    node.run(_HURRY)
    assert node.wait_until_good("2.0", BOOT_SECONDS) == "2.0"
    require_well(node)
    assert node.run("cat /usr/share/bedplate/next /var/lib/next/note") == "next\nof the image\n"
    assert ask_as(node, "ada", "cat note; id -un next") == "mine\nnext\n"
    assert "elsewhere" in node.run("cat /etc/hosts /usr/local/bin/tool /opt/app")
    assert node.run("cat /etc/ssh/ssh_host_ed25519_key.pub") == key
    until(lambda: (seen := service.node())["version"] == "2.0" and seen["stage"] == "healthy", 300)


def test_a_bad_release_leads_back_by_itself_and_is_never_taken_again(
    node: Node, workspace: Workspace, service: Service
) -> None:
    boot = node.boot_id
    roll_out(workspace, service, "3.0")
    node.wait_for(
        "cat /proc/sys/kernel/random/boot_id; systemctl is-active bedplate-boot-good",
        rf"^(?!{boot}).*\nactive",
        BOOT_SECONDS,
    )
    assert node.wait_until_good() == "2.0"
    assert b"version 3.0 is not healthy" in bytes(node.console)
    until(lambda: service.node()["stage"] == "fell-back", 300)
    assert service.node()["version"] == "2.0"
    # It went on asking: nothing newer than what it fell back from is on offer.
    node.run("systemctl start bedplate-update.service", ok=(0, 1))
    assert node.entries() == [f"bedplate-{TRACK}_2.0.efi", f"bedplate-{TRACK}_3.0+0-1.efi"]
    require_well(node)
    assert ask_as(node, "ada", "cat note") == "mine\n"
