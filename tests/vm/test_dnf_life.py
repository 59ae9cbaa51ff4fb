"""Life after installation: what dnf does to a booted, enforcing server, and what it refuses; one boot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.support.hundred import asked_for, install_one_by_one
from tests.support.life_demo import MANY, MODULES, LifeRepository, demo_files, module_files, other_files
from tests.support.packages import TestKey
from tests.support.repository import make_repository
from tests.support.server import DENIALS, Server, booted_server
from tests.vm.test_server import EXPLAINED

from bedplate.emulator.options import Drive
from bedplate.flows.definition import read_definition
from bedplate.flows.formats import add_formats
from bedplate.flows.keys import key_store
from bedplate.flows.tracks import build_tracks
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Completed, Toolbox

pytestmark = pytest.mark.vm

NOW = 1_800_000_000
# Of the hundred packages asked for most; bench/hundred_packages goes through all of them.
SLICE = ["php-fpm", "git", "rsyslog"]
FOREIGN = {"/usr/bin/life-foreign": b"#!/bin/sh\n"}


# The image of this commit, from the disk it was given on, run by people and by a service.
_PODMAN = r"""
set -e
podman pull -q oci-archive:/dev/disk/by-id/virtio-base-image >/dev/null
image=$(podman images --format '{{.Repository}}:{{.Tag}}' | grep bedplate-server)
run() { podman run --rm "$@"; }
run $image bash -c '
  . /etc/os-release; echo "track $VARIANT_ID"; [ ! -e /usr/lib/modules ] && echo "no modules"
  rpm -qa | wc -l; tr "\0" "\n" </proc/self/attr/current'
