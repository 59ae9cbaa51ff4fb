"""The service on a real release store: signed metadata, signed listings, withdrawn and forged releases."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bedplate.model.errors import BedplateError
from bedplate.release.objects import Anything, blob_path
from bedplate.serve.catalog import SIGNATURE, SUMS, parse_sums
from bedplate.serve.store_catalog import StoreCatalog
from support.releases import World, published


@pytest.fixture
def world(tmp_path: Path) -> World:
    return published().copy(tmp_path / "world")


def test_what_is_handed_out_is_what_was_signed(world: World) -> None:
    shelf = StoreCatalog(world.reader()).load()
    one = shelf.get("container", "1.0.1")
    assert one is not None
    assert [c for c in shelf.channels.values() if c.newest("container") == "1.0.1"]
    listed = parse_sums(one.sums, "")
    for name, digest in listed.items():
        assert hashlib.sha256(Path(one.files[name].path).read_bytes()).hexdigest() == digest
    assert [file.name for file in one.files.values() if file.last] == [one.release.artefact("uki").name]
    assert one.files[SUMS].sha256 == hashlib.sha256(one.sums).hexdigest()
    assert one.files[SIGNATURE].sha256 == hashlib.sha256(one.signature).hexdigest()


def test_a_look_that_finds_nothing_new_gives_the_same_releases(world: World) -> None:
    catalog = StoreCatalog(world.reader())
    assert catalog.load().get("container", "1.0.1") is catalog.load().get("container", "1.0.1")


def test_a_withdrawn_release_says_why_and_can_still_be_listed_for_nodes_that_run_it(world: World) -> None:
    catalog = StoreCatalog(world.reader())
    catalog.load()
    world.withdraw("1.0.1", "edge", "it eats disks")
    shelf = catalog.load()
    facts = shelf.facts("container", "1.0.1", "edge")
    assert facts is not None
    assert facts.withdrawn == "it eats disks"
    assert shelf.quiet("container", "1.0.1") is not None


def test_artefacts_may_be_elsewhere(world: World) -> None:
    one = StoreCatalog(world.reader(), cdn="https://cdn.example/releases/").load().get("container", "1.0.1")
    assert one is not None
    file = one.files[one.release.artefact("root").name]
    assert (file.path, file.url) == ("", f"https://cdn.example/releases/{blob_path(file.sha256)}")


def test_a_release_whose_listing_was_swapped_is_offered_to_nobody(world: World) -> None:
    reader = world.reader()
    good = StoreCatalog(reader).load().get("container", "1.0.1")
    assert good is not None
    world.objects.put(blob_path(good.release.artefact("sums").sha256), b"0" * len(good.sums), Anything())
    assert StoreCatalog(reader).load().get("container", "1.0.1") is None


def test_a_store_that_is_gone_is_an_error_and_not_an_empty_shelf(world: World) -> None:
    catalog = StoreCatalog(world.reader())
    catalog.load()
    (world.folder / "store").rename(world.folder / "elsewhere")
    with pytest.raises(BedplateError):
        catalog.load()


def test_a_node_of_an_unknown_version_gets_the_listing_of_the_newest_older_release(world: World) -> None:
    shelf = StoreCatalog(world.reader()).load()
    quiet = shelf.quiet("container", "7.7")
    assert quiet is not None
    assert quiet.release.version == "1.0.1"
    assert shelf.quiet("container", "0.1") is None
    assert shelf.quiet("elsewhere", "7.7") is None
