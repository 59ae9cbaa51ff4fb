"""Locks from end to end on a small signed archive: made, kept, moved on from, refused when stale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.debs import Deb, file, folder
from tests.support.mirror import DebianArchive, Mirror, Package, fingerprint, new_key, serve

from bedplate.flows.breadth import named, resolve_set
from bedplate.flows.cache import content_store
from bedplate.flows.definition import read_definition
from bedplate.flows.imports import import_locked
from bedplate.flows.lock import check_track, lock_track
from bedplate.flows.locks import Relock, committed_path, local_path, read_lock_file
from bedplate.flows.track import locked_track
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput, Level
from bedplate.resolve.reasons import Unresolvable
from bedplate.upstream.download import MovedOnError

_DISTRO = """
id = "demo"
name = "Demo"
version = "1"
stream = "1"
source_date_epoch = 1700000000
[[upstreams]]
id = "test"
format = "deb"
[upstreams.mirrors.main]
apt_suites = ["stable"]
path = "debian"
[[upstreams.suites]]
name = "stable"
mirror = "main"
keys = ["keys.asc"]
fingerprints = ["%s"]
"""
_TRACK = """
id = "demo"
title = "Demo"
packages = ["hello"]
[kernel]
package = "linux"
command_line = []
modules = []
initrd_modules = []
[slots]
esp_mib = 64
root_mib = 64
verity_mib = 8
[limits]
root_mib = 64
uki_mib = 64
packages = 10
"""
_IDS = '[users.root]\nuid = 0\nhome = "/root"\n[groups]\n'


def package(name: str, version: str, depends: str = "", text: bytes = b"content") -> Package:
    """A real .deb with one file, as the archive lists it."""
    control = {"Depends": depends} if depends else {}
    items = (folder("./usr"), folder("./usr/share"), folder(f"./usr/share/{name}"), file(f"./usr/share/{name}/x", text))
    fields = f"Depends: {depends}\n" if depends else ""
    return Package(name, version, content=Deb(name, version, control=control, items=items).bytes(), fields=fields)


@dataclass
class World:
    """A workspace and the mirror its upstream is on."""

    workspace: Workspace
    mirror: Mirror
    archive: DebianArchive

    def publish(self, *packages: Package) -> None:
        """Put exactly these packages on the mirror."""
        self.archive.packages = list(packages)
        self.mirror.files.clear()
        self.mirror.files.update(self.archive.files())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BEDPLATE_MIRROR", raising=False)
    key = new_key()
    distro = tmp_path / "distro"
    for name, text in {
        "distro.toml": _DISTRO % fingerprint(key),
        "tracks/demo.toml": _TRACK,
        "ids.toml": _IDS,
        "tools.toml": "[sets.tools]\npackages = []\n",
    }.items():
        (distro / name).parent.mkdir(parents=True, exist_ok=True)
        (distro / name).write_text(text)
    (distro / "keys").mkdir()
    (distro / "keys/keys.asc").write_bytes(bytes(key.extract_certificate()))
    with serve() as mirror:
        workspace = Workspace(
            distro, tmp_path / "cache", tmp_path / "keys", tmp_path / "out", (f"{mirror.url}/debian",), jobs=1
        )
        made = World(workspace, mirror, DebianArchive(key))
        made.publish(package("hello", "1.0-1", "libhello"), package("libhello", "1.0-1"))
        yield made


def empty_store(world: World) -> None:
    """Forget every download."""
    store = content_store(world.workspace)
    for digest in list(store.digests()):
        store.discard(digest)


def test_a_lock_names_the_closure_and_our_bytes(world: World) -> None:
    result = lock_track(world.workspace, "demo")
    names = {one.nevra.name: one for one in result.lock.packages}
    assert set(names) == {"hello", "libhello"}
    assert names["libhello"].why == "hello"
    assert all(one.rpm_sha256 for one in names.values())
    assert read_lock_file(result.path) == result.lock


def test_what_only_an_own_package_requires_is_found(world: World) -> None:
    own = world.workspace.distro / "own/page.toml"
    own.parent.mkdir()
    own.write_text('name = "page"\nrelease = "1"\nsummary = "A page"\ndescription = "A page."\nrequires = ["hello"]\n')
    wanted = named(["page"], None)
    found = resolve_set(world.workspace, read_definition(world.workspace), wanted, "the command line")
    assert {one.nevra.name for one in found.packages} == {"page", "hello", "libhello"}


def test_locking_again_gives_the_same_file(world: World) -> None:
    first = lock_track(world.workspace, "demo").path.read_bytes()
    second = lock_track(world.workspace, "demo")
    assert second.path.read_bytes() == first
    assert second.diff is not None
    assert not second.diff.changes


def test_importing_from_a_lock_alone_gives_the_locked_bytes(world: World) -> None:
    lock = lock_track(world.workspace, "demo").lock
    world.mirror.requests.clear()
    imported = import_locked(world.workspace, read_definition(world.workspace), lock)
    assert {one.nevra.name: one.rpm_sha256 for one in imported} == {p.nevra.name: p.rpm_sha256 for p in lock.packages}
    assert world.mirror.requests == []


def test_update_moves_only_what_is_named(world: World) -> None:
    lock_track(world.workspace, "demo")
    world.publish(package("hello", "1.1-1", "libhello"), package("libhello", "1.1-1"), *world.archive.packages)
    lock = lock_track(world.workspace, "demo", ("libhello",)).lock
    assert {p.nevra.name: p.upstream_version for p in lock.packages} == {"hello": "1.0-1", "libhello": "1.1-1"}


def test_upstream_moved_on_and_nobody_has_the_locked_version(world: World) -> None:
    lock_track(world.workspace, "demo")
    world.publish(package("hello", "1.1-1", "libhello"), package("libhello", "1.0-1"))
    empty_store(world)
    definition = read_definition(world.workspace)
    with pytest.raises(MovedOnError) as caught:
        locked_track(world.workspace, definition, "demo", Relock.NEVER)
    assert "hello-1.0-1" in str(caught.value)
    assert "bedplate lock" in caught.value.remedy


def test_up_locks_again_by_itself_and_leaves_the_definition_alone(world: World) -> None:
    lock_track(world.workspace, "demo")
    committed = committed_path(world.workspace, "demo").read_bytes()
    world.publish(package("hello", "1.1-1", "libhello"), package("libhello", "1.0-1"))
    empty_store(world)
    definition = read_definition(world.workspace)
    chosen = locked_track(world.workspace, definition, "demo", Relock.WHEN_NEEDED)
    assert not chosen.committed
    assert {p.nevra.name: p.upstream_version for p in chosen.lock.packages} == {"hello": "1.1-1", "libhello": "1.0-1"}
    assert committed_path(world.workspace, "demo").read_bytes() == committed
    assert local_path(world.workspace, "demo").exists()
    # The next run finds that lock and needs no other.
    assert locked_track(world.workspace, definition, "demo", Relock.NEVER).lock == chosen.lock


def test_the_store_still_has_what_the_mirror_dropped(world: World) -> None:
    lock = lock_track(world.workspace, "demo").lock
    world.publish(package("hello", "1.1-1", "libhello"), package("libhello", "1.1-1"))
    chosen = locked_track(world.workspace, read_definition(world.workspace), "demo", Relock.NEVER)
    assert chosen.committed
    assert chosen.lock == lock


def test_a_lock_of_another_definition_is_refused_and_check_says_stale(world: World) -> None:
    lock_track(world.workspace, "demo")
    track = world.workspace.distro / "tracks/demo.toml"
    track.write_text(track.read_text().replace('packages = ["hello"]', 'packages = ["libhello"]'))
    with pytest.raises(BadInput, match="changed since this lock"):
        locked_track(world.workspace, read_definition(world.workspace), "demo", Relock.WHEN_NEEDED)
    assert any(finding.level is Level.ERROR for finding in check_track(world.workspace, "demo", offline=True))


def test_a_fresh_lock_passes_its_check(world: World) -> None:
    lock_track(world.workspace, "demo")
    assert not [f for f in check_track(world.workspace, "demo") if f.level is Level.ERROR]


def test_unresolvable_names_the_package_that_asked_and_leaves_the_lock(world: World) -> None:
    before = lock_track(world.workspace, "demo").path.read_bytes()
    world.publish(package("hello", "1.1-1", "libgone"))
    with pytest.raises(Unresolvable) as caught:
        lock_track(world.workspace, "demo")
    assert "hello" in str(caught.value)
    assert "libgone" in str(caught.value)
    assert committed_path(world.workspace, "demo").read_bytes() == before
