"""Power is lost at every single step of a patch, and of taking one back: the system ends old or new, never between."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.patching import UPGRADE, Site, contents, make_site

from bedplate_patch.errors import NotStarted, PatchError
from bedplate_patch.guard import Guard, NoRoom
from bedplate_patch.journal import Journal, State, no_checkpoint
from bedplate_patch.saved import Layout
from bedplate_patch.transaction import Change, Request

_POWER_LOST = 9
_MOST_STEPS = 400


def _until(site: Site, step: int, work: Callable[[Callable[[str], None]], object]) -> bool:
    """Do ``work`` in a process of its own that dies at its step number ``step``; whether it got to its end."""
    child = os.fork()
    if child == 0:
        seen = 0

        def checkpoint(_name: str) -> None:
            nonlocal seen
            if seen == step:
                os._exit(_POWER_LOST)
            seen += 1

        code = 1
        try:
            work(checkpoint)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, _POWER_LOST), f"step {step}: the patch itself failed"
    return code == 0


def _boot(root: Path, shell_steps: str = "") -> None:
    """What the initrd does with the root before anything of it runs."""
    script = resources.files("bedplate.compose").joinpath("root_patch.sh").read_text()
    script = script.replace("/dev/kmsg", "/dev/null").replace("&& sync", "&& :").replace("\tsync\n", "")
    subprocess.run(
        ["sh", "-uc", f'{script}\n{shell_steps}\npatch_check "$1"', "sh", str(root)],
        check=False,
    )


def _boot_and_recover(site: Site) -> None:
    _boot(site.root)
    site.patcher().recover()


def _only_recover(site: Site) -> None:
    site.patcher().recover()


@pytest.mark.parametrize("after", [_boot_and_recover, _only_recover], ids=["initrd", "early-unit"])
@pytest.mark.parametrize("breaks", [False, True], ids=["good-patch", "bad-patch"])
def test_power_lost_at_every_step(tmp_path: Path, after: Callable[[Site], None], breaks: bool) -> None:
    old = contents(make_site(tmp_path / "old").root)
    finished = make_site(tmp_path / "new")
    finished.patcher().apply(Request())
    new = contents(finished.root)
    outcomes = set()
    for step in range(_MOST_STEPS):
        site = make_site(tmp_path / f"{step}")
        _same_times(tmp_path / "old", site.root)
        site.machine.breaks = breaks
        ended = _until(site, step, lambda checkpoint, site=site: site.patcher(checkpoint).apply(Request()))  # type: ignore[misc]
        if ended:
            break
        after(site)
        waits = (site.store / "current").exists()
        if waits:
            assert site.patcher().journal.state is State.APPLIED
            site.machine.boot = "boot-2"
            site.patcher().confirm()
        assert not (site.store / "current").exists(), f"step {step}"
        now = contents(site.root)
        is_old, is_new = _equal(now, old), _equal(now, new)
        assert is_old or is_new, f"step {step}: {_differences(now, old)}"
        assert not (breaks and is_new), f"step {step}: a bad patch was kept"
        outcomes.add("old" if is_old else "new")
        assert (site.root / "usr/local/bin/mine").exists()
    else:
        pytest.fail("the patch never came to its end")
    assert outcomes == ({"old"} if breaks else {"old", "new"})


def test_power_lost_at_every_step_of_taking_back_at_boot(tmp_path: Path) -> None:
    """The initrd's own work is interrupted after each rename, and done again."""
    for stop in range(1, 14):
        site = _applied(tmp_path / f"{stop}")
        old = contents(make_site(tmp_path / f"old-{stop}").root)
        for _ in range(2):
            _boot(site.root)
        interrupted = f'left={stop}\nmv() {{ left=$((left - 1)); [ $left -gt 0 ] || exit 9; command mv "$@"; }}'
        _boot(site.root, interrupted)
        _boot(site.root)
        site.machine.boot = "boot-4"
        site.patcher().recover()
        assert _equal(contents(site.root), old), _differences(contents(site.root), old)
        assert (site.root / "usr/local/bin/mine").exists()


