"""An rpm-md repository with Fedora's habits gives packages with all their relations and paths."""

from __future__ import annotations

from pathlib import Path

import pysequoia
import pytest

from bedplate.model.definition.distro import Upstream
from bedplate.toolchain.run import Toolbox
from bedplate.upstream.archive import open_index
from bedplate.upstream.catalog import Catalog
from bedplate.upstream.index import VerifiedIndex
from support.fedora import build_packages, write_metadata
from support.mirror import context, definition, fingerprint, new_key, serve

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    return new_key()


@pytest.fixture(scope="module")
def repository(toolbox: Toolbox, key: pysequoia.Tsk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = build_packages(toolbox, tmp_path_factory.mktemp("fedora"))
    write_metadata(directory, key)
    return directory


def upstream(key: pysequoia.Tsk, **changes: object) -> Upstream:
    return definition("stable", fingerprints=[fingerprint(key)], format="rpm").model_copy(update=changes)


@pytest.fixture
def index(repository: Path, key: pysequoia.Tsk, tmp_path: Path) -> VerifiedIndex:
    (index,) = open_index(upstream(key), context(tmp_path, [repository.as_uri()], key))
    return index


def test_relations_as_rpm_writes_them(index: VerifiedIndex) -> None:
    (server,) = index.packages.named("server")
    assert server.version == "2:1.4-3.fc43"
    assert (server.source_name, server.source_version) == ("server", "2:1.4-3.fc43")
    assert set(server.fields["requires"]) >= {
        "(server-tls if openssl-libs)",
        "(libfoo >= 1.2 or libbar)",
        "shadow-utils >= 2:4.6",
        "systemd",
        "/bin/sh",
    }
    assert set(server.fields["requires_pre"]) == {"shadow-utils >= 2:4.6", "systemd", "/bin/sh"}
    assert {"group(server)", "server = 2:1.4-3.fc43"} <= set(server.fields["provides"])
    assert [text for text in server.fields["provides"] if text.startswith("user(server) = ")]
    assert server.fields["recommends"] == ("logrotate",)
    assert server.fields["suggests"] == ("server-doc",)
    assert server.fields["supplements"] == ("(webapp and httpd)",)
    assert server.fields["enhances"] == ("desktop",)
    assert server.fields["conflicts"] == ("server-old < 1.0",)
    assert server.fields["obsoletes"] == ("server-old < 1.0-5",)


def test_paths_with_hard_links_ghosts_and_directories(index: VerifiedIndex) -> None:
    (server,) = index.packages.named("server")
    assert {"/usr/bin/serverd", "/usr/bin/server-alias", "/usr/share/server"} <= set(server.fields["files"])
    assert server.fields["ghosts"] == ("/var/log/server.log",)


def test_location_is_the_file_itself(index: VerifiedIndex, repository: Path) -> None:
    for package in index.packages:
        assert (repository / package.location.path).stat().st_size == package.location.size


def test_providers_by_capability_and_by_path(index: VerifiedIndex) -> None:
    catalog = Catalog((index,))
    assert [p.name for p in catalog.providers("user(server)")] == ["server"]
    assert [p.name for p in catalog.providers("/usr/bin/server-alias")] == ["server"]
    assert [p.name for p in catalog.reachable(["server"])] == ["libfoo", "server"]


def test_other_architectures_only_when_asked_for(
    index: VerifiedIndex, repository: Path, key: pysequoia.Tsk, tmp_path: Path
) -> None:
    assert [p.arch for p in index.packages.named("libfoo")] == ["x86_64"]
    (both,) = open_index(upstream(key, extra_arches=["i686"]), context(tmp_path, [repository.as_uri()], key))
    assert sorted(p.arch for p in Catalog((both,)).best("libfoo")) == ["i686", "x86_64"]


def test_primary_file_lists_only(repository: Path, key: pysequoia.Tsk, tmp_path: Path) -> None:
    (index,) = open_index(upstream(key, file_lists="primary"), context(tmp_path, [repository.as_uri()], key))
    (server,) = index.packages.named("server")
    assert "/usr/bin/serverd" in server.fields["files"]
    assert "/usr/share/server/data" not in server.fields["files"]


def test_over_http_a_second_opening_asks_for_the_signed_file_only(
    repository: Path, key: pysequoia.Tsk, tmp_path: Path
) -> None:
    files = {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    with serve(files) as mirror:
        where = context(tmp_path, [mirror.url], key)
        open_index(upstream(key), where)
        mirror.requests.clear()
        open_index(upstream(key), where)
        assert mirror.paths() == ["repodata/repomd.xml", "repodata/repomd.xml.asc"]
