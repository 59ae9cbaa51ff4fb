"""Building an image again: what is shared with the fresh cache, what stops before a build, what is told after one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.images import OS_RELEASE, MadeImage, Recipe, make_image

from bedplate.flows.cache import content_store
from bedplate.flows.definition import read_definition
from bedplate.flows.images import FoundImage
from bedplate.flows.locks import write_lock
from bedplate.flows.rebuild import Builder, Downloads, verify_rebuild
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.lock import Lock, LockedPackage
from bedplate.model.package import Location, Nevra, SourceRef
from bedplate.trust.keys import KeyStore

DISTRO = Path(__file__).resolve().parents[3] / "distro"
DEB = b"the bytes of an upstream package"
DIGEST = hashlib.sha256(DEB).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeImage:
    return make_image(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key store whose PCR key is the one the small images are made with."""
    from cryptography.hazmat.primitives import serialization
    from tests.support.images import pcr_key

    folder = tmp_path_factory.mktemp("keys") / "store"
    store = KeyStore(folder)
    public = store.pcr_key_paths()[1]
    public.write_bytes(
        pcr_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return folder


@pytest.fixture
def workspace(tmp_path: Path, keys: Path) -> Workspace:
    return Workspace(distro=DISTRO, cache=tmp_path / "cache", keys=keys, output=tmp_path / "out")


@pytest.fixture
def found(made: MadeImage, tmp_path: Path, workspace: Workspace) -> FoundImage:
    definition = read_definition(workspace)
    digest = definition.resolution_digest(definition.track("container"), ["demo"])
    package = LockedPackage(
        Nevra("demo", Evr(0, "1", "1"), "noarch"),
        SourceRef("demo", Evr(0, "1", "1")),
        Location("debian-13", "pool/demo.deb", DIGEST, len(DEB)),
        "0" * 64,
    )
    path = tmp_path / "image" / "lock.toml"
    write_lock(path, Lock("container", digest, (package,)))
    return FoundImage(made.disk, None, path)


def store_deb(workspace: Workspace, data: bytes = DEB) -> Path:
    place = content_store(workspace).path(DIGEST)
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    return place


def builder(recipe: Recipe | None = None, look: Callable[[Workspace], None] = lambda _: None) -> Builder:
    def build(workspace: Workspace, track: str, lock: Lock) -> Path:
        look(workspace)
        return make_image(workspace.output, recipe).disk

    return build


def test_the_same_image_again(workspace: Workspace, found: FoundImage) -> None:
    report = verify_rebuild(workspace, found, builder=builder())
    assert report.same
    assert report.to_json()["same"] is True
    assert not report.remarks


def test_a_difference_is_explained_by_other_inputs(workspace: Workspace, found: FoundImage) -> None:
    recipe = Recipe(os_release=OS_RELEASE.replace(b"0123", b"4567"))
    report = verify_rebuild(workspace, found, builder=builder(recipe))
    assert not report.same
    assert "BUILD_ID 0123 / 4567" in report.remarks[0]


def test_the_fresh_cache_holds_downloads_and_nothing_that_was_made(workspace: Workspace, found: FoundImage) -> None:
    original = store_deb(workspace)
    (workspace.cache / "rpms").mkdir()
    (workspace.cache / "rpms" / "x").write_text("made")
    seen: list[Path] = []

    def look(fresh: Workspace) -> None:
        files = [path for path in fresh.cache.rglob("*") if path.is_file()]
        assert [path.name for path in files] == [DIGEST]
        assert files[0].samefile(original)
        seen.append(fresh.cache)

    verify_rebuild(workspace, found, builder=builder(look=look))
    assert seen
    assert not seen[0].exists()
    assert original.read_bytes() == DEB


def test_a_damaged_download_is_not_shared(workspace: Workspace, found: FoundImage) -> None:
    store_deb(workspace, b"other bytes")

    def look(fresh: Workspace) -> None:
        assert not content_store(fresh).has(DIGEST)

    verify_rebuild(workspace, found, builder=builder(look=look))


def test_from_nothing_shares_no_download(workspace: Workspace, found: FoundImage) -> None:
    store_deb(workspace)

    def look(fresh: Workspace) -> None:
        assert not content_store(fresh).has(DIGEST)

    verify_rebuild(workspace, found, Downloads.AGAIN, builder=builder(look=look))


def test_the_rebuilt_image_can_be_kept(workspace: Workspace, found: FoundImage, tmp_path: Path) -> None:
    verify_rebuild(workspace, found, keep=tmp_path / "again", builder=builder())
    assert (tmp_path / "again" / "disk.raw").is_file()


def test_what_a_killed_run_left_is_removed_and_a_running_one_is_not(workspace: Workspace, found: FoundImage) -> None:
    left, running = workspace.cache / "rebuild" / "left", workspace.cache / "rebuild" / "running"
    left.mkdir(parents=True)
    running.mkdir()
    descriptor = os.open(running, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        verify_rebuild(workspace, found, builder=builder())
    finally:
        os.close(descriptor)
    assert not left.exists()
    assert running.exists()


def test_without_a_lock_nothing_is_built(workspace: Workspace, made: MadeImage) -> None:
    with pytest.raises(BadInput, match="no lock beside the image"):
        verify_rebuild(workspace, FoundImage(made.disk, None, None), builder=_never)


def test_a_lock_of_another_definition_is_refused(workspace: Workspace, found: FoundImage, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    write_lock(other, Lock("container", "f" * 64, ()))
    with pytest.raises(BadInput, match="definition has changed"):
        verify_rebuild(workspace, replace(found, lock=other), builder=_never)


def test_an_image_made_with_other_keys_is_told_before_building(
    workspace: Workspace, found: FoundImage, tmp_path: Path
) -> None:
    elsewhere = replace(workspace, keys=tmp_path / "other-keys")
    with pytest.raises(BadInput, match="another PCR key"):
        verify_rebuild(elsewhere, found, builder=_never)


def test_a_build_that_fails_leaves_nothing(workspace: Workspace, found: FoundImage) -> None:
    def fail(fresh: Workspace, track: str, lock: Lock) -> Path:
        raise BadInput("no")

    with pytest.raises(BadInput):
        verify_rebuild(workspace, found, builder=fail)
    assert [path for path in (workspace.cache / "rebuild").iterdir() if path.is_dir()] == []


def test_locks_made_on_this_machine_are_inputs(workspace: Workspace, found: FoundImage) -> None:
    (workspace.cache / "locks").mkdir(parents=True)
    shutil.copyfile(DISTRO / "locks" / "tools.toml", workspace.cache / "locks" / "tools.toml")

    def look(fresh: Workspace) -> None:
        assert (fresh.cache / "locks" / "tools.toml").is_file()

    verify_rebuild(workspace, found, builder=builder(look=look))


def _never(workspace: Workspace, track: str, lock: Lock) -> Path:
    raise AssertionError("a build was started")