def test_a_machine_that_never_comes_up_with_the_patch_gets_the_old_system_on_the_third_boot(tmp_path: Path) -> None:
    site = _applied(tmp_path / "one")
    old = contents(make_site(tmp_path / "old").root)
    for _ in range(2):
        _boot(site.root)
        assert (site.root / "usr/bin/web").read_text() == "web 2\n"
    _boot(site.root)
    assert (site.root / "usr/bin/web").read_text() == "web 1\n"
    report = site.patcher().recover()
    assert report.outcome == "rolled-back"
    assert _equal(contents(site.root), old)


@pytest.mark.parametrize("damage", [b"", b"\0" * 16, b"applied 00000000\n", b"garbage\n", b"\xff\xfe\n"])
@pytest.mark.parametrize("after", [_boot_and_recover, _only_recover], ids=["initrd", "early-unit"])
def test_a_damaged_journal_ends_in_a_whole_system(tmp_path: Path, damage: bytes, after: Callable[[Site], None]) -> None:
    site = _applied(tmp_path / "one")
    old, new = contents(make_site(tmp_path / "old").root), contents(site.root)
    (site.store / "current/state").write_bytes(damage)
    after(site)
    if (site.store / "current").exists():
        site.patcher().confirm()
    now = contents(site.root)
    assert _equal(now, old) or _equal(now, new)
    assert not (site.store / "current").exists()


def test_damaged_facts_do_not_stop_the_way_back(tmp_path: Path) -> None:
    site = _applied(tmp_path / "one")
    old = contents(make_site(tmp_path / "old").root)
    (site.store / "current/facts.json").write_text("0000\n{}\n")
    site.machine.boot = "boot-2"
    site.patcher().confirm()
    assert _equal(contents(site.root), old)


def test_a_damaged_boot_counter_takes_the_patch_back(tmp_path: Path) -> None:
    site = _applied(tmp_path / "one")
    (site.store / "current/boots").write_bytes(b"\0\0")
    _boot(site.root)
    assert (site.root / "usr/bin/web").read_text() == "web 1\n"


def _guarded(site: Site, checkpoint: Callable[[str], None] = no_checkpoint) -> None:
    """An ordinary transaction of the package manager."""
    site.packages.checkpoint = checkpoint
    plan = site.packages.planned
    guard = Guard(Journal(site.store, checkpoint, flush=lambda: None), Layout(site.root))
    old = plan.old_files | {"/usr/lib/libweb.so", "/usr/lib/web", "/usr/lib/web/plugin"}
    new = site.packages.coming | {"/usr/lib/libweb.so", "/usr/lib/web"}
    guard.begin(plan.changes, old, new, plan.installed_bytes)
    site.packages.commit()
    guard.keep()


@pytest.mark.parametrize("after", [_boot_and_recover, _only_recover], ids=["initrd", "early-unit"])
def test_power_lost_at_every_step_of_an_ordinary_transaction(tmp_path: Path, after: Callable[[Site], None]) -> None:
    old = contents(make_site(tmp_path / "old").root)
    finished = make_site(tmp_path / "new")
    _guarded(finished)
    new = contents(finished.root)
    assert not (finished.store / "current").exists()
    outcomes = set()
    for step in range(_MOST_STEPS):
        site = make_site(tmp_path / f"{step}")
        _same_times(tmp_path / "old", site.root)
        if _until(site, step, lambda checkpoint, site=site: _guarded(site, checkpoint)):  # type: ignore[misc]
            break
        after(site)
        assert not (site.store / "current").exists(), f"step {step}"
        now = contents(site.root)
        is_old, is_new = _equal(now, old), _equal(now, new)
        assert is_old or is_new, f"step {step}: {_differences(now, old)}"
        outcomes.add("old" if is_old else "new")
        # Power is to blame, not the packages.
        assert site.patcher().apply(Request()).outcome == "done" or is_new
    else:
        pytest.fail("the transaction never came to its end")
    assert outcomes == {"old", "new"}


