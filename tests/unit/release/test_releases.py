"""A release's way: created, published, promoted, read back, withdrawn; on a directory and on S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.errors import BadInput, TrustError
from bedplate.model.release import ArtefactKind
from bedplate.release.create import SUMS
from bedplate.release.objects import ObjectStore
from bedplate.trust.roles import Kind
from support.releases import World, channels, operator


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path).initialise()


def test_from_create_to_withdrawal(tmp_path: Path, objects: ObjectStore) -> None:
    world = World(tmp_path)
    world.objects = objects
    world.initialise()
    made = world.create("1.0.1")
    reader = world.reader()
    assert reader.refresh().channel("edge").versions("container") == ()
    assert world.publish("1.0.1", "edge").changed
    view = reader.refresh()
    assert view.channel("edge").newest("container") == "1.0.1"
    assert view.channel("stable").newest("container") is None
    release = reader.release("edge", "container", "1.0.1")
    assert release == made
    root = release.artefact(ArtefactKind.ROOT)
    assert b"".join(reader.stream(root, 5, 5)) == b"1.0.1"
    sums = reader.read(release.artefact(ArtefactKind.SUMS)).decode()
    assert sums.splitlines()[0].split(" *") == [
        release.artefact(ArtefactKind.UKI).sha256,
        "bedplate-container_1.0.1.efi",
    ]
    assert len(sums.splitlines()) == 3, "only what nodes fetch"
    world.publish("1.0.1", "stable")
    world.withdraw("1.0.1", "stable", "eats the cake")
    after = reader.refresh()
    gone = after.channel("stable").withdrawn("container", "1.0.1")
    assert gone is not None
    assert gone.reason == "eats the cake"
    assert after.channel("stable").newest("container") is None
    assert after.channel("edge").newest("container") == "1.0.1"
    assert after.revision > view.revision


def test_both_tracks_have_a_release_of_one_version(world: World) -> None:
    world.create("2.0")
    world.create("2.0", track="server")
    world.publish("2.0", "edge", "container")
    world.publish("2.0", "edge", "server")
    channel = world.reader().refresh().channel("edge")
    assert [channel.newest(track) for track in ("container", "server")] == ["2.0", "2.0"]


def test_the_newest_is_by_version_not_by_time(world: World) -> None:
    for version in ("1.9", "1.10"):
        world.create(version)
        world.publish(version, "edge")
    assert world.reader().refresh().channel("edge").versions("container") == ("1.9", "1.10")
    with pytest.raises(BadInput, match=r"has 1\.10 already, which is newer"):
        world.create("1.9.5")
        world.publish("1.9.5", "edge")


def test_creating_again_gives_what_is_there(world: World) -> None:
    first = world.create("1.0.1")
    world.now += 60
    assert world.create("1.0.1") == first
    with pytest.raises(BadInput, match=r"exists already and is another release \(build differ"):
        world.create("1.0.1", build="22" * 32)


def test_publishing_again_changes_nothing(world: World) -> None:
    world.create("1.0.1")
    world.publish("1.0.1", "edge")
    revision = world.reader().refresh().revision
    assert not world.publish("1.0.1", "edge").changed
    assert world.reader().refresh().revision == revision


def test_a_release_passes_through_the_channels_in_order(world: World) -> None:
    world.create("1.0.1")
    with pytest.raises(BadInput, match="was not published in edge, which comes before stable"):
        world.publish("1.0.1", "stable")


def test_a_release_stays_in_a_channel_as_long_as_the_next_one_wants(tmp_path: Path) -> None:
    world = World(tmp_path, definition=channels(soak_hours=24)).initialise()
    world.create("1.0.1")
    world.publish("1.0.1", "edge")
    world.now += 23 * 3600
    with pytest.raises(BadInput, match=r"has been in edge for 23.0 h, stable wants 24.0 h"):
        world.publish("1.0.1", "stable")
    world.now += 3600
    assert world.publish("1.0.1", "stable").changed


def test_a_release_withdrawn_from_edge_does_not_reach_stable(world: World) -> None:
    world.create("1.0.1")
    world.publish("1.0.1", "edge")
    world.withdraw("1.0.1", "edge", "no network")
    with pytest.raises(BadInput, match="withdrawn from edge: no network"):
        world.publish("1.0.1", "stable")
    with pytest.raises(BadInput, match="a withdrawn release never comes back"):
        world.publish("1.0.1", "edge")


def test_a_withdrawal_says_why(world: World) -> None:
    world.create("1.0.1")
    world.publish("1.0.1", "edge")
    for reason in ("", "   ", "a\x1b[31mb", "x" * 501):
        with pytest.raises(BadInput, match="say why"):
            world.withdraw("1.0.1", "edge", reason)


def test_the_sums_name_releases_files_as_sysupdate_matches_them(world: World) -> None:
    release = world.create("1.0.1")
    names = [artefact.name for artefact in release.artefacts if artefact.update]
    uuids = [str(one) for one in release.partition_uuids]
    assert names == [
        f"bedplate-container_1.0.1_{uuids[0]}.root",
        f"bedplate-container_1.0.1_{uuids[1]}.verity",
        "bedplate-container_1.0.1.efi",
    ]
    assert release.named(SUMS) is not None


def test_a_release_that_one_key_signed_waits_for_the_second(tmp_path: Path) -> None:
    second, third = operator(tmp_path / "second"), operator(tmp_path / "third")
    world = World(tmp_path, definition=channels(release_threshold=2, stable_threshold=2)).initialise([second, third])
    world.create("1.0.1")
    with pytest.raises(TrustError, match="1 valid signatures, 2 are needed"):
        world.publish("1.0.1", "edge")
    world.create("1.0.2", signers=[*world.signers(roles=["release"]), *world.signers(third)])
    world.publish("1.0.2", "edge")
    outcome = world.publish("1.0.2", "stable")
    assert outcome.missing == {"stable": 1}
    assert world.reader().refresh().channel("stable").newest("container") is None
    with_second = world.repository([*world.signers(second), *world.signers(roles=["online"])])
    assert [(one.subject, one.why) for one in with_second.waiting()] == [("stable", "publish 1.0.2")]
    assert not with_second.approve("stable").waiting
    assert world.reader().refresh().channel("stable").newest("container") == "1.0.2"
    assert with_second.waiting() == []


def test_one_key_twice_is_not_two(tmp_path: Path) -> None:
    second = operator(tmp_path / "second")
    world = World(tmp_path, definition=channels(stable_threshold=2)).initialise([second])
    world.create("1.0.1")
    world.publish("1.0.1", "edge")
    world.publish("1.0.1", "stable")
    outcome = world.repository().approve
    with pytest.raises(BadInput, match="no key at hand may sign: stable"):
        outcome("stable")


def test_a_waiting_change_made_from_an_older_state_is_refused(tmp_path: Path) -> None:
    second = operator(tmp_path / "second")
    world = World(tmp_path, definition=channels(stable_threshold=2)).initialise([second])
    both = world.repository([*world.signers(), *world.signers(second)])
    for version in ("1.0.1", "1.0.2"):
        world.create(version)
        world.publish(version, "edge")
    world.publish("1.0.1", "stable")
    world.publish("1.0.2", "stable", repository=both)
    world.objects.put("pending/stable.json", *_stale(world))
    with pytest.raises(BadInput, match="made from an older state"):
        both.approve("stable")


def _stale(world: World) -> tuple[bytes, object]:
    """A change of stable that was made when it had no release yet."""
    from bedplate.model.digest import canonical_json
    from bedplate.release.objects import Anything

    metadata = world.objects.get("metadata/1.stable.json", 10**6).data.decode()
    return canonical_json({"format": 1, "why": "old", "roles": {"stable": metadata}}), Anything()


def test_development_keys_reach_edge_and_no_further(tmp_path: Path) -> None:
    world = World(tmp_path, kind=Kind.DEVELOPMENT).initialise()
    assert world.create("1.0.1").development
    world.publish("1.0.1", "edge")
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.1"
    with pytest.raises(TrustError, match="signed by 0 keys this channel takes"):
        world.publish("1.0.1", "stable")


def test_freshness_is_renewed_without_changing_anything(world: World) -> None:
    world.create("1.0.1")
    world.publish("1.0.1", "edge")
    before = world.reader().refresh()
    world.now += 86400
    world.repository().refresh()
    after = world.reader().refresh()
    assert (after.revision, after.expires) == (before.revision + 1, before.expires)
    assert after.channel("edge").publications == before.channel("edge").publications != ()
