"""Each key of the store is changed without anybody going to a reader, and the old one stops working."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.flows.release_admin import top_keys
from bedplate.flows.release_store import policy_key
from bedplate.model.errors import BadInput, TrustError
from bedplate.release import metadata as md
from bedplate.release.keys import key_of
from bedplate.release.objects import Condition
from bedplate.release.policy import KeyState
from bedplate.release.repository import Repository
from bedplate.trust.roles import Kind
from support.releases import World, channels, operator, published


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A store with 1.0.1 in edge, and a reader that has seen it."""
    return published().copy(tmp_path / "world")


def add_top(world: World, role: str, repository: Repository | None = None) -> str:
    """Add a new key of a top-level role beside the one in use; gives the old one's id."""
    old = world.store_key(role)
    world.keys.create(role, Kind.RELEASE)
    new = world.store_key(role)

    def keys(root: md.Root) -> md.RoleKeys:
        top = top_keys(root)
        if role == "root":
            return replace(top, root=(*top.root, new))
        return replace(top, online=(*top.online, new))

    (repository or world.repository()).change_top_keys(keys, f"new {role} key")
    return old.keyid


def remove_top(world: World, keyid: str, repository: Repository | None = None) -> None:
    """Take a key out of its top-level role."""

    def keys(root: md.Root) -> md.RoleKeys:
        top = top_keys(root)
        left = [tuple(key for key in group if key.keyid != keyid) for group in (top.root, top.online)]
        return replace(top, root=left[0], online=left[1])

    (repository or world.repository()).change_top_keys(keys, "out with it")


def change_top(world: World, role: str) -> str:
    """Put a new key in the place of the one in use for a top-level role; gives the old one's id."""
    old = add_top(world, role)
    remove_top(world, old)
    return old


@pytest.mark.parametrize("role", ["root", "online"])
def test_readers_follow_a_new_key_of_the_store(world: World, role: str) -> None:
    old = change_top(world, role)
    reader = world.reader()
    assert reader.refresh().channel("edge").newest("container") == "1.0.1"
    # The old key alone can do nothing any more.
    others = [signer for signer in world.signers() if signer.public_key.keyid != world.store_key(role).keyid]
    assert old in {signer.public_key.keyid for signer in others}
    world.create("1.0.2")
    if role == "online":
        with pytest.raises(BadInput, match="no key at hand may sign"):
            world.publish("1.0.2", "edge", repository=world.repository(others))
    else:
        with pytest.raises(BadInput, match="no key at hand may sign"):
            world.repository(others).change_policy(lambda policy: replace(policy, channels=policy.channels[:1]), "x")
    world.publish("1.0.2", "edge")
    assert reader.refresh().channel("edge").newest("container") == "1.0.2"


def test_a_reader_that_slept_through_several_roots_catches_up(world: World) -> None:
    for _ in range(3):
        change_top(world, "root")
        change_top(world, "online")
    assert world.reader("sleeper").refresh().channel("edge").newest("container") == "1.0.1"


class Killed(Exception):
    """The end of a program that is killed."""


@pytest.mark.parametrize("file", ["targets.json", "snapshot.json", "timestamp.json", "root.json"])
def test_a_change_of_keys_cut_short_anywhere_leaves_a_store_that_works(world: World, file: str) -> None:
    class Dying:
        """The store's objects, of a program killed right after it wrote a file of this name."""

        def __getattr__(self, name: str) -> object:
            return getattr(world.objects, name)

        def put(self, path: str, source: bytes | Path, condition: Condition) -> None:
            world.objects.put(path, source, condition)
            if path.endswith(file):
                raise Killed

    old = add_top(world, "online")
    with pytest.raises(Killed):
        remove_top(world, old, world.repository(objects=Dying()))  # type: ignore[arg-type]
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.1"
    remove_top(world, old)
    world.create("1.0.2")
    world.publish("1.0.2", "edge")
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.2"


def test_a_successor_signs_before_its_predecessor_goes(world: World) -> None:
    old = add_top(world, "online")
    without_new = [s for s in world.signers() if s.public_key.keyid != world.store_key("online").keyid]
    with pytest.raises(BadInput, match="with the keys that shall remain"):
        remove_top(world, old, world.repository(without_new))
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.1"


def test_who_publishes_with_an_old_key_while_it_goes_is_signed_again(world: World) -> None:
    old = add_top(world, "online")
    only_old = [s for s in world.signers() if s.public_key.keyid != world.store_key("online").keyid]
    world.create("1.0.2")
    changing = world.repository()

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(world.objects, name)

        def put(self, path: str, source: bytes | Path, condition: Condition) -> None:
            if path.endswith("root.json"):
                world.publish("1.0.2", "edge", repository=world.repository(only_old))
            world.objects.put(path, source, condition)

    changing.store = Slow()  # type: ignore[assignment]
    remove_top(world, old, changing)
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.2"


