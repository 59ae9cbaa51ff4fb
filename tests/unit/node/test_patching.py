"""bedplate-patch keeps what is good and takes back what is not; a boot that failed counts."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.patching import UPGRADE, Site, contents, make_site

from bedplate_patch import boot
from bedplate_patch.config import Config, Health, parse_config
from bedplate_patch.errors import NotStarted
from bedplate_patch.health import Finding
from bedplate_patch.processes import Process
from bedplate_patch.report import Report, keep, last
from bedplate_patch.transaction import Change, Plan, Request

ALL = Request()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "root")


def _new(site: Site) -> bool:
    return (site.root / "usr/bin/web").read_text() == "web 2\n"


def test_a_good_patch_is_kept_and_what_uses_replaced_files_is_restarted(site: Site) -> None:
    report = site.patcher().apply(ALL)
    assert (report.outcome, report.restarted, int(report.code)) == ("done", ("web.service",), 0)
    assert _new(site)
    assert not (site.store / "current").exists()
    assert (site.root / "usr/local/bin/mine").read_text() == "the administrator's\n"


def test_units_are_read_anew_when_the_packages_hold_some(site: Site) -> None:
    site.patcher().apply(ALL)
    assert site.machine.reloads == 0
    site.packages.coming |= {"/usr/lib/systemd/system/web.service"}
    site.patcher().apply(ALL)
    assert site.machine.reloads == 1


def test_a_service_that_fails_brings_the_old_system_back_exactly(site: Site) -> None:
    before = contents(site.root)
    site.machine.breaks = True
    report = site.patcher().apply(ALL)
    assert (report.outcome, int(report.code)) == ("rolled-back", 1)
    assert {finding.check for finding in report.findings} == {"unit-failed", "socket-gone"}
    assert contents(site.root) == before
    assert not (site.store / "current").exists()


def test_a_lock_that_was_held_while_saving_is_not_put_back(site: Site) -> None:
    lock = site.root / "var/lib/dnf/rpmdb_lock.pid"
    lock.write_text("4242")
    site.machine.breaks = True
    assert site.patcher().apply(ALL).outcome == "rolled-back"
    assert not lock.exists()


def test_a_restart_that_fails_brings_the_old_system_back(site: Site) -> None:
    site.machine.restart_code = 1
    before = contents(site.root)
    assert site.patcher().apply(ALL).outcome == "rolled-back"
    assert contents(site.root) == before


def test_a_transaction_that_fails_half_way_is_taken_back(site: Site) -> None:
    site.packages.fails = "no space left on device"
    before = contents(site.root)
    report = site.patcher().apply(ALL)
    assert (report.outcome, report.message) == ("rolled-back", "no space left on device")
    assert contents(site.root) == before


def test_what_others_wrote_to_etc_after_the_transaction_is_not_taken_back(site: Site) -> None:
    site.machine.breaks = True
    patcher = site.patcher()
    sleep = patcher.clock.sleep

    def waits(seconds: float) -> None:
        (site.root / "etc/passwd").write_text("root:x:0:0\nada:x:1000:1000\n")
        sleep(seconds)

    patcher.clock = replace(patcher.clock, sleep=waits)
    assert patcher.apply(ALL).outcome == "rolled-back"
    assert "ada" in (site.root / "etc/passwd").read_text()
    assert (site.root / "etc/ld.so.cache").read_text() == "cache 1\n"


def test_what_rpm_disagrees_with_after_coming_back_needs_a_person(site: Site) -> None:
    site.machine.breaks = True
    site.disagreements = ["S.5......    /usr/bin/web"]
    report = site.patcher().apply(ALL)
    assert (report.outcome, int(report.code)) == ("needs-a-person", 5)


def test_the_same_packages_are_not_tried_again_by_themselves(site: Site) -> None:
    site.machine.breaks = True
    site.patcher().apply(ALL)
    site.machine.breaks = False
    with pytest.raises(NotStarted, match="taken back before"):
        site.patcher().apply(ALL)
    newer = replace(UPGRADE, changes=(replace(UPGRADE.changes[0], new="3-1"),))
    site.packages.planned = newer
    assert site.patcher().apply(ALL).outcome == "done"


def test_a_dry_run_touches_nothing(site: Site) -> None:
    before = contents(site.root)
    report = site.patcher().plan(ALL)
    assert (report.outcome, report.changes) == ("planned", UPGRADE.changes)
    assert contents(site.root) == before
    assert not site.store.exists()


def test_the_report_is_kept_as_json(site: Site) -> None:
    report = site.patcher().apply(ALL)
    kept = json.loads((site.store / f"reports/{report.id}.json").read_text())
    assert kept["outcome"] == "done"
    assert kept["changes"][0]["advisories"] == ["BSA-1"]
    assert kept == json.loads(json.dumps(report.as_json()))


def test_the_last_report_is_the_one_kept_last_whatever_the_clock_said(tmp_path: Path) -> None:
    assert last(tmp_path) is None
    for day in range(10, 40):
        keep(Report("done", id=f"200001{day}T000000-a"), tmp_path)
    keep(Report("rolled-back", id="19990101T000000-a"), tmp_path)
    newest = last(tmp_path)
    assert newest is not None
    assert (newest["outcome"], newest["id"]) == ("rolled-back", "19990101T000000-a")
    kept = sorted(path.name for path in (tmp_path / "reports").glob("*.json"))
    assert (len(kept), kept[0], kept[-1]) == (30, "19990101T000000-a.json", "20000139T000000-a.json")
    for damage in (b"", b"\0\xff", b"nothing.json\n"):
        (tmp_path / "reports/last").write_bytes(damage)
        assert last(tmp_path) == json.loads((tmp_path / "reports" / kept[-1]).read_text())


def test_exclusions_and_scope_reach_the_package_manager(site: Site) -> None:
    site.config = replace(site.config, exclude=("postgresql*",))
    site.patcher().plan(Request("security", ("web*",)))
    assert site.packages.request == Request("security", ("postgresql*", "web*"))


class TestReboot:
    """Packages that only a boot brings into use."""

    @pytest.fixture
    def waiting(self, site: Site) -> Site:
        site.packages.planned = replace(UPGRADE, changes=(Change("libc6", "x86_64", "upgrade", "1", "2"),))
        report = site.patcher().apply(ALL)
        assert (report.outcome, int(report.code)) == ("reboot-needed", 3)
        assert report.restarts.reboot == ("libc6: every running program holds the C library, the first process too",)
        site.machine.boot = "boot-2"
        return site

    def test_a_good_boot_keeps_the_patch(self, waiting: Site) -> None:
        assert waiting.patcher().confirm().outcome == "done"
        assert _new(waiting)
        assert not (waiting.store / "current").exists()

    def test_a_boot_that_is_not_well_is_taken_back_and_done_again(self, waiting: Site) -> None:
        waiting.machine.breaks = True
        assert waiting.patcher().confirm().outcome == "rolled-back"
        assert not _new(waiting)
        assert waiting.machine.done[-1] == "reboot"

    def test_no_second_patch_is_begun_before(self, waiting: Site) -> None:
        with pytest.raises(NotStarted, match="waits for a reboot"):
            waiting.patcher().apply(ALL)

    def test_a_boot_that_comes_to_no_end_is_restarted(self, waiting: Site) -> None:
        waiting.patcher().deadline()
        assert waiting.machine.done[-1] == "reboot at once"

    def test_the_deadline_leaves_the_boot_alone_that_made_the_patch(self, waiting: Site) -> None:
        waiting.machine.boot = "boot-1"
        before = list(waiting.machine.done)
        waiting.patcher().deadline()
        assert waiting.machine.done == before

    def test_a_machine_may_reboot_by_itself(self, site: Site) -> None:
        site.config = replace(site.config, reboot="when-needed")
        site.packages.planned = replace(UPGRADE, changes=(Change("systemd", "x86_64", "upgrade", "1", "2"),))
        site.patcher().apply(ALL)
        assert site.machine.done[-1] == "reboot"

    def test_a_kernel_that_boot_counting_gave_up_is_taken_back(self, site: Site) -> None:
        kernel = Change("linux-image-6.13-cloud-amd64", "x86_64", "install", "", "6.13")
        site.packages.planned = replace(UPGRADE, changes=(kernel,))
        site.packages.coming |= {"/usr/lib/modules/6.13/uki.efi"}
        (site.root / "efi/EFI/Linux").mkdir(parents=True)
        (site.root / "efi/EFI/Linux/server-6.12.efi").touch()
        site.patcher().apply(ALL)
        (site.root / "efi/EFI/Linux/server-6.13+0-3.efi").touch()
        site.machine.boot = "boot-2"
        report = site.patcher().confirm()
        assert Finding("kernel-fell-back", "6.12 runs, not 6.13") in report.findings
        assert [one.name for one in (site.root / "efi/EFI/Linux").iterdir()] == ["server-6.12.efi"]


class TestWindows:
    """Patches start where they can end: 5 minutes, 90 seconds a package, 15 minutes for a reboot."""

    # 2026-09-20 is a Sunday; 03:00 in Berlin is 01:00 UTC.
    SUNDAY_0300 = 1_789_866_000.0

    def _site(self, site: Site, opening: str) -> Site:
        values = {"window": {"zone": "Europe/Berlin", "open": [opening]}}
        site.config = replace(parse_config(values), health=Health(settle_seconds=3, watch_seconds=2))
        return site

    def test_nothing_starts_outside(self, site: Site) -> None:
        self._site(site, "sun 03:00 1h").now = self.SUNDAY_0300 - 60
        with pytest.raises(NotStarted, match="2026-09-20 01:00 UTC"):
            site.patcher().apply(ALL)
        assert not _new(site)

    def test_nothing_starts_that_would_not_end_inside(self, site: Site) -> None:
        packages = tuple(Change(f"p{number}", "noarch", "upgrade", "1", "2") for number in range(30))
        site.packages.planned = replace(UPGRADE, changes=packages)
        self._site(site, "sun 03:00 1h").now = self.SUNDAY_0300
        with pytest.raises(NotStarted, match="65 minutes"):
            site.patcher().apply(ALL)

    def test_an_administrator_may_insist(self, site: Site) -> None:
        self._site(site, "sun 03:00 1h").now = self.SUNDAY_0300 - 60
        assert site.patcher().apply(ALL, outside_windows=True).outcome == "done"

    def test_the_timer_patches_once_in_each_opening(self, site: Site) -> None:
        self._site(site, "sun 03:00 1h").now = self.SUNDAY_0300 + 60
        assert site.patcher().automatic("security").outcome == "done"
        assert site.packages.request.scope == "security"
        site.now += 900
        assert site.patcher().automatic("security").message == "Done in this window already."
        site.now += 7 * 86400
        site.packages.planned = Plan()
        assert site.patcher().automatic("security").message == ""

    def test_off_is_off(self, site: Site) -> None:
        assert site.patcher().automatic("off").outcome == "nothing-to-do"
        assert not _new(site)


def test_a_full_disk_is_noticed_before_anything_happens(site: Site) -> None:
    site.packages.planned = replace(UPGRADE, installed_bytes=1 << 60)
    with pytest.raises(NotStarted, match="MiB are needed"):
        site.patcher().apply(ALL)
    assert not (site.store / "current").exists()


def test_nothing_to_do_is_no_patch(site: Site) -> None:
    site.packages.planned = Plan()
    assert site.patcher().apply(ALL).outcome == "nothing-to-do"
    assert not (site.store / "current").exists()


def test_sessions_are_left_alone_and_named(site: Site) -> None:
    site.processes = [
        Process(7, "sshd-session", "session-4.scope", ("/usr/lib/libc.so.6",)),
        Process(8, "dbus-broker", "dbus-broker.service", ("/usr/lib/libc.so.6",)),
    ]
    report = site.patcher().apply(ALL)
    assert report.restarts.sessions == ("sshd-session[7] in session-4.scope",)
    assert report.restarts.reboot == ("dbus-broker.service uses replaced files and cannot be restarted safely",)
    assert site.machine.done == []
    assert report.outcome == "reboot-needed"


def test_the_default_configuration_has_no_windows() -> None:
    assert Config().windows == ()


def test_a_kernel_is_known_by_its_boot_entry_or_by_its_own_name(tmp_path: Path) -> None:
    new = ["6.11-x-1.1", "6.12+deb13-cloud-amd64-1.2"]
    variable = tmp_path / "sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    assert boot.running(tmp_path) == os.uname().release
    variable.parent.mkdir(parents=True)
    for entry, there in (
        ("bedplate-server-6.12+deb13-cloud-amd64-1.2.efi", True),
        ("bedplate-server-6.12+deb13-cloud-amd64-1.2.efi@preempt", True),
        # The same kernel in the image before.
        ("bedplate-server-6.12+deb13-cloud-amd64-1.1.efi", False),
    ):
        variable.write_bytes(b"\6\0\0\0" + f"{entry}\0".encode("utf-16-le"))
        assert boot.runs(boot.running(tmp_path), new) is there
    assert boot.runs("6.12+deb13-cloud-amd64", new)
    assert not boot.runs("6.1", new)
