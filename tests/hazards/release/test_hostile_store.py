"""What a thief, a broken disk or a hostile mirror can do to a store: nothing of it is believed.

Every case changes the store's files the way its name says; a reader then refuses with a plain error, and keeps what it
knew before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.model.digest import canonical_json, sha256
from bedplate.model.errors import BadInput, TrustError
from bedplate.model.release import ArtefactKind, SignedBy
from bedplate.release.client import VerifiedStore, envelope_path, read_blob
from bedplate.release.create import Names, Part, create
from bedplate.release.objects import Anything, blob_path, require_path
from bedplate.trust.roles import Kind
from support.releases import NOW, World, published, tree_of

HOUR = 3600


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A store with 1.0.1 in edge, and a reader that has seen it."""
    return published().copy(tmp_path / "world")


def file(world: World, path: str) -> Path:
    return world.folder / "store" / path


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    before = path.read_bytes()
    after = change(before)
    assert after != before
    path.write_bytes(after)


def newest(world: World, pattern: str) -> Path:
    return max(file(world, "metadata").glob(pattern), key=lambda p: int(p.name.split(".")[0]))


def flip_a_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def other_hash(data: bytes) -> bytes:
    body = json.loads(data)
    for target in body["signed"].get("targets", {}).values():
        target["hashes"]["sha256"] = "00" * 32
    body["signed"]["version"] += 1
    return canonical_json(body)


def no_signatures(data: bytes) -> bytes:
    return canonical_json({**json.loads(data), "signatures": []})


def same_signature_twice(data: bytes) -> bytes:
    body = json.loads(data)
    return canonical_json({**body, "signatures": [*body["signatures"], *body["signatures"]]})


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def endless(data: bytes) -> bytes:
    return data + b" " * 6_000_000


def empty(data: bytes) -> bytes:
    return b""


def not_json(data: bytes) -> bytes:
    return b"<html>captive portal</html>"


def nested(data: bytes) -> bytes:
    return b"[" * 100_000


CHANGES = [flip_a_byte, no_signatures, same_signature_twice, cut, endless, empty, not_json, nested]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "edge"])
def test_changed_metadata(world: World, role: str, change: Callable[[bytes], bytes]) -> None:
    world.create("1.0.2")
    world.publish("1.0.2", "edge")
    path = file(world, "metadata/timestamp.json") if role == "timestamp" else newest(world, f"*.{role}.json")
    edit(path, change)
    stranger = world.reader("stranger")
    with pytest.raises(TrustError):
        stranger.refresh()
    known = world.reader()
    try:
        carried = known.refresh().channel("edge").newest("container")
    except TrustError:
        return
    assert (role, carried) == ("targets", "1.0.2"), "unchanged targets were read before and are not read again"


@pytest.mark.parametrize("change", [other_hash, no_signatures, not_json], ids=lambda change: change.__name__)
def test_a_forged_next_root(world: World, change: Callable[[bytes], bytes]) -> None:
    data = file(world, "metadata/1.root.json").read_bytes()
    file(world, "metadata/2.root.json").write_bytes(change(data))
    for name in ("reader", "stranger"):
        with pytest.raises(TrustError):
            world.reader(name).refresh()
    with pytest.raises(TrustError):
        world.repository().state()


def test_a_root_of_somebody_elses(world: World, tmp_path: Path) -> None:
    """A whole store, well signed, by other keys."""
    other = World(tmp_path / "other").own_keys().initialise()
    other.create("9.9")
    other.publish("9.9", "edge")
    shutil.rmtree(file(world, ""))
    shutil.copytree(tmp_path / "other/store", file(world, ""))
    for name in ("reader", "stranger"):
        with pytest.raises(TrustError):
            world.reader(name).refresh()


def test_a_replayed_older_store(world: World) -> None:
    """Yesterday's files, every one of them correctly signed."""
    shutil.copytree(file(world, ""), world.folder / "yesterday")
    world.create("1.0.2")
    world.publish("1.0.2", "edge")
    reader = world.reader()
    assert reader.refresh().channel("edge").newest("container") == "1.0.2"
    seen = world.repository()
    seen.seen = seen.state().timestamp.signed.version
    shutil.rmtree(file(world, ""))
    shutil.copytree(world.folder / "yesterday", file(world, ""))
    with pytest.raises(TrustError, match="cannot be believed"):
        reader.refresh()
    assert reader.view.channel("edge").newest("container") == "1.0.2", "what was known stays known"
    with pytest.raises(TrustError, match="cannot be believed"):
        world.reader().refresh()
    with pytest.raises(TrustError, match="somebody put an older state back"):
        seen.state()