def test_a_new_release_key_signs_and_the_retired_one_no_more(world: World) -> None:
    old = world.keys.ensure("release")
    new = world.keys.create("release", Kind.RELEASE)
    repository = world.repository()
    repository.change_policy(
        lambda policy: policy.with_key(policy_key(world.keys, old, KeyState.RETIRED, world.now)).with_key(
            policy_key(world.keys, new, KeyState.ACTIVE, world.now)
        ),
        "next release key",
    )
    reader = world.reader()
    reader.refresh()
    assert reader.release("edge", "container", "1.0.1").version == "1.0.1", "what the retired key signed holds"
    only_old = [s for s in world.signers() if s.public_key.keyid != new.fingerprint]
    world.create("1.0.2")
    with pytest.raises(BadInput, match="no key at hand may sign: edge"):
        world.publish("1.0.2", "edge", repository=world.repository(only_old))
    assert world.publish("1.0.2", "edge").changed
    assert reader.refresh().channel("edge").newest("container") == "1.0.2"


def test_what_a_revoked_release_key_signed_is_void(world: World) -> None:
    old = world.keys.ensure("release")
    new = world.keys.create("release", Kind.RELEASE)
    reader = world.reader()
    reader.refresh()
    assert len(reader.releases("edge", "container")) == 1
    world.repository().change_policy(
        lambda policy: policy.with_key(policy_key(world.keys, old, KeyState.REVOKED, world.now)).with_key(
            policy_key(world.keys, new, KeyState.ACTIVE, world.now)
        ),
        "lost",
    )
    reader.refresh()
    assert reader.releases("edge", "container") == ()
    with pytest.raises(TrustError, match="0 valid signatures, 1 are needed"):
        reader.release("edge", "container", "1.0.1")


@pytest.mark.parametrize("role", ["boot", "pcr", "packages", "update"])
def test_a_release_with_a_part_by_a_revoked_key_is_offered_no_more(world: World, role: str) -> None:
    key = world.keys.ensure(role)
    reader = world.reader()
    reader.refresh()
    assert len(reader.releases("edge", "container")) == 1
    world.repository().change_policy(
        lambda policy: policy.with_key(policy_key(world.keys, key, KeyState.REVOKED, world.now)), f"lost {role}"
    )
    reader.refresh()
    assert reader.releases("edge", "container") == ()
    world.create("1.0.2")
    with pytest.raises(TrustError, match=f"the {role} key .* was revoked"):
        world.publish("1.0.2", "edge")


def test_two_of_three(tmp_path: Path) -> None:
    second, third = operator(tmp_path / "second"), operator(tmp_path / "third")
    world = World(tmp_path, definition=channels(release_threshold=2, stable_threshold=2)).initialise([second, third])
    online = world.signers(roles=["online"])
    groups = {
        "first and second": [*world.signers(roles=["release"]), *world.signers(second)],
        "second and third": [*world.signers(second), *world.signers(third)],
        "all three": [*world.signers(roles=["release"]), *world.signers(second), *world.signers(third)],
    }
    for number, group in enumerate(groups.values(), 1):
        version = f"1.0.{number}"
        world.create(version, signers=group)
        assert not world.publish(version, "edge", repository=world.repository([*group, *online])).waiting
        assert not world.publish(version, "stable", repository=world.repository([*group, *online])).waiting
        assert world.reader().refresh().channel("stable").newest("container") == version
    alone = world.repository([*world.signers(third), *online])
    world.create("1.0.9", signers=groups["all three"])
    world.publish("1.0.9", "edge", repository=alone)
    assert world.publish("1.0.9", "stable", repository=alone).missing == {"stable": 1}


def test_thresholds_nobody_can_reach_are_refused(world: World) -> None:
    with pytest.raises(BadInput, match="too few release keys"):
        world.repository().change_policy(lambda policy: replace(policy, release_threshold=2), "two must sign")


def test_the_same_key_in_two_certificates_does_not_count_twice(world: World) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from bedplate.release.policy import PolicyKey
    from bedplate.trust.certificates import certify
    from bedplate.trust.roles import role

    private = load_pem_private_key((world.keys.ensure("release").directory / "key.pem").read_bytes(), None)
    again = certify(private, role("release"), Kind.RELEASE, "Another name")  # type: ignore[arg-type]
    twin = PolicyKey("release", key_of(again).keyid, KeyState.ACTIVE, False, again.decode(), world.now)
    with pytest.raises(BadInput, match="one and the same key"):
        world.repository().change_policy(lambda policy: policy.with_key(twin), "twice")


def test_two_operators_change_keys_at_once(world: World) -> None:
    """The slower one's root is not the next any more; it makes its change on top of the other's."""
    second = operator(world.folder / "second")
    third = operator(world.folder / "third")
    slow = world.repository()
    interfered: list[str] = []

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(world.objects, name)

        def put(self, path: str, source: bytes | Path, condition: Condition) -> None:
            if not interfered and path.endswith("root.json"):
                interfered.append(path)
                add_top(world, "root")
                world.repository().change_policy(
                    lambda policy: policy.with_key(policy_key(second, second.ensure("release"), KeyState.ACTIVE, 1)),
                    "b",
                )
            world.objects.put(path, source, condition)

    slow.store = Slow()  # type: ignore[assignment]
    add_top(world, "online", slow)
    slow.change_policy(
        lambda policy: policy.with_key(policy_key(third, third.ensure("release"), KeyState.ACTIVE, 1)), "c"
    )
    assert interfered
    policy = world.reader().refresh().policy
    for other in (second, third):
        assert policy.known("release", other.ensure("release").fingerprint) is not None
    state = world.repository().state()
    assert state.root.signed.version == 3
    assert len(state.root.signed.roles["root"].keyids) == len(state.root.signed.roles["timestamp"].keyids) == 2
    assert world.publish("1.0.1", "edge").changed is False
