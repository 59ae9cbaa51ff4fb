"""Two operators at once, killed ones, full disks: the store is always one of the states somebody meant."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedplate.model.errors import BadInput, BedplateError
from bedplate.release import garbage
from bedplate.release.create import create
from bedplate.release.objects import Condition, ObjectStore
from bedplate.release.repository import Repository
from support.releases import World, published


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A store with 1.0.1 in edge, and a reader that has seen it."""
    return published().copy(tmp_path / "world")


class Killed(Exception):
    """The end of a program that is killed."""


class DyingAfter:
    """A store's objects, for a program that is killed before its write number ``writes``."""

    def __init__(self, objects: ObjectStore, writes: int) -> None:
        self.objects = objects
        self.left = writes

    def __getattr__(self, name: str) -> object:
        return getattr(self.objects, name)

    def put(self, path: str, source: bytes | Path, condition: Condition) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.objects.put(path, source, condition)


def test_two_operators_publish_different_tracks_at_once(world: World) -> None:
    tracks = [f"track-{number}" for number in range(4)]
    for track in tracks:
        world.create("2.0", track=track)
    together = threading.Barrier(len(tracks))

    def publish(track: str) -> None:
        repository = world.repository()
        together.wait()
        world.publish("2.0", "edge", track, repository)

    with ThreadPoolExecutor(len(tracks)) as pool:
        list(pool.map(publish, tracks))
    channel = world.reader().refresh().channel("edge")
    assert [channel.newest(track) for track in tracks] == ["2.0"] * len(tracks)
    assert channel.newest("container") == "1.0.1"


def test_two_operators_press_opposite_buttons(world: World) -> None:
    """One publishes in stable what the other withdraws: either order is a state somebody meant."""
    together = threading.Barrier(2)

    def publish() -> str:
        together.wait()
        try:
            world.publish("1.0.1", "stable")
        except BadInput as error:
            return error.message
        return "published"

    def withdraw() -> str:
        together.wait()
        world.withdraw("1.0.1", "edge", "bad")
        return "withdrawn"

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in (pool.submit(publish), pool.submit(withdraw))]
    view = world.reader().refresh()
    assert view.channel("edge").newest("container") is None
    carried = view.channel("stable").newest("container")
    assert (results[0] == "published") == (carried == "1.0.1")


def test_two_operators_create_one_version_at_once(world: World) -> None:
    together = threading.Barrier(2)

    def make(notes: str) -> str:
        together.wait()
        try:
            return world.create("3.0", notes=notes).notes
        except BadInput as error:
            return error.message

    with ThreadPoolExecutor(2) as pool:
        results = sorted(pool.map(make, ["mine", "yours"]))
    winners = [one for one in results if one in ("mine", "yours")]
    assert len(winners) == 1
    assert "exists already and is another release (notes differ)" in results[0] + results[1]
    world.publish("3.0", "edge")
    reader = world.reader()
    reader.refresh()
    assert reader.release("edge", "container", "3.0").notes == winners[0]


@pytest.mark.parametrize("writes", range(6))
def test_killed_while_creating(world: World, writes: int) -> None:
    def make(objects: ObjectStore) -> None:
        create(
            objects, world.draft("1.0.2"), world.parts("1.0.2"), world.keys.signer("update").sign,
            world.signers(roles=["release"]),
        )  # fmt: skip

    with pytest.raises(Killed):
        make(DyingAfter(world.objects, writes))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no such release was created"):
        world.publish("1.0.2", "edge")
    make(world.objects)
    world.publish("1.0.2", "edge")
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.2"


@pytest.mark.parametrize("writes", range(4))
def test_killed_while_publishing(world: World, writes: int) -> None:
    world.create("1.0.2")
    dying = DyingAfter(world.objects, writes)
    with pytest.raises(Killed):
        world.publish("1.0.2", "edge", repository=world.repository(objects=dying))  # type: ignore[arg-type]
    for name in ("reader", "stranger"):
        assert world.reader(name).refresh().channel("edge").newest("container") == "1.0.1"
    world.publish("1.0.2", "edge")
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.2"


