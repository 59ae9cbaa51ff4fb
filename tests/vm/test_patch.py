"""A server is patched, well and badly, and loses power meanwhile: it always comes back whole. One machine, in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.patched import ADVISORY, Patched, patched_server

from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.vm

PAGE = "curl -sf -o /dev/null http://127.0.0.1/ && echo served"
NEW = "/opt/bedplate-new"
# It brings a file outside of all that is saved as a whole, too.
BROKEN = {"/usr/sbin/nginx": b"#!/bin/sh\nexit 1\n", NEW: b"new\n"}
# Fails in every boot and only then: what all file systems wait for, which ends in emergency mode.
NO_BOOT = {
    "/usr/lib/systemd/system/no-boot.service": b"[Unit]\nDefaultDependencies=no\nBefore=local-fs.target\n"
    b"ConditionPathExists=!/run/dbus/system_bus_socket\n[Service]\nType=oneshot\nExecStart=/usr/bin/false\n",
    "/usr/lib/systemd/system/local-fs.target.d/50-no-boot.conf": b"[Unit]\nRequires=no-boot.service\n",
}
_PIDS = "for unit in nginx ssh chrony; do systemctl show -P MainPID $unit; done"


@pytest.fixture(scope="module")
def patched(workspace: Workspace, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patched]:
    with patched_server(workspace, toolbox, tmp_path_factory.mktemp("patched")) as node:
        yield node


def test_a_plan_says_what_would_change_and_touches_nothing(patched: Patched) -> None:
    before = patched.packages()
    patched.depot.publish(".t2", {"nginx": {}, "less": {}, "vim-tiny": {}}, security="less")
    code, report = patched.patch("plan")
    assert (code, report["outcome"]) == (0, "planned")
    # vim is excluded by the configuration.
    assert {one["name"]: one["advisories"] for one in report["changes"]} == {"less": [ADVISORY], "nginx": []}
    assert report["restarts"]["units"] == ["nginx.service"]
    assert report["restarts"]["reboot"] == []
    assert [one["name"] for one in patched.patch("plan --security")[1]["changes"]] == ["less"]
    assert patched.packages() == before


def test_the_nightly_timer_runs_in_its_hours_and_takes_what_the_switch_says(patched: Patched) -> None:
    timer = "bedplate-updates"
    # What else is waiting for its time is not to wake up when the clock is set.
    patched.words(
        "systemctl list-units --type=timer --state=active --plain --no-legend | cut -d ' ' -f 1 >/run/timers;"
        f" systemctl stop chrony $(cat /run/timers); systemctl clean --what=state {timer}.timer"
    )
    patched.clock(1, "02:55")
    patched.words(f"systemctl start {timer}.timer")
    assert "0300" <= patched.next_run(timer) <= "0500"
    patched.words(f"systemctl stop {timer}.timer")
    # A moment of these hours is drawn anew when the clock is set: the first one is waited for.
    patched.without_spread(timer, "bedplate-patch")
    for day, mode, names in ((1, "off", []), (2, "security", ["less"])):
        patched.words(f"sed -i 's/^UPDATES=.*/UPDATES={mode}/' /etc/bedplate/updates.conf")
        patched.clock(day, "02:55")
        patched.words(f"systemctl start {timer}.timer")
        before = patched.last_run(timer)
        assert patched.next_run(timer) == "0300"
        patched.clock(day, "02:59:50")
        patched.run_after(timer, before)
        assert "0300" <= patched.began(timer) <= "0500"
        assert patched.words("rpm -q --qf '%{NAME} %{RELEASE}\\n' nginx less | sed -n 's/ .*[.]t2$//p'") == names
    patched.words(f"systemctl stop {timer}.timer; systemctl clean --what=state {timer}.timer")


def test_with_a_window_it_patches_once_in_it_and_never_outside(patched: Patched) -> None:
    timer = "bedplate-patch"
    patched.words(
        "cp /etc/bedplate/patch.toml /run/;"
        " printf '[window]\\nopen = [\"daily 03:00 1h\"]\\n' >>/etc/bedplate/patch.toml;"
        " sed -i 's/^UPDATES=.*/UPDATES=all/' /etc/bedplate/updates.conf"
    )
    patched.clock(3, "02:40")
    patched.words(f"systemctl start {timer}.timer")
    said = {}
    for clock in ("02:44:57", "02:59:57", "03:29:57", "04:14:57"):
        before = patched.last_run(timer)
        patched.clock(3, clock)
        said[clock] = patched.run_after(timer, before)
        updated = patched.words("rpm -q --qf '%{RELEASE}\\n' nginx")[0].endswith(".t2")
        assert updated is (clock != "02:44:57"), said
        if clock == "02:59:57":
            patched.depot.publish(".t2a", {"nginx": {}})
    assert "No window is open." in said["02:44:57"]
    assert "Patched; the system is well." in said["02:59:57"]
    assert "Done in this window already." in said["03:29:57"]
    assert "No window is open." in said["04:14:57"]
    # The nightly one leaves it to the windows.
    patched.words("systemctl start bedplate-updates")
    assert not [name for name in patched.packages() if ".t2a." in name]
    patched.words(
        "cp /run/patch.toml /etc/bedplate/; sed -i 's/^UPDATES=.*/UPDATES=off/' /etc/bedplate/updates.conf;"
        f" systemctl stop {timer}.timer"
    )
    patched.with_spread()
    patched.clock(0, "$(cat /sys/class/rtc/rtc0/time)")
    patched.words("systemctl start chrony $(cat /run/timers)")


def test_a_good_patch_is_kept_and_only_what_uses_replaced_files_is_restarted(patched: Patched) -> None:
    patched.words(
        "printf '#!/bin/sh\\ntouch /run/asked\\n' >/etc/bedplate-patch/health.d/asked;"
        " chmod 0755 /etc/bedplate-patch/health.d/asked"
    )
    nginx, *others = patched.words(_PIDS)
    code, report = patched.patch("apply")
    assert (code, report["outcome"], report["restarted"]) == (0, "done", ["nginx.service"]), report
    now, *others_now = patched.words(_PIDS)
    assert now != nginx
    assert others_now == others
    assert patched.words(f"ls /run/asked; {PAGE}") == ["/run/asked", "served"]
    assert patched.faults() == []


def test_a_patch_that_breaks_a_service_is_taken_back_by_itself(patched: Patched) -> None:
    before = patched.packages()
    patched.depot.publish(".t3", {"nginx": BROKEN})
    code, report = patched.patch("apply")
    assert (code, report["outcome"]) == (1, "rolled-back"), report
    assert "nginx.service" in report["findings"][0]["what"]
    assert patched.words(f"test -e {NEW} || echo gone; {PAGE}") == ["gone", "served"]
    assert patched.packages() == before
    # The very same is not tried again.
    code, report = patched.patch("apply")
    assert (code, report["outcome"]) == (4, "not-started")
    status = patched.patch("status")[1]
    assert (status["under_way"], status["last"]["outcome"]) == (None, "rolled-back")


@pytest.mark.parametrize(
    ("command", "says"),
    [("bedplate-patch apply", "as it was"), ("dnf -y --refresh upgrade", "as they were before")],
    ids=["patch", "dnf"],
)
def test_a_disk_that_fills_up_in_the_middle_of_a_transaction_changes_nothing(
    patched: Patched, command: str, says: str
) -> None:
    before = patched.packages()
    patched.depot.publish(".t4", {"rsync": {}, "less": {}, "file": {}, "curl": {}, "libcurl4t64": {}})
    # Filled by another program as soon as packages begin to change.
    done = patched.server.ask(
        "(until grep -qs ^applying /var/lib/bedplate-patch/current/state; do sleep 0.05; done;"
        " for size in 512M 64M 8M 1M 64K 4K; do for number in $(seq 100); do"
        " fallocate -l $size /var/tmp/full.$size.$number 2>/dev/null || break; done; done) &"
        f" {command} 2>&1; echo code=$?; wait; rm -f /var/tmp/full.*"
    )
    assert "code=1" in done.text, done.text
    assert says in done.text, done.text
    assert patched.packages() == before
    assert patched.faults() == []


def test_power_lost_in_the_middle_of_an_upgrade_leaves_old_or_new_packages(patched: Patched) -> None:
    before = patched.packages()
    patched.killed_while_changing("dnf -y --refresh upgrade", 4.0)
    patched.switched_on()
    after = patched.packages()
    assert after == before or sum(name.endswith(".t4.x86_64") for name in after) == 5
    assert patched.faults() == []
    assert patched.words(PAGE) == ["served"]


def test_power_lost_in_the_middle_of_a_patch_takes_it_back_and_it_is_not_to_blame(patched: Patched) -> None:
    patched.depot.publish(".t5", {"rsync": {}, "less": {}, "dbus-broker": NO_BOOT})
    before = patched.packages()
    patched.killed_while_changing("bedplate-patch apply", 1.0)
    patched.switched_on()
    assert patched.packages() == before
    assert patched.patch("status")[1]["last"]["outcome"] == "rolled-back"
    assert patched.faults() == []
    # So the very same may be tried again, and the message bus cannot be restarted.
    code, report = patched.patch("apply")
    assert (code, report["outcome"], len(report["changes"])) == (3, "reboot-needed", 3), report


def test_a_patch_with_which_the_machine_does_not_boot_is_taken_back(patched: Patched) -> None:
    assert sum(name.endswith(".t5.x86_64") for name in patched.packages()) == 3
    boot = patched.server.boot_id
    patched.server.ask("systemctl reboot")
    patched.settled(f"(?!{boot})")
    assert not [name for name in patched.packages() if name.endswith(".t5.x86_64")]
    report = patched.patch("status")[1]["last"]
    assert (report["outcome"], report["verify"]) == ("rolled-back", []), report
    assert patched.words(PAGE) == ["served"]
    assert patched.faults() == []
    # It is not tried again by itself.
    assert patched.patch("apply")[0] == 4


def test_nothing_was_denied(patched: Patched) -> None:
    assert patched.denials() == []
