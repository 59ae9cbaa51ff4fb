"""A first boot that joins a directory: a domain controller in one machine, a member in another, a cable between them.

The controller's own user data is wrong, so that no third boot is needed to see what is said about that; Samba is
started only when the member has found nobody, so that the member's waiting is seen too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from tests.support.directory import PACKAGES, PROVISION, track_with
from tests.support.repository import make_repository

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine
from bedplate.emulator.options import Cable
from bedplate.emulator.seed import write_seed
from bedplate.emulator.ssh import SshAccess, wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.packages.serving import repository_server
from bedplate.toolchain.run import Completed, Toolbox

pytestmark = pytest.mark.vm

BOOT_SECONDS = 1200.0
# What the member installs by itself, and what its user data asks for.
MEMBER_PACKAGES = [
    "sssd-ad", "libnss-sss", "libpam-sss", "adcli", "realmd", "krb5-user", "krb5-config", "cifs-utils", "keyutils",
    "zsh", "tree",
]  # fmt: skip
WRONG = """#cloud-config
hostname: dc
bedplate:
  join:
    domian: example.test
    user: joiner
    password: Passw0rd-never
"""
RIGHT = """#cloud-config
hostname: member
users:
  - default
  - name: ada
    ssh_authorized_keys: ["{key}"]
packages: [tree]
bedplate:
  shell: /bin/zsh
  join:
    domain: example.test
    server: 10.9.0.1
    user: joiner
    password_credential: join.password
    computer_ou: OU=Servers
    admins: [Server Admins]
"""
NETWORK = """[Match]
MACAddress={mac}
[Link]
RequiredForOnline=no
[Network]
Address={address}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