def test_a_replayed_older_channel_under_a_new_snapshot_name(world: World) -> None:
    """Files mixed from two states: each signed, but not together."""
    old = newest(world, "*.edge.json").read_bytes()
    world.create("1.0.2")
    world.publish("1.0.2", "edge")
    newest(world, "*.edge.json").write_bytes(old)
    with pytest.raises(TrustError):
        world.reader("stranger").refresh()


@pytest.mark.parametrize("age", [25 * 365 * 86400], ids=["signed_long_ago"])
def test_a_frozen_store_expires(tmp_path: Path, age: int) -> None:
    world = World(tmp_path, now=NOW - age).initialise()
    with pytest.raises(TrustError, match=r"expired .* or this machine's clock is wrong"):
        world.reader().refresh()
    world.now = NOW
    world.repository().refresh()
    with pytest.raises(TrustError, match="expired"):
        world.reader().refresh()  # the root and the targets are still those of long ago


def test_an_expired_release_is_not_published(world: World) -> None:
    world.create("1.0.2", expires=NOW + HOUR)
    world.now += 2 * HOUR
    with pytest.raises(BadInput, match="it has expired"):
        world.publish("1.0.2", "edge")


@pytest.mark.parametrize("change", [flip_a_byte, cut, empty, not_json], ids=lambda change: change.__name__)
def test_an_edited_manifest(world: World, change: Callable[[bytes], bytes]) -> None:
    edit(file(world, envelope_path("container", "1.0.1")), change)
    reader = world.reader()
    reader.refresh()
    with pytest.raises((TrustError, BadInput)):
        reader.release("edge", "container", "1.0.1")


def test_a_manifest_signed_by_a_stranger(world: World, tmp_path: Path) -> None:
    stranger = World(tmp_path / "stranger").own_keys().initialise()
    stranger.create("1.0.1", notes="mine")
    shutil.copy(tmp_path / "stranger/store" / envelope_path("container", "1.0.1"), file(world, "releases/container"))
    reader = world.reader()
    reader.refresh()
    assert reader.releases("edge", "container") == ()
    with pytest.raises(TrustError, match="0 valid signatures, 1 are needed"):
        reader.release("edge", "container", "1.0.1")


def test_the_manifest_of_another_version_under_this_name(world: World) -> None:
    world.create("1.0.2")
    shutil.copy(file(world, envelope_path("container", "1.0.2")), file(world, envelope_path("container", "1.0.1")))
    reader = world.reader()
    reader.refresh()
    with pytest.raises(TrustError, match="another release's"):
        reader.release("edge", "container", "1.0.1")
    with pytest.raises(TrustError, match="another release's"):
        world.publish("1.0.1", "edge")


def test_two_manifests_of_one_version(world: World, tmp_path: Path) -> None:
    """The same keys signed two different releases as 1.0.1; the channel says which one it carries."""
    twin = World(tmp_path / "twin")
    shutil.rmtree(twin.folder / "keys")
    shutil.copytree(world.folder / "keys", twin.folder / "keys")
    twin.initialise()
    twin.create("1.0.1", notes="the other one")
    shutil.copy(tmp_path / "twin/store" / envelope_path("container", "1.0.1"), file(world, "releases/container"))
    reader = world.reader()
    reader.refresh()
    with pytest.raises(TrustError, match="not the one that was published"):
        reader.release("edge", "container", "1.0.1")
    with pytest.raises(TrustError, match="carries another release under this version"):
        world.publish("1.0.1", "edge")


@pytest.mark.parametrize("change", [flip_a_byte, cut, empty, endless], ids=lambda change: change.__name__)
@pytest.mark.parametrize("kind", [ArtefactKind.ROOT, ArtefactKind.SUMS, ArtefactKind.SUMS_SIGNATURE])
def test_a_changed_artefact(world: World, kind: ArtefactKind, change: Callable[[bytes], bytes]) -> None:
    reader = world.reader()
    reader.refresh()
    artefact = reader.release("edge", "container", "1.0.1").artefact(kind)
    edit(file(world, blob_path(artefact.sha256)), change)
    with pytest.raises(TrustError):
        reader.read(artefact)


def test_swapped_artefacts(world: World) -> None:
    release = world.reader().release("edge", "container", "1.0.1")
    root, verity = (release.artefact(kind) for kind in (ArtefactKind.ROOT, ArtefactKind.VERITY))
    one, two = (file(world, blob_path(artefact.sha256)) for artefact in (root, verity))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    for artefact in (root, verity):
        with pytest.raises(TrustError):
            read_blob(world.objects, artefact)


