"""The server in FIPS mode: what is not approved is refused, the rest works, a changed module stops all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.support.repository import make_repository
from tests.support.server import DENIALS

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine
from bedplate.emulator.ssh import SshAccess, approved_key, wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.packages.serving import repository_server
from bedplate.toolchain.run import Completed, Toolbox

pytestmark = pytest.mark.vm

TRACK = "server-fips"
MODULE = "/usr/lib/x86_64-linux-gnu/ossl-modules/fips.so"
BOOT_SECONDS = 1200.0


@dataclass(frozen=True)
class Guest:
    """A booted machine: ``access`` has a key on a curve of NIST's, ``other_key`` an Ed25519 one let in as well."""

    machine: Machine
    access: SshAccess
    other_key: Path
    toolbox: Toolbox

    def log_in(self, *options: str, key: Path | None = None) -> Completed:
        """A connection of its own."""
        access = self.access if key is None else replace(self.access, identity=key)
        program, *arguments = access.command()
        return self.toolbox.run(program, *options, *arguments, "true", ok=range(256))

    def ssh(self, script: str) -> Completed:
        """Run a script through one connection that all share: making one takes seconds in an emulated processor."""
        program, *arguments = self.access.command()
        shared = ("-o", f"ControlPath={self.access.identity.parent}/shared", "-o", "ControlMaster=auto")
        command = (program, *shared, "-o", "ControlPersist=yes", *arguments, "bash", "-s")
        return self.toolbox.run(*command, stdin=script.encode(), ok=range(256))

    def ask(self, script: str) -> str:
        return self.ssh(script).text.strip()

    def hang_up(self) -> None:
        """End the shared connection."""
        program, *arguments = self.access.command()
        path = f"ControlPath={self.access.identity.parent}/shared"
        self.toolbox.run(program, "-o", path, "-O", "exit", *arguments, ok=range(256))