@dataclass(frozen=True)
class Guest:
    """A machine to ask."""

    machine: Machine
    access: SshAccess
    toolbox: Toolbox

    def ask(self, script: str) -> Completed:
        command = self.access.command()
        return self.toolbox.run(command[0], *command[1:], "bash", "-s", stdin=script.encode(), ok=range(256))

    def until(self, script: str, seconds: float) -> bool:
        """Whether ``script`` succeeded before the time was over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ask(script).code == 0:
                return True
            self.machine.wait(2.0)
        return False


@dataclass(frozen=True)
class Network:
    """Both machines."""

    controller: Guest
    member: Guest


@pytest.fixture(scope="module")
def network(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    place = tmp_path_factory.mktemp("join")
    member_image = find_image(workspace, str(build_track(workspace, "server", Relock.WHEN_NEEDED).directory))
    controller_image = track_with(workspace, "server", PACKAGES, place)
    repository = make_repository(workspace, "server", MEMBER_PACKAGES, place / "repository")
    ends = [place / "controller.end", place / "member.end"]

    with repository_server(repository) as port:
        credentials = {"bedplate.repository": f"http://10.0.2.2:{port}\n".encode(), "join.password": b"Passw0rd-joiner"}

        def machine(image: FoundImage, name: str, number: int, user_data: str) -> tuple[Machine, SshAccess]:
            folder = place / name
            folder.mkdir()
            options, access = with_ssh(machine_options(workspace, image), folder)
            key = options.credentials["ssh.authorized_keys.root"].decode().strip()
            seed = write_seed(toolbox, folder / "seed", user_data.replace("{key}", key), instance=name, hostname=name)
            mac = f"52:54:00:00:00:0{number}"
            link = NETWORK.format(mac=mac, address=f"10.9.0.{number}")
            cable = Cable(ends[number - 1], ends[2 - number], mac)
            given = {**options.credentials, **credentials, "network.network.20-cable": link.encode()}
            options = replace(options, cable=cable, drives=(*options.drives, seed), credentials=given)
            return Machine(options, choose(toolbox), toolbox), access

        first, first_access = machine(controller_image, "dc", 1, WRONG)
        second, second_access = machine(member_image, "member", 2, RIGHT)
        with first, second:
            controller, member = Guest(first, first_access, toolbox), Guest(second, second_access, toolbox)
            for guest in (controller, member):
                assert wait_until_reachable(guest.machine, guest.access, BOOT_SECONDS), guest.machine.console.data[
                    -2000:
                ].decode("ascii", "replace")
            yield Network(controller, member)


def status(guest: Guest) -> dict[str, object]:
    found = json.loads(guest.ask("bedplate-join status --json").text)
    assert isinstance(found, dict)
    return found


def test_wrong_user_data_is_named_by_its_key_and_the_machine_boots_well(network: Network) -> None:
    controller = network.controller
    assert controller.ask("timeout 900 systemctl is-system-running --wait").text.strip() == "running"
    said = controller.ask("cloud-init status --wait --long").text
    assert "bedplate.join.domian: no such key; did you mean domain?" in said
    assert "bedplate.join.password: user data can be read" in said
    assert "correct the user data" in said
    assert "schema" not in said
    assert "Passw0rd-never" not in said
    assert "domian" in controller.ask("cat /run/motd.d/50-bedplate-join").text
    assert status(controller)["step"] == "none"


def test_a_domain_is_made(network: Network) -> None:
    done = network.controller.ask(PROVISION)
    assert done.code == 0, done.text[-3000:] + done.stderr[-3000:]


def test_a_controller_that_is_away_is_waited_for_and_the_machine_is_well(network: Network) -> None:
    member = network.member
    said = member.ask("cloud-init status --wait --long").text
    assert "not yet a member of example.test: no domain controller of example.test answers at 10.9.0.1" in said
    assert member.ask("timeout 900 systemctl is-system-running --wait").text.strip() == "running"
    found = status(member)
    assert (found["step"], found["domain"]) == ("waiting", "example.test")
    assert "Not yet a member of example.test" in member.ask("cat /run/motd.d/50-bedplate-join").text
    assert member.ask("ls /etc/krb5.conf.d /etc/sudoers.d /etc/sssd/conf.d | grep bedplate-join").text == ""


def test_the_rest_of_the_user_data_was_done(network: Network) -> None:
    seen = network.member.ask("getent passwd ada | cut -d: -f7; rpm -q --qf '%{NAME}\n' tree zsh").text.split()
    assert seen == ["/bin/zsh", "tree", "zsh"]


def test_it_joins_by_itself_when_the_controller_appears(network: Network) -> None:
    assert network.controller.ask("systemctl start samba-ad-dc").code == 0
    assert network.controller.until("ss -ltn | grep -q '10.9.0.1:389 '", 600)
    assert network.member.until("bedplate-join status --json | grep -q joined", 1200), status(network.member)
    assert network.member.ask("cat /run/motd.d/50-bedplate-join").code != 0
    assert "example.test" in network.member.ask("realm list").text
    assert network.member.ask("uname -n").text.strip() == "member.example.test"


def test_the_domains_people_and_groups_are_known(network: Network) -> None:
    seen = network.member.ask("id -Gn alice@example.test").text
    assert "server admins@example.test" in seen
    rules = network.member.ask("sudo -l -U alice@example.test").text
    assert "(ALL : ALL) ALL" in rules


def _as_alice(network: Network, *commands: str) -> Completed:
    """On the member, logged in from the controller with a ticket; what mounts is done by sudo with her password."""
    sudo = "echo Passw0rd-alice | sudo -S --preserve-env=KRB5CCNAME "
    script = "; ".join(["set -e", *(sudo + one if "mount" in one else one for one in commands)])
    return network.controller.ask(
        "echo Passw0rd-alice | kinit alice@EXAMPLE.TEST >/dev/null; ssh -o StrictHostKeyChecking=no"
        " -o GSSAPIAuthentication=yes -o GSSAPIDelegateCredentials=yes -o PreferredAuthentications=gssapi-with-mic"
        f" -l alice@example.test member.example.test '{script}'"
    )


def test_a_ticket_logs_in_by_ssh_and_comes_along(network: Network) -> None:
    seen = _as_alice(network, "id -un; pwd; stat -c %a .; klist").text
    lines = seen.split("\n")
    assert lines[:3] == ["alice@example.test", "/home/alice@example.test", "700"]
    assert "Default principal: alice@EXAMPLE.TEST" in seen


def test_a_password_gets_a_ticket_and_a_home_and_a_wrong_one_does_not(network: Network) -> None:
    as_nobody = "cd /; setpriv --reuid 65534 --regid 65534 --clear-groups su bob@example.test -c"
    seen = network.member.ask(f"echo Passw0rd-bob | {{ {as_nobody} 'id -un; stat -c %a ~; klist'; }}")
    assert seen.text.startswith("bob@example.test\n700\n"), seen.text + seen.stderr
    assert "krbtgt/EXAMPLE.TEST@EXAMPLE.TEST" in seen.text
    assert network.member.ask(f"echo Passw0rd-wrong | {{ {as_nobody} id; }}").code != 0


def test_who_is_in_none_of_the_groups_does_not_log_in(network: Network) -> None:
    assert network.member.ask("id mallory@example.test").code == 0
    denied = network.controller.ask(
        "echo Passw0rd-mallory | kinit -c /tmp/other mallory@EXAMPLE.TEST >/dev/null && echo ticket;"
        " KRB5CCNAME=/tmp/other ssh"
        " -o StrictHostKeyChecking=no -o GSSAPIAuthentication=yes -o PreferredAuthentications=gssapi-with-mic"
        " -l mallory@example.test member.example.test id"
    )
    assert denied.code != 0
    assert denied.text == "ticket\n"


def test_a_share_is_mounted_with_the_ticket_and_written_to(network: Network) -> None:
    done = _as_alice(
        network,
        "mount -t cifs //dc.example.test/share /mnt -o sec=krb5,cruid=$(id -u),uid=$(id -u),username=alice",
        "echo from the member >/mnt/file",
        "umount /mnt",
    )
    assert done.code == 0, done.text + done.stderr
    assert network.controller.ask("cat /srv/share/file").text == "from the member\n"


def test_leaving_takes_everything_back(network: Network) -> None:
    done = network.member.ask("bedplate-join leave --json")
    assert json.loads(done.text)["step"] == "none"
    assert network.member.ask("id alice@example.test").code != 0
    assert network.member.ask("find /etc -name '*bedplate-join*' -type f; ls /etc/krb5.keytab").text == ""


def test_a_refused_password_is_said_and_nothing_of_that_try_stays(network: Network) -> None:
    done = network.member.ask(
        "echo Passw0rd-wrong | bedplate-join join example.test --server 10.9.0.1 --user joiner"
        " --admins 'Server Admins' --password-stdin"
    )
    assert (done.code, status(network.member)["step"]) == (1, "failed"), done.text + done.stderr
    assert "the domain refused the password (Couldn't authenticate as: joiner@EXAMPLE.TEST" in done.stderr
    assert "then run: bedplate-join retry" in network.member.ask("cat /run/motd.d/50-bedplate-join").text
    assert network.member.ask("find /etc -name '*bedplate-join*' -type f; ls /etc/krb5.keytab").text == ""


def test_a_one_time_password_joins_without_a_server_by_name(network: Network) -> None:
    once = "samba-tool user setpassword 'MEMBER$' --newpassword=Passw0rd-once"
    assert network.controller.ask(once).code == 0
    # User data would be merged with that of the first boot, which names a user: the module's function is called.
    done = network.member.ask(
        "card=$(ip -o -4 addr show to 10.9.0.2 | cut -d' ' -f2)\n"
        "resolvectl dns $card 10.9.0.1; resolvectl domain $card '~example.test'\n"
        "python3 -c 'import logging; from bedplate_join.first_boot import configure;"
        ' join = {"domain": "example.test", "one_time_password": "Passw0rd-once", "login": "all"};'
        ' configure({"join": join}, None, "admin", logging.getLogger())\'\n'
    )
    assert status(network.member)["step"] == "joined", done.text + done.stderr
    assert network.member.until("id mallory@example.test", 120)


def test_no_password_is_left_on_the_disk(network: Network) -> None:
    found = network.member.ask(
        "grep -rIl Passw0rd /etc /var /root /run/cloud-init 2>/dev/null; journalctl -b -o cat | grep Passw0rd"
    ).text
    assert found.splitlines() == []


def test_nothing_was_denied(network: Network) -> None:
    found = network.member.ask(
        "getenforce; { journalctl -b -k -o cat; cat /var/log/audit/audit.log; } | grep -o 'avc:  *denied.*' | sort -u"
    ).text
    assert found.splitlines() == ["Enforcing"]