def test_a_missing_artefact(world: World) -> None:
    release = world.reader().release("edge", "container", "1.0.1")
    root = release.artefact(ArtefactKind.ROOT)
    file(world, blob_path(root.sha256)).unlink()
    with pytest.raises(TrustError, match="the store lacks this artefact"):
        world.reader().read(root)
    world.create("1.0.1")


@pytest.mark.parametrize("missing", ["timestamp.json", "*.snapshot.json", "*.targets.json", "*.edge.json", "blobs"])
def test_missing_parts(world: World, missing: str) -> None:
    if missing == "blobs":
        shutil.rmtree(file(world, "blobs"))
    for path in file(world, "metadata").glob(missing):
        path.unlink()
    with pytest.raises(TrustError):
        world.reader("stranger").refresh()


PATHS = [
    "../outside", "/etc/passwd", "a/../../b", "a//b", ".hidden", "a/.b", "", "a\\b", "a\nb", "a%2e%2e/b", "é",
    "a" * 500, "pending/..", "blobs/", "a b", "a;b", "http:x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=[f"path_{number}" for number in range(len(PATHS))])
def test_path_tricks(world: World, path: str) -> None:
    before = tree_of(world.folder)
    with pytest.raises(BadInput, match="is no path of a release store"):
        require_path(path)
    for action in (
        lambda: world.objects.get(path, 10),
        lambda: world.objects.put(path, b"x", Anything()),
        lambda: world.objects.info(path),
        lambda: world.objects.delete(path),
    ):
        with pytest.raises(BadInput):
            action()
    assert tree_of(world.folder) == before


@pytest.mark.parametrize("version", ["../1.0", "1.0/../..", "1.0;rm", "-1", "1.0\n", "<b>", "1.0'--", "٣.٠"])
def test_versions_that_are_tricks(world: World, version: str) -> None:
    with pytest.raises(BadInput):
        Names("bedplate-container", version)
    with pytest.raises(BadInput):
        world.create(version)


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/abs", ".ssh", "a b", "x" * 161, "SHA256SUMS"])
def test_artefacts_with_names_that_are_tricks(world: World, name: str) -> None:
    """A manifest with such a name is not even signed."""
    parts = [Part(ArtefactKind.ROOT, name, b"x", update=True)]
    with pytest.raises(BadInput, match="manifest is wrong"):
        create(
            world.objects,
            world.draft("1.0.2"),
            parts,
            world.keys.signer("update").sign,
            world.signers(roles=["release"]),
        )
    assert world.objects.info(envelope_path("container", "1.0.2")) is None


def test_a_development_release_that_says_it_is_none(tmp_path: Path) -> None:
    """The manifest claims release keys; the store knows the keys and believes itself."""
    world = World(tmp_path, kind=Kind.DEVELOPMENT).initialise()
    honest = world.draft("1.0.1")
    lying = {role: replace(signer, development=False) for role, signer in honest.signers.items()}
    create(
        world.objects, replace(honest, signers=lying), world.parts("1.0.1"), world.keys.signer("update").sign,
        world.signers(roles=["release"]),
    )  # fmt: skip
    world.publish("1.0.1", "edge")
    with pytest.raises(TrustError, match="0 keys this channel takes"):
        world.publish("1.0.1", "stable")


def test_a_release_whose_parts_an_unknown_key_signed(world: World) -> None:

    draft = world.draft("1.0.2")
    strange = replace(draft, signers={**draft.signers, "boot": SignedBy(sha256(b"?"), False)})
    create(
        world.objects, strange, world.parts("1.0.2"), world.keys.signer("update").sign, world.signers(roles=["release"])
    )
    with pytest.raises(TrustError, match=r"the boot key .* is unknown to the store"):
        world.publish("1.0.2", "edge")


def test_a_link_out_of_the_store_gives_nothing_away(world: World, tmp_path: Path) -> None:
    """Whoever may write to the store could link to a secret file; what it holds is not what was signed."""
    (tmp_path / "secret").write_text("password")
    release = world.reader().release("edge", "container", "1.0.1")
    root = release.artefact(ArtefactKind.ROOT)
    blob = file(world, blob_path(root.sha256))
    blob.unlink()
    blob.symlink_to(tmp_path / "secret")
    with pytest.raises(TrustError):
        world.reader().read(root)


def test_a_reader_without_the_right_root_reads_nothing(world: World, tmp_path: Path) -> None:
    for root in (b"", b"{}", file(world, "metadata/1.targets.json").read_bytes()):
        with pytest.raises(TrustError):
            VerifiedStore(world.objects, root, tmp_path / f"seen-{len(root)}").refresh()
