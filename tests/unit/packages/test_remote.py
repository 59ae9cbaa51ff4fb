"""Imports whose files travel: what comes back is what a worker of this machine makes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from bedplate.flows.cluster import cluster_executor
from bedplate.model.errors import BadInput, BedplateError
from bedplate.packages.importer import import_packages
from bedplate.packages.remote import RemoteImports
from support.debs import Deb, file
from support.imports import DEMO, import_debs, import_rules


def test_a_remote_import_gives_the_same_bytes(tmp_path: Path) -> None:
    (local,) = import_debs(tmp_path, DEMO, cache="local")

    def remote(jobs: int) -> RemoteImports:
        return RemoteImports(ProcessPoolExecutor(jobs))

    (done,) = import_packages(
        [DEMO.write(tmp_path)], import_rules(), tmp_path / "remote", jobs=1, executor_factory=remote
    )
    assert done.path.read_bytes() == local.path.read_bytes()
    assert done.scripts == local.scripts


def test_a_dask_cluster_on_the_loopback_imports(tmp_path: Path) -> None:
    from distributed import LocalCluster

    wanted = [Deb(name=f"p{size}").having(file("./usr/x", bytes(size))).write(tmp_path) for size in (10, 9000)]
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, host="tcp://127.0.0.1"
    ) as cluster:
        factory = cluster_executor(cluster.scheduler_address)
        done = import_packages(wanted, import_rules(), tmp_path / "c", jobs=2, executor_factory=factory)
    assert [one.nevra.name for one in done] == ["p10", "p9000"]


def test_a_bad_package_is_refused_by_name_from_afar_too(tmp_path: Path) -> None:
    broken = DEMO.having(file("./usr/bin/evil", mode=0o4755))
    done = import_packages(
        [broken.write(tmp_path)],
        import_rules(),
        tmp_path / "c",
        jobs=1,
        executor_factory=lambda jobs: RemoteImports(ProcessPoolExecutor(jobs)),
    )
    assert "import.setid.undeclared" in {finding.id for finding in done[0].findings}


def test_only_conversions_go_to_a_cluster() -> None:
    with pytest.raises(BedplateError), RemoteImports(ProcessPoolExecutor(1)) as executor:
        executor.submit(print, "hello")


def test_a_scheduler_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bedplate.flows.cluster.CONNECT_SECONDS", 0.2)
    with pytest.raises(BedplateError, match="does not answer") as caught:
        cluster_executor("tcp://127.0.0.1:9")(1)
    assert not isinstance(caught.value, BadInput)
