"""What garbage collection removes from the cache, and what it must leave."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from bedplate.flows.cache import cache_sizes, content_store
from bedplate.flows.garbage import collect_garbage
from bedplate.flows.locks import write_lock
from bedplate.flows.tools import tools_tree
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.lock import Lock, LockedPackage
from bedplate.model.package import Location, Nevra, SourceRef

REAL = Path(__file__).resolve().parents[3] / "distro"
WEEK = 7 * 24 * 3600.0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    distro = tmp_path / "distro"
    distro.mkdir()
    shutil.copy(REAL / "distro.toml", distro)
    return Workspace(distro=distro, cache=tmp_path / "cache", keys=tmp_path / "keys", output=tmp_path / "out")


def put(path: Path, *, weeks_old: int, content: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return age(path, weeks_old)


def age(path: Path, weeks: int) -> Path:
    then = path.stat().st_mtime - weeks * WEEK
    os.utime(path, (then, then))
    return path


def download(workspace: Workspace, content: bytes, *, weeks_old: int) -> tuple[str, Path]:
    digest = hashlib.sha256(content).hexdigest()
    return digest, put(content_store(workspace).path(digest), weeks_old=weeks_old, content=content)


def lock_of(digest: str) -> Lock:
    evr = Evr(0, "1", "1")
    location = Location("debian-13", "pool/demo.deb", digest, 4)
    package = LockedPackage(Nevra("demo", evr, "noarch"), SourceRef("demo", evr), location, None)
    return Lock("tools", "0" * 64, (package,))


def test_what_a_lock_names_stays_however_old(workspace: Workspace) -> None:
    digest, named = download(workspace, b"named", weeks_old=9)
    _, forgotten = download(workspace, b"forgotten", weeks_old=9)
    lock = lock_of(digest)
    write_lock(workspace.distro / "locks/tools.toml", lock)
    tree = tools_tree(workspace, lock).root
    other = tree.with_name("f" * 32)
    for root in (tree, other, other.with_name(other.name + ".bin")):
        put(root / "usr/bin/tool", weeks_old=9)
        age(root, 9)

    collect_garbage(workspace, WEEK)

    assert named.exists() and (tree / "usr/bin/tool").exists()
    assert not forgotten.exists()
    assert sorted(path.name for path in tree.parent.iterdir()) == [tree.name]


def test_old_results_go_and_young_ones_stay(workspace: Workspace) -> None:
    old = put(workspace.cache / "rpms/00/old.rpm", weeks_old=2)
    young = put(workspace.cache / "rpms/00/young.rpm", weeks_old=0)
    stage = put(workspace.cache / "compose/stages/abc/usr/lib/cache", weeks_old=2).parents[2]
    age(stage, 2)

    removed = collect_garbage(workspace, WEEK)

    assert young.exists() and not old.exists() and not stage.exists()
    assert (removed.files, removed.size) == (2, 8)


def test_published_repositories_stay(workspace: Workspace) -> None:
    published = put(workspace.cache / "repository/1/x86_64/repodata/repomd.xml", weeks_old=50)
    collect_garbage(workspace, 0)
    assert published.exists()


def test_what_a_killed_build_left_goes_but_not_what_one_is_working_in(workspace: Workspace) -> None:
    left = age(put(workspace.cache / "compose/scratch/a/part", weeks_old=1).parent, 1)
    working = put(workspace.cache / "compose/scratch/b/part", weeks_old=0)
    collect_garbage(workspace, 0)
    assert working.exists() and not left.exists()


def test_a_lock_that_cannot_be_read_stops_before_anything_is_removed(workspace: Workspace) -> None:
    _, kept = download(workspace, b"kept", weeks_old=9)
    put(workspace.distro / "locks/container.toml", weeks_old=0, content=b"not a lock")
    with pytest.raises(BadInput):
        collect_garbage(workspace, 0)
    assert kept.exists()


def test_sizes_name_every_part_and_their_sum(workspace: Workspace) -> None:
    put(workspace.cache / "rpms/00/one.rpm", weeks_old=0)
    put(workspace.cache / "compose/objects/00/object", weeks_old=0)
    sizes = {name: part.size for name, part in cache_sizes(workspace).items()}
    assert sizes == {"compose": 4, "rpms": 4, "total": 8}
