"""A release of the built image, from the finished build to plain files for a web server."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pysequoia
import pytest

from bedplate.flows.build import BuildOutcome
from bedplate.flows.locks import Relock
from bedplate.flows.release_create import Terms, create_releases
from bedplate.flows.release_look import compare, export_channel, overview, verify_release
from bedplate.flows.release_publish import check_bytes, promote, publish_release, withdraw_release
from bedplate.flows.release_store import StorePlace, reader, release_place
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput, TrustError
from bedplate.model.release import ArtefactKind, Release
from bedplate.release.create import Part, store_part, sums_text
from bedplate.release.objects import Anything, blob_path
from bedplate.trust.keys import KeyStore

pytestmark = [pytest.mark.vm, pytest.mark.tools]


@pytest.fixture(scope="module")
def place(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> StorePlace:
    """An empty store, whose root is kept apart from the user's keys."""
    folder = tmp_path_factory.mktemp("release")
    return replace(release_place(workspace, str(folder / "store")), pins=folder / "pins")


@pytest.fixture(scope="module")
def release(workspace: Workspace, place: StorePlace, container_build: BuildOutcome) -> Release:
    """The built image as a release, in the channel edge."""
    terms = Terms(notes="First", disk=False)
    (made,) = create_releases(workspace, place, [str(container_build.directory)], terms, Relock.WHEN_NEEDED)
    publish_release(workspace, place, made.version, "edge", [])
    return made


def test_the_manifest_says_what_was_built(release: Release, container_build: BuildOutcome) -> None:
    build = container_build.build
    assert (release.track, release.version, release.root_hash) == ("container", build.version, build.root_hash)
    root = release.artefact(ArtefactKind.ROOT)
    assert root.sha256 == hashlib.sha256((container_build.directory / "root.erofs").read_bytes()).hexdigest()
    assert release.pcr11 == dict(build.pcr11)
    assert set(release.signers) == {"boot", "pcr", "packages", "update"}


def test_everything_in_the_store_is_what_was_signed(place: StorePlace, release: Release) -> None:
    assert verify_release(place, "container", release.version) == len(release.artefacts)
    assert overview(place).channels[0].newest("container") == release.version


def test_plain_files_that_stock_sysupdate_accepts(
    workspace: Workspace, place: StorePlace, release: Release, tmp_path: Path
) -> None:
    export_channel(place, "edge", "container", tmp_path / "www")
    sums = (tmp_path / "www/SHA256SUMS").read_bytes()
    names = set()
    for line in sums.decode().splitlines():
        digest, _, name = line.partition(" *")
        assert hashlib.sha256((tmp_path / "www" / name).read_bytes()).hexdigest() == digest
        names.add(name)
    assert names == {artefact.name for artefact in release.artefacts if artefact.update}
    # The keyring is the one that lies in the image as /usr/lib/systemd/import-pubring.gpg.
    certificate = pysequoia.Cert.from_bytes(KeyStore(workspace.keys).keyring("update"))
    signature = pysequoia.Sig.from_file(str(tmp_path / "www/SHA256SUMS.gpg"))
    assert pysequoia.verify(sums, store=lambda _: [certificate], signature=signature).valid_sigs


def test_development_keys_stay_out_of_release_channels(
    workspace: Workspace, place: StorePlace, release: Release
) -> None:
    assert release.development
    with pytest.raises(TrustError, match=r"development key|keys this channel takes"):
        promote(workspace, place, "edge", "stable", [])


def test_a_uki_that_was_exchanged_is_not_published(
    workspace: Workspace, place: StorePlace, release: Release, tmp_path: Path
) -> None:
    """Somebody with the release key signs a manifest whose UKI nobody signed."""
    uki = release.artefact(ArtefactKind.UKI)
    blob = Path(place.objects.url) / blob_path(uki.sha256)
    good = blob.read_bytes()
    changed = good[:100_000] + bytes([good[100_000] ^ 1]) + good[100_001:]
    forged = replace(uki, sha256=hashlib.sha256(changed).hexdigest())
    (tmp_path / "forged").write_bytes(changed)
    place.objects.put(blob_path(forged.sha256), tmp_path / "forged", Anything())
    sums = release.artefact(ArtefactKind.SUMS)
    others = tuple(one for one in release.artefacts if one.kind not in (ArtefactKind.UKI, ArtefactKind.SUMS))
    text = sums_text((*others, forged))
    again = store_part(place.objects, Part(ArtefactKind.SUMS, sums.name, text))
    lie = replace(release, artefacts=(*others, forged, again))
    with pytest.raises(TrustError):
        check_bytes(place.objects, lie, reader(place).view.policy)


def test_nothing_differs_from_itself(place: StorePlace, release: Release) -> None:
    result = compare(place, "", "edge", release.version, {})
    assert (result.packages, result.lists) == ((), ())
    assert "nodes reboot into it" in result.must_know


def test_withdrawn_everywhere(workspace: Workspace, place: StorePlace, release: Release) -> None:
    withdraw_release(workspace, place, release.version, "loses the network", [], [])
    assert overview(place).channels[0].newest("container") is None
    with pytest.raises(BadInput, match="a withdrawn release never comes back"):
        publish_release(workspace, place, release.version, "edge", [])
