"""What an import meets besides hostile files: surprises in good ones, a full disk, a killed or a second process."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bedplate.model.definition.facts import Mode, PackageFacts
from bedplate.model.errors import BadInput, BedplateError, Level
from bedplate.packages import importer
from bedplate.packages.importer import import_packages, require_no_errors
from bedplate.packages.rpm.reader import RpmPackage
from support.debs import Deb, file, folder
from support.imports import DEMO, Inline, import_debs, import_rules


def test_a_swapped_file_is_refused(tmp_path: Path) -> None:
    package, _ = DEMO.write(tmp_path)
    _, other = Deb(name="other").write(tmp_path)
    with pytest.raises(BadInput, match=r"the file holds other 1\.2-3 amd64, the index names demo"):
        import_packages([(package, other)], import_rules(), tmp_path / "c", jobs=1, executor_factory=Inline)


def test_setid_surprise_and_world_writable_file_are_errors_until_declared(tmp_path: Path) -> None:
    deb = DEMO.having(file("./usr/bin/su", b"x", 0o4755), file("./etc/open", b"", 0o666), folder("./var/tmp/", 0o1777))
    (done,) = import_debs(tmp_path, deb)
    assert {(finding.id, finding.level) for finding in done.findings} >= {
        ("import.setid.undeclared", Level.ERROR),
        ("import.mode.world-writable", Level.ERROR),
    }
    with pytest.raises(BadInput, match="2 surprises") as caught:
        require_no_errors([done])
    assert "demo: /usr/bin/su has mode 4755 (root:root)" in caught.value.details
    modes = {"/usr/bin/su": Mode(mode="4755"), "/etc/open": Mode(mode="0644")}
    require_no_errors(import_debs(tmp_path, deb, rules=import_rules(PackageFacts(name="demo", modes=modes))))


@pytest.mark.parametrize("suffix", [".rpm", ".json"])
def test_a_damaged_cache_entry_is_made_anew(tmp_path: Path, suffix: str) -> None:
    (first,) = import_debs(tmp_path, DEMO)
    damaged = first.path.with_suffix(suffix)
    damaged.write_bytes(damaged.read_bytes()[:-10])
    (again,) = import_debs(tmp_path, DEMO)
    assert again == first
    assert RpmPackage.open(again.path).digest == first.rpm_sha256


def test_every_bad_package_is_named_and_good_ones_are_kept(tmp_path: Path) -> None:
    good, bad, worse = DEMO, Deb(name="bad"), Deb(name="worse").having(file("./../x"))
    wanted = [deb.write(tmp_path) for deb in (good, bad, worse)]
    wanted[1][1].write_bytes(b"nothing")
    with pytest.raises(BadInput) as caught:
        import_packages(wanted, import_rules(), tmp_path / "c", jobs=1, executor_factory=Inline)
    assert [line.partition(":")[0] for line in caught.value.details] == ["bad 1.2-3", "worse 1.2-3"]
    assert len(list((tmp_path / "c").rglob("*.rpm"))) == 1


def test_full_disk_says_what_to_do_and_leaves_no_half_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any, **_more: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", "x.rpm")

    with monkeypatch.context() as patch:
        patch.setattr(importer, "write_rpm", full)
        with pytest.raises(BedplateError, match="No space left on device") as caught:
            import_debs(tmp_path, DEMO)
    assert "free some space" in caught.value.remedy
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert len(import_debs(tmp_path, DEMO)) == 1


def test_killed_worker_is_said_and_the_next_run_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [DEMO.write(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(importer, "write_rpm", lambda *_args, **_more: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(BedplateError, match="a worker process was killed"):
            import_packages(wanted, import_rules(), tmp_path / "c", jobs=1, executor_factory=_forking)
    (done,) = import_packages(wanted, import_rules(), tmp_path / "c", jobs=1, executor_factory=_forking)
    assert RpmPackage.open(done.path).digest == done.rpm_sha256


def test_package_without_its_record_was_interrupted_and_is_made_anew(tmp_path: Path) -> None:
    (first,) = import_debs(tmp_path, DEMO)
    first.path.with_suffix(".json").unlink()
    first.path.write_bytes(b"half")
    (again,) = import_debs(tmp_path, DEMO)
    assert (again.path, again.rpm_sha256) == (first.path, first.rpm_sha256)
    assert RpmPackage.open(again.path).digest == first.rpm_sha256


def test_two_imports_at_once_on_one_cache(tmp_path: Path) -> None:
    debs = [Deb(name=f"p{number}").having(file("./usr/x", os.urandom(50_000))) for number in range(6)]
    wanted = [deb.write(tmp_path) for deb in debs]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def run() -> None:
        done = import_packages(wanted, import_rules(), tmp_path / "c", jobs=1, executor_factory=Inline)
        results.put([one.rpm_sha256 for one in done])

    processes = [context.Process(target=run) for _ in range(2)]
    for process in processes:
        process.start()
    one, two = results.get(), results.get()
    for process in processes:
        process.join()
    assert one == two
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list((tmp_path / "c").rglob("*.rpm"))) == len(list((tmp_path / "c").rglob("*.json"))) == 6
    assert not [path for path in (tmp_path / "c").rglob(".*") if path.is_file()]


def _forking(workers: int) -> ProcessPoolExecutor:
    # Forked workers inherit what the test has replaced.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))