@pytest.mark.parametrize("writes", range(5))
def test_killed_while_making_the_store(tmp_path: Path, writes: int) -> None:
    finished = World(tmp_path).initialise()
    policy = finished.repository().state().policy
    empty = World(tmp_path / "again")
    arguments = (finished.root, policy, finished.signers(), finished.definition.expiry, finished.clock)
    with pytest.raises(Killed):
        Repository.initialise(DyingAfter(empty.objects, writes), *arguments)  # type: ignore[arg-type]
    repository = Repository.initialise(empty.objects, *arguments)
    assert repository.state().timestamp.signed.version == 1


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Writes beyond a size fail, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full_while_creating(world: World) -> None:
    with no_room_beyond(100), pytest.raises(BedplateError, match="cannot write to the release store") as caught:
        world.create("1.0.2")
    assert "free some space and run the same command again" in caught.value.remedy
    assert [path.name for path in (world.folder / "store").rglob(".new-*")] == []
    world.create("1.0.2")
    world.publish("1.0.2", "edge")
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.2"


def test_disk_full_while_publishing(world: World) -> None:
    world.create("1.0.2")
    with no_room_beyond(100), pytest.raises(BedplateError, match="cannot write"):
        world.publish("1.0.2", "edge")
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.1"
    world.publish("1.0.2", "edge")
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.2"


def test_disk_full_where_a_reader_remembers(world: World) -> None:
    world.create("1.0.2")
    world.publish("1.0.2", "edge")
    reader = world.reader()
    with no_room_beyond(100), pytest.raises(BedplateError, match="cannot keep what was seen"):
        reader.refresh()
    assert reader.refresh().channel("edge").newest("container") == "1.0.2"


class TestGarbage:
    """``gc`` removes nothing that anybody needs, whenever it runs."""

    @staticmethod
    def collect(world: World, before: float) -> garbage.Garbage:
        repository = world.repository()
        needed = garbage.needed_paths(world.objects, repository.state(), repository.waiting(), before)
        objects = (info for folder in garbage.FOLDERS for info in world.objects.list(folder))
        found = garbage.plan(objects, needed, before)
        for path in found.paths:
            world.objects.delete(path)
        return found

    def test_what_channels_carry_stays(self, world: World) -> None:
        world.create("1.0.2")
        world.publish("1.0.2", "edge")
        world.publish("1.0.1", "stable")
        world.withdraw("1.0.1", "edge", "replaced")
        before = world.reader().refresh()
        self.collect(world, before=float("inf"))
        reader = world.reader("stranger")
        assert reader.refresh().channels == before.channels
        for version in ("1.0.1", "1.0.2"):
            release = reader.release("edge", "container", version)
            for artefact in release.artefacts:
                assert reader.read(artefact)

    def test_what_nobody_carries_goes_after_its_grace(self, world: World) -> None:
        release = world.create("1.0.2")
        assert self.collect(world, before=0.0).paths == ()
        found = self.collect(world, before=float("inf"))
        assert "releases/container/1.0.2.json" in found.paths
        assert sum(path.startswith("blobs/") for path in found.paths) >= len(release.artefacts) - 1
        assert world.reader().refresh().channel("edge").newest("container") == "1.0.1"
        world.create("1.0.2")
        world.publish("1.0.2", "edge")

    def test_what_killed_operators_left_goes(self, world: World) -> None:
        world.create("1.0.2")
        for writes in (1, 2, 3):
            with pytest.raises(Killed):
                dying = DyingAfter(world.objects, writes)
                world.publish("1.0.2", "edge", repository=world.repository(objects=dying))  # type: ignore[arg-type]
        world.publish("1.0.2", "edge")
        left = len(list(world.objects.list("metadata")))
        self.collect(world, before=float("inf"))
        assert len(list(world.objects.list("metadata"))) < left
        assert world.reader("stranger").refresh().channel("edge").newest("container") == "1.0.2"

    def test_a_waiting_change_keeps_its_document(self, tmp_path: Path) -> None:
        from support.releases import channels, operator

        second = operator(tmp_path / "second")
        world = World(tmp_path, definition=channels(stable_threshold=2)).initialise([second])
        world.create("1.0.1")
        world.publish("1.0.1", "edge")
        assert world.publish("1.0.1", "stable").waiting
        self.collect(world, before=float("inf"))
        world.repository([*world.signers(second), *world.signers(roles=["online"])]).approve("stable")
        assert world.reader().refresh().channel("stable").newest("container") == "1.0.1"

    def test_a_damaged_manifest_stops_it(self, world: World) -> None:
        (world.folder / "store/releases/container/1.0.1.json").write_text("{}")
        before = len(list(world.objects.list("blobs")))
        with pytest.raises(BedplateError):
            self.collect(world, before=float("inf"))
        assert len(list(world.objects.list("blobs"))) == before
