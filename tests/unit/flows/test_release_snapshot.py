"""The repository state a release names: only one that holds just what the image holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from bedplate.flows.release_create import snapshot_of
from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.lock import Lock, LockedPackage
from bedplate.model.package import Nevra, SourceRef
from bedplate.model.release import Release
from bedplate.packages.states import HeldPackage, State
from bedplate_follow.offers import Offer, read_snapshot

RELEASE = Release(
    track="server",
    version="1.0.7",
    image="bedplate-server",
    created=1,
    expires=100,
    artefacts=(),
    root_hash="",
    command_line="",
    kernel="",
    pcr11={},
    build="b",
    lock_sha256="0" * 64,
)


def locked(name: str, evr: str) -> LockedPackage:
    return LockedPackage(Nevra(name, Evr.parse(evr), "x86_64"), SourceRef(name, Evr.parse(evr)), None)


def held(name: str, evr: str) -> HeldPackage:
    return HeldPackage(name, evr, "x86_64", name, "", "0" * 64, f"Packages/{name}", 1, (), (), ())


LOCK = Lock("server", "d", (locked("bash", "5.2-1"), locked("nginx", "1.26-3")))
STATE = State(
    "20261121T101112Z-0123456789ab",
    1,
    "ab" * 32,
    (held("bash", "5.2-1"), held("nginx", "1.26-3"), held("nginx", "1.26-2"), held("more", "1-1")),
)


def test_the_node_reads_what_is_written() -> None:
    content = json.dumps(snapshot_of(STATE, LOCK, RELEASE, "1")).encode()
    offer = Offer("1.0.7", "bedplate-server_1.0.7.snapshot", hashlib.sha256(content).hexdigest())
    found = read_snapshot(content, offer, "server")
    assert (found.state, found.repomd_sha256, found.expires) == (STATE.id, "ab" * 32, 100)


@pytest.mark.parametrize(
    "packages",
    [
        (held("bash", "5.2-1"),),
        (held("bash", "5.2-1"), held("nginx", "1.26-2")),
        (held("bash", "5.2-1"), held("nginx", "1.26-3"), held("nginx", "1.26-4")),
    ],
)
def test_a_state_that_is_not_the_images_is_refused(packages: tuple[HeldPackage, ...]) -> None:
    with pytest.raises(BadInput, match="1 packages of the image") as caught:
        snapshot_of(replace(STATE, packages=packages), LOCK, RELEASE, "1")
    assert list(caught.value.details) == ["nginx-1.26-3.x86_64"]