def test_a_transaction_that_failed_is_put_back(tmp_path: Path) -> None:
    site, old = make_site(tmp_path / "one"), contents(make_site(tmp_path / "old").root)
    site.packages.fails = "no space left on device"
    with pytest.raises(PatchError):
        _guarded(site)
    report = site.patcher().recover()
    assert report.outcome == "rolled-back"
    assert _equal(contents(site.root), old), _differences(contents(site.root), old)


def test_a_full_disk_leaves_a_transaction_without_a_guard_and_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(tmp_path / "one")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(NoRoom):
        _guarded(site)
    assert sorted(path.name for path in site.store.iterdir()) == ["lock"]


def _full_before_packages_change(step: str) -> None:
    if step == f"before {State.APPLYING}":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_once_all_is_saved_stops_a_patch_before_it_begins(tmp_path: Path) -> None:
    site = make_site(tmp_path / "one")
    before = contents(site.root)
    with pytest.raises(NotStarted, match="could not be saved"):
        site.patcher(_full_before_packages_change).apply(Request())
    assert contents(site.root) == before
    assert not (site.store / "current").exists()


def test_a_disk_that_fills_up_once_all_is_saved_leaves_a_transaction_without_a_guard(tmp_path: Path) -> None:
    site = make_site(tmp_path / "one")
    with pytest.raises(NoRoom):
        _guarded(site, _full_before_packages_change)
    assert sorted(path.name for path in site.store.iterdir()) == ["lock"]


def test_nobody_changes_packages_while_another_does(tmp_path: Path) -> None:
    site = make_site(tmp_path / "one")
    plan = site.packages.planned
    guard = Guard(Journal(site.store, flush=lambda: None), Layout(site.root))
    guard.begin(plan.changes, plan.old_files, site.packages.coming, 0)
    for other in (lambda: site.patcher().apply(Request()), lambda: site.patcher().recover(), lambda: _guarded(site)):
        with pytest.raises(NotStarted, match="another"):
            other()
    guard.let_go()
    with pytest.raises(NotStarted, match="interrupted"):
        _guarded(site)


def test_whoever_changes_packages_while_a_patch_waits_for_its_reboot_takes_over(tmp_path: Path) -> None:
    site = _applied(tmp_path / "one")
    guard = Guard(Journal(site.store, flush=lambda: None), Layout(site.root))
    guard.begin((), {"/usr/bin/other"}, {"/usr/bin/another"}, 0)
    guard.keep()
    assert not (site.store / "current").exists()
    assert (site.root / "usr/bin/web").read_text() == "web 2\n"


def _applied(root: Path) -> Site:
    """A site whose patch waits for a reboot."""
    site = make_site(root)
    site.packages.planned = replace(UPGRADE, changes=(Change("libc6", "x86_64", "upgrade", "1", "2"),))
    assert site.patcher().apply(Request()).outcome == "reboot-needed"
    return site


def _same_times(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        status = path.lstat()
        os.utime(target / path.relative_to(source), ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _equal(one: dict[str, object], two: dict[str, object]) -> bool:
    return _timeless(one) == _timeless(two)


def _timeless(found: dict[str, object]) -> dict[str, object]:
    # Each root of a test was made at a time of its own.
    return {
        path: (value[0], value[1], value[3]) if isinstance(value, tuple) and value[0] == "file" else value
        for path, value in found.items()
        if path.endswith(".bedplate-patch") or not Path(path).name.startswith(".")
    }


def _differences(one: dict[str, object], two: dict[str, object]) -> str:
    first, second = _timeless(one), _timeless(two)
    keys = sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))
    return "; ".join(f"{key}: {first.get(key)} != {second.get(key)}" for key in keys)