@pytest.fixture(scope="module")
def guest(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    place = tmp_path_factory.mktemp("fips")
    image = find_image(workspace, str(build_track(workspace, TRACK, Relock.WHEN_NEEDED).directory))
    repository = make_repository(workspace, TRACK, ["nginx"], place / "repository")
    options, access = with_ssh(machine_options(workspace, image), place, approved_key)
    key = Ed25519PrivateKey.generate()
    other = place / "other-key"
    other.touch(mode=0o600)
    other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    name = "ssh.authorized_keys.root"
    with repository_server(repository) as port:
        credentials = {
            **options.credentials,
            name: options.credentials[name].rstrip(b"\n") + b"\n" + line,
            "bedplate.repository": f"http://10.0.2.2:{port}\n".encode(),
        }
        with Machine(replace(options, credentials=credentials), choose(toolbox), toolbox) as machine:
            assert wait_until_reachable(machine, access, BOOT_SECONDS), machine.console.data[-3000:].decode(
                "ascii", "replace"
            )
            guest = Guest(machine, access, other, toolbox)
            guest.ask("timeout 900 systemctl is-system-running --wait")
            yield guest
            guest.hang_up()


def test_it_runs_enforcing_without_a_failed_unit(guest: Guest) -> None:
    state = guest.ask("systemctl is-system-running; systemctl --failed --plain --no-legend; getenforce").split("\n")
    assert state == ["running", "Enforcing"]


def test_the_self_tests_can_be_seen(guest: Guest) -> None:
    assert guest.ask("cat /proc/sys/crypto/fips_enabled; systemctl is-active bedplate-fips") == "1\nactive"
    said = guest.ask("journalctl -b -u bedplate-fips -o cat")
    assert re.search(r"Module_Integrity.*Pass", said)
    assert len(re.findall(r"Pass$", said, re.MULTILINE)) > 10
    outcome = rb"FIPS mode: self tests passed: \d+ algorithms of the kernel, \d+ tests of OpenSSL's module 3\."
    assert re.search(outcome, guest.machine.console.data)


def test_openssl_has_approved_algorithms_only(guest: Guest) -> None:
    refused = guest.ssh("openssl md5 /etc/os-release")
    assert refused.code != 0
    assert "unsupported" in refused.stderr
    digest = guest.ssh("printf abc | openssl sha256 -r")
    assert digest.text.split()[0] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert guest.ssh("openssl enc -chacha20 -k x -pbkdf2 </dev/null").code != 0
    assert guest.ssh("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 >/dev/null").code == 0


@pytest.mark.parametrize(
    ("option", "cause"),
    [
        ("Ciphers=chacha20-poly1305@openssh.com", "no matching cipher"),
        ("KexAlgorithms=curve25519-sha256", "no matching key exchange"),
        ("HostKeyAlgorithms=ssh-ed25519", "no matching host key type"),
        ("MACs=umac-128@openssh.com", "no matching MAC"),
    ],
)
def test_ssh_refuses_what_is_not_approved(guest: Guest, option: str, cause: str) -> None:
    # A cipher without authentication of its own, so that the kind of MAC matters.
    done = guest.log_in("-o", option, *(["-o", "Ciphers=aes128-ctr"] if option.startswith("MACs") else []))
    assert done.code == 255
    assert cause in done.stderr


def test_ssh_refuses_an_ed25519_key_and_takes_one_of_nists_curves(guest: Guest) -> None:
    assert "Permission denied" in guest.log_in(key=guest.other_key).stderr
    assert guest.log_in().code == 0


def test_signed_packages_are_installed(guest: Guest) -> None:
    checks = guest.ask("grep -h gpgcheck= /etc/dnf/dnf.conf /etc/yum.repos.d/*.repo | sort -u").split()
    assert checks == ["gpgcheck=1", "localpkg_gpgcheck=1", "repo_gpgcheck=1"]
    done = guest.ssh("dnf -y install nginx >&2 && systemctl start nginx && curl -sf http://127.0.0.1/")
    assert done.code == 0, done.text + done.stderr
    assert "nginx" in done.text


def test_its_kernel_is_not_installed_beside_the_plain_servers(guest: Guest) -> None:
    # Both are in one repository, and their images would lie in one place.
    said = guest.ask("rpm -q --conflicts bedplate-server-fips-kernel-cloud")
    assert said.splitlines() == ["bedplate-server-kernel-cloud"]


def test_nothing_was_denied(guest: Guest) -> None:
    assert guest.ask(DENIALS) == ""


def test_a_changed_module_stops_everybody_until_it_is_put_back(guest: Guest) -> None:
    # One session does it all: nobody gets in meanwhile.
    seen = guest.ssh(f"""
        greeting() {{ (exec 3<>/dev/tcp/127.0.0.1/22 && timeout 100 head -c 7 <&3) 2>/dev/null || :; echo; }}
        greeting
        printf '\\377' | dd of={MODULE} bs=1 seek=1500000 conv=notrunc status=none
        openssl sha256 /etc/os-release >/dev/null 2>&1 && echo digest || echo none
        echo "greets: $(greeting)"
        systemctl restart bedplate-fips; echo "restart: $?"
        systemctl is-active bedplate-fips ssh
        echo "greets: $(greeting)"
        journalctl -b -u bedplate-fips -o cat -n 6
        OPENSSL_CONF=/dev/null dnf -y reinstall openssl-provider-fips >&2; echo "reinstall: $?"
        systemctl restart bedplate-fips ssh; echo "start: $?"
        printf abc | openssl sha256 -r
    """)
    lines = seen.text.strip().split("\n")
    assert lines[:7] == ["SSH-2.0", "none", "greets: ", "restart: 1", "failed", "inactive", "greets: "], seen.text
    assert f"FIPS mode: {MODULE} is not the one of its package" in seen.text
    assert lines[-3:-1] == ["reinstall: 0", "start: 0"], seen.text + seen.stderr
    assert lines[-1].startswith("ba7816bf")
