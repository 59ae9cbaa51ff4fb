"""What bedplate-patch sees of a running system: replaced files, sockets, health; and its configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.patching import WELL, FakeMachine, FakeTime, make_root

from bedplate_patch.config import Config, Health, parse_config, read_config
from bedplate_patch.door import Completed, run
from bedplate_patch.errors import BadInput
from bedplate_patch.health import Clock, Finding, compare, judge, operators
from bedplate_patch.processes import Process, unit_of, using_any, using_replaced
from bedplate_patch.restart import decide, in_order
from bedplate_patch.services import listening
from bedplate_patch.transaction import Change
from bedplate_patch.verify import disagreements

LIMITS = Health(settle_seconds=3, watch_seconds=2)
NGINX = "0::/system.slice/nginx.service\n"


def _process(proc: Path, pid: int, maps: str, cgroup: str = NGINX) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "root").symlink_to("/")
    (folder / "maps").write_text(maps)
    (folder / "comm").write_text("nginx\n")
    (folder / "cgroup").write_text(cgroup)


def test_a_program_whose_file_was_replaced_or_removed_is_found(tmp_path: Path) -> None:
    same, gone = Path("/usr/bin/env"), Path("/usr/bin/there-is-no-such-program")
    inode = same.stat().st_ino
    line = "7f00-7f01 r-xp 00000000 fe:00 {} {}\n"
    proc = tmp_path / "proc"
    _process(proc, 10, line.format(inode, same))
    _process(proc, 11, line.format(inode + 1, f"{same} (deleted)"))
    _process(proc, 12, line.format(5, f"{gone} (deleted)"), "0::/user.slice/user-0.slice/session-4.scope\n")
    _process(proc, 13, line.format(5, "/memfd:x (deleted)") + line.format(5, "/dev/shm/y (deleted)"))
    assert using_replaced(proc) == [
        Process(11, "nginx", "nginx.service", (str(same),)),
        Process(12, "nginx", "session-4.scope", (str(gone),)),
    ]


def test_a_dry_run_finds_who_uses_what_would_be_replaced(tmp_path: Path) -> None:
    _process(tmp_path, 10, "7f00-7f01 r-xp 00000000 fe:00 7 /usr/lib/libssl.so.3\n")
    _process(tmp_path, 11, "7f00-7f01 r-xp 00000000 fe:00 7 /usr/lib/libc.so.6\n")
    assert [process.pid for process in using_any({"/usr/lib/libssl.so.3"}, tmp_path)] == [10]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (NGINX, "nginx.service"),
        ("0::/system.slice/system-pg.slice/pg@15-main.service/inner\n", "pg@15-main.service"),
        ("0::/user.slice/user-0.slice/session-4.scope\n", "session-4.scope"),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n", "user@0.service"),
        ("0::/init.scope\n", "init.scope"),
        ("", ""),
    ],
)
def test_the_unit_of_a_process(cgroup: str, unit: str) -> None:
    assert unit_of(cgroup) == unit


def test_units_are_restarted_after_what_they_are_ordered_after() -> None:
    after = {"web.service": ("db.service", "network.target"), "db.service": (), "a.service": ("web.service",)}
    assert in_order(after.keys(), after) == ["db.service", "web.service", "a.service"]
    assert in_order(["x", "y"], {"x": ["y"], "y": ["x"]}) == ["x", "y"]


def test_what_only_a_reboot_reaches_is_said_and_not_restarted() -> None:
    processes = [
        Process(1, "systemd", "init.scope", ("/usr/lib/libc.so.6",)),
        Process(5, "systemd-logind", "systemd-logind.service", ("/usr/lib/libc.so.6",)),
        Process(6, "agetty", "serial-getty@ttyS0.service", ("/usr/lib/libc.so.6",)),
        Process(7, "sshd", "ssh.service", ("/usr/lib/libc.so.6",)),
        Process(8, "postgres", "postgresql@17.service", ("/usr/lib/libc.so.6",)),
    ]
    decided = decide(processes, [Change("bash", "x86_64", "upgrade")], {}, ["postgresql@*"])
    assert decided.units == ("ssh.service",)
    assert decided.sessions == ("agetty[6] in serial-getty@ttyS0.service",)
    assert [reason.split()[0] for reason in decided.reboot] == [
        "systemd",
        "systemd-logind.service",
        "postgresql@17.service",
    ]


@pytest.mark.parametrize("name", ["linux-image-6.13-cloud-amd64", "libc6", "systemd", "dbus-broker"])
def test_packages_that_need_a_boot(name: str) -> None:
    assert decide([], [Change(name, "x86_64", "upgrade")], {}).reboot[0].startswith(f"{name}: ")
    assert decide([], [Change(name, "x86_64", "remove")], {}).reboot == ()


def test_listening_sockets_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st\n"
    (tmp_path / "tcp").write_text(head + "   0: 0100007F:1F90 00000000:0000 0A\n   1: 0F02000A:0016 0202000A:E000 01\n")
    (tmp_path / "tcp6").write_text(head + "   0: 00000000000000000000000000000000:0016 0:0000 0A\n")
    (tmp_path / "udp").write_text(head + "   0: 00000000:0044 00000000:0000 07\n   1: 00000000:9C40 00000000:0000 07\n")
    assert listening(tmp_path) == ("tcp/22@::", "tcp/8080@127.0.0.1", "udp/68@0.0.0.0")


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(make_root(tmp_path / "root"))


def test_a_service_may_take_its_time_to_come_up(machine: FakeMachine) -> None:
    clock, states = FakeTime(), iter([replace(WELL, sockets=()), replace(WELL, sockets=()), *[WELL] * 99])
    machine.snapshot = lambda: next(states)  # type: ignore[method-assign]
    assert judge(WELL, machine, LIMITS, machine.root, Clock(clock.monotonic, clock.sleep)) == []


def test_a_service_that_falls_over_after_a_moment_is_noticed(machine: FakeMachine) -> None:
    clock, states = FakeTime(), iter([WELL, WELL, replace(WELL, failed=("web.service",)), WELL])
    machine.snapshot = lambda: next(states)  # type: ignore[method-assign]
    found = judge(WELL, machine, LIMITS, machine.root, Clock(clock.monotonic, clock.sleep))
    assert found == [Finding("unit-failed", "web.service")]


def test_what_was_bad_before_is_no_reason(machine: FakeMachine) -> None:
    before = replace(WELL, failed=("old.service",), sockets=())
    machine.breaks, machine.sick = True, replace(WELL, failed=("old.service",))
    (machine.root / "usr/bin/web").write_text("web 2\n")
    assert compare(before, machine, LIMITS) == []


def test_a_lost_network_is_noticed(machine: FakeMachine) -> None:
    machine.snapshot = lambda: replace(WELL, interfaces=(), routes=())  # type: ignore[method-assign]
    assert {one.check for one in compare(WELL, machine, LIMITS)} == {"interface-down", "route-gone"}


def _check(root: Path, name: str, text: str, below: str = "etc") -> None:
    folder = root / below / "bedplate-patch/health.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_the_operators_checks_run_and_their_last_line_is_told(machine: FakeMachine) -> None:
    machine.checks = lambda command: run(command, seconds=20)
    _check(machine.root, "bad", "#!/bin/sh\necho looking\necho no page\nexit 3\n")
    _check(machine.root, "good", "#!/bin/sh\nexit 0\n")
    _check(machine.root, "off", "#!/bin/sh\nexit 1\n", "usr/lib")
    _check(machine.root, "off", "")
    _check(machine.root, "must.units", "# these\nweb.service\nother.service\n")
    assert [one.what for one in operators(machine, LIMITS, machine.root)] == [
        "bad: ended with 3: no page",
        "must.units: other.service is not active",
    ]


def test_a_check_that_hangs_is_ended_with_all_it_started() -> None:
    done = run(["/bin/sh", "-c", "sleep 1000 & sleep 1000"], seconds=0.2)
    assert done.code == 124


def test_a_check_that_cannot_be_started_is_a_failure() -> None:
    assert run(["/there/is/no/such/program"], seconds=5) == Completed(
        127, "/there/is/no/such/program: No such file or directory"
    )


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none.toml") == Config()


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "patch.toml"
    path.write_text(
        '[window]\nzone = "Mars/Base"\nopen = ["sunday 3am"]\n[patch]\nreboot = "always"\nexclud = []\n'
        "[health]\nsettle_seconds = -1\n"
    )
    with pytest.raises(BadInput) as caught:
        read_config(path)
    for word in ("patch.toml", "Mars/Base", "sunday 3am", "always", "patch.exclud", "settle_seconds"):
        assert word in caught.value.message


def test_daily_is_every_day() -> None:
    assert len(parse_config({"window": {"open": ["daily 01:30 90min"]}}).windows) == 7


def test_what_rpm_disagrees_with_is_a_fault_unless_it_is_configuration_or_a_ghost() -> None:
    faults = ["S.5....T.    /usr/bin/web", "missing     /usr/lib/web", ".M.......  d /usr/doc", "missing     /c /x"]
    expected = ["S.5....T.  c /etc/web.conf", "missing   c /etc/web.more", ".......T.  g /run/web", "missing   g /x"]
    assert disagreements("\n".join([*faults, "", *expected])) == faults