echo "through a pipe" | run -i --network none $image cat
systemctl daemon-reload
systemd-run -q --wait -P podman run --rm $image bash -c 'tr "\0" "\n" </proc/self/attr/current; echo "by a service"'
"""


@dataclass(frozen=True)
class Life:
    """A booted server, and its repository to change."""

    server: Server
    repository: LifeRepository

    def ask(self, script: str) -> Completed:
        return self.server.ask(script)

    def words(self, script: str) -> list[str]:
        return self.server.ask(script).text.split()

    def dnf(self, arguments: str) -> Completed:
        return self.server.ask(f"dnf -y {arguments} 2>&1; code=$?; rm -rf /var/cache/dnf/*/packages; exit $code")


@pytest.fixture(scope="module")
def life(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    place = tmp_path_factory.mktemp("life")
    root = make_repository(
        workspace, "server", [*SLICE, "mariadb-server", "valkey-server", "podman"], place / "repository"
    )
    definition = read_definition(workspace)
    folder = root / definition.distro.stream / "x86_64"
    (place / "scratch").mkdir()
    signer = key_store(workspace, definition).signer("packages")
    repository = LifeRepository(folder, place / "scratch", definition, signer)
    repository.add("life-demo", 1, demo_files(1))
    repository.add("life-other", 1, other_files())
    repository.add("life-modules", 1, module_files())
    repository.publish(NOW)
    base = add_formats(workspace, build_tracks(workspace, ["server"]).builds[0], ["oci"])
    drives = [Drive(base.build.path("base.oci.tar"), "base-image")]
    with booted_server(workspace, toolbox, place, root, drives=drives) as server:
        yield Life(server, repository)


def test_groups_and_queries_answer(life: Life) -> None:
    assert "Life demo" in life.dnf("group list").text
    assert "life-demo-1-1.noarch" in life.dnf("-q provides /usr/bin/life-demo").text
    assert life.dnf("-q repoquery --qf '%{name}:%{version}' life-demo life-other").text.split() == [
        "life-demo:1",
        "life-other:1",
    ]


def test_triggers_do_what_scripts_would_have_done(life: Life) -> None:
    done = life.dnf("install life-demo life-other")
    assert done.code == 0, done.text
    assert life.words("rpm -V life-demo life-other; ls -A /var/lib/bedplate/failed") == []
    assert life.words("id -u life-demo; stat -c '%U %a' /var/lib/life-demo") == ["899", "life-demo", "750"]
    # What the policy's package brings is at the priority a later version of it comes with, what others bring above it.
    levels = life.ask("semodule -lfull | awk '$2 ~ /^life_|^base$|^bedplate$/ { print $1, $2 }' | sort").text
    assert levels.splitlines() == ["100 base", "100 life_first", "100 life_second", "200 bedplate", "200 life_other"]
    seen = life.ask(
        "systemctl start man-db.service; whatis life-other;"
        " openssl crl2pkcs7 -nocrl -certfile /etc/ssl/certs/ca-certificates.crt"
        " | openssl pkcs7 -print_certs -noout | grep -c '^subject.*Life Demo Authority'"
    ).text
    assert "brings what takes long" in seen
    assert seen.split()[-1] == "1"


def test_byte_code_of_a_large_package_is_made_when_nobody_waits_for_it(life: Life) -> None:
    done = life.dnf("install life-modules")
    assert done.code == 0, done.text
    seen = life.words(
        "timeout 900 sh -c 'while ls /var/lib/bedplate | grep -q bytecode; do sleep 1; done';"
        f" ls {MODULES}/__pycache__ | wc -l;"
        " systemctl show -P Result bedplate-bytecode; systemctl is-enabled bedplate-bytecode;"
        " python3 -c 'import life_modules.m7 as m; print(m.n, m.__spec__.cached)'"
    )
    assert seen[:4] == [str(MANY), "success", "enabled", "7"]
    assert seen[4].startswith(f"{MODULES}/__pycache__/m7.")


def test_a_preset_is_applied_once_and_the_administrator_has_the_last_word(life: Life) -> None:
    assert life.words("systemctl is-enabled life-demo") == ["enabled"]
    life.repository.add("life-demo", 2, demo_files(2))
    life.repository.add("life-other", 2, other_files())
    life.repository.publish(NOW + 1, [("life-demo", 2)])
    assert life.ask("systemctl disable life-demo && systemctl start life-demo").code == 0
    main = life.words("systemctl show -P MainPID life-demo")
    listed = life.dnf("--refresh -q updateinfo list --security").text
    assert "TEST-2026:life-demo-2-1" in listed
    assert "life-demo-2-1.noarch" in listed
    assert "CVE-2026-4242" in life.dnf("-q updateinfo info TEST-2026:life-demo-2-1").text
    done = life.dnf("upgrade --security")
    assert done.code == 0, done.text
    assert life.words("life-demo; rpm -q life-other; systemctl is-enabled life-demo") == [
        "2",
        "life-other-1-1.noarch",
        "disabled",
    ]
    # An upgrade leaves what runs alone, and systemd knows the new file.
    assert life.words("systemctl show -P MainPID life-demo; systemctl show -P NeedDaemonReload life-demo") == [
        *main,
        "no",
    ]


def test_a_version_goes_back_and_forth(life: Life) -> None:
    for arguments, version in (("downgrade life-demo", "1"), ("history undo last", "2"), ("reinstall life-demo", "2")):
        done = life.dnf(arguments)
        assert done.code == 0, done.text
        assert life.words("life-demo; rpm -V life-demo life-other") == [version]


def test_what_is_removed_is_stopped_well_and_leaves_nothing_enabled(life: Life) -> None:
    assert life.ask("systemctl enable life-demo").code == 0
    assert life.dnf("remove life-demo").code == 0
    assert life.ask("cat /var/lib/life-demo/stopped").text.strip() == "version 2 was stopped well"
    seen = life.words(
        "systemctl is-active life-demo; find /etc/systemd/system -name 'life-demo*'; systemctl --failed --no-legend;"
        " grep -c life-demo /var/lib/bedplate/units; ls -A /var/lib/bedplate/failed"
    )
    assert seen == ["inactive", "0"]


def test_databases_run_confined_and_answer(life: Life) -> None:
    done = life.dnf("install mariadb-server valkey-server")
    assert done.code == 0, done.text
    started = life.ask("systemctl enable --now mariadb valkey-server 2>&1; journalctl -b -n 30 -o cat -u mariadb")
    assert started.code == 0, started.text
    assert life.words("mariadb -NBe 'create database t; create table t.a (n int); insert into t.a values (6*7)'") == []
    assert life.words("mariadb -NBe 'select n from t.a'; valkey-cli set a 42; valkey-cli get a") == ["42", "OK", "42"]
    (domain,) = life.words("ps -o label= -C mariadbd")
    assert domain.split(":")[2] == "mysqld_t"
    assert life.words("ldconfig -p | grep -c libmariadb.so.3") == ["1"]


def test_podman_runs_the_base_image_confined(life: Life) -> None:
    done = life.dnf("install podman")
    assert done.code == 0, done.text
    ran = life.ask(_PODMAN)
    assert ran.code == 0, ran.text + ran.stderr
    lines = ran.text.splitlines()
    assert life.ask(DENIALS).text.splitlines() == []
    assert lines[:2] == ["track server", "no modules"]
    assert int(lines[2]) > 100  # packages, as rpm in the container counts them
    labels = [line.split(":")[2:] for line in lines if line.startswith("system_u:")]
    assert {domain for domain, *_ in labels} == {"container_t"}
    assert len({str(level) for _, *level in labels}) == len(labels) == 2  # each has categories of its own
    assert [line for line in lines[3:] if not line.startswith("system_u:")] == ["through a pipe", "by a service"]


def test_a_package_signed_by_somebody_else_is_refused(life: Life) -> None:
    life.repository.add("life-foreign", 1, FOREIGN, TestKey.generate())
    life.repository.publish(NOW + 2)
    done = life.dnf("--refresh install life-foreign")
    assert done.code != 0
    assert "GPG" in done.text
    assert life.ask("rpm -q life-foreign").code != 0


def test_packages_people_ask_for_are_installed_one_by_one_without_a_complaint(life: Life) -> None:
    results = install_one_by_one(life.server, asked_for(SLICE))
    assert [(one["name"], one["problems"]) for one in results] == [(name, []) for name in [*SLICE, "(removal)"]]


def test_metadata_signed_by_somebody_else_is_refused(life: Life) -> None:
    life.repository.publish(NOW + 3, signer=TestKey.generate())
    done = life.dnf("--refresh repoquery life-demo")
    assert done.code != 0
    assert "GPG" in done.text


def test_a_repository_that_went_back_in_time_is_refused_until_the_administrator_allows_it(life: Life) -> None:
    life.repository.publish(NOW + 1)
    for _ in range(2):  # also the next time, when it would lie in the cache
        done = life.dnf("--refresh install life-demo")
        assert done.code != 0
        assert "went back in time" in done.text
        assert "rm /var/lib/bedplate/repositories/bedplate" in done.text
    assert life.words("cat /var/lib/bedplate/repositories/bedplate") == [str(NOW + 2)]
    assert life.ask("rm /var/lib/bedplate/repositories/bedplate").code == 0
    assert life.dnf("install life-demo").code == 0
    assert life.words("cat /var/lib/bedplate/repositories/bedplate") == [str(NOW + 1)]


def test_nothing_was_denied_and_the_package_database_agrees_with_the_disk(life: Life) -> None:
    assert life.ask(DENIALS).text.splitlines() == []
    lines = [line for line in life.ask("rpm -Va").text.splitlines() if line.strip()]
    assert [line for line in lines if not EXPLAINED.search(line)] == []
    assert life.words("systemctl is-system-running") == ["running"]
