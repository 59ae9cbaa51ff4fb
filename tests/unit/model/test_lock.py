"""Locks survive being written and read, and a damaged one is refused with its place."""

import pytest

from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.lock import Lock, LockedPackage, format_lock, parse_lock
from bedplate.model.package import Location, Nevra, SourceRef

PACKAGE = LockedPackage(
    nevra=Nevra("libc6", Evr(0, "2.41", "12"), "x86_64"),
    source=SourceRef("glibc", Evr(0, "2.41", "12")),
    location=Location("debian-13", "pool/main/g/glibc/libc6_2.41-12_amd64.deb", "ab" * 32, 1234),
    rpm_sha256="cd" * 32,
    suite="trixie",
    why="bash",
    upstream_version="2.41-12",
)
OWN = LockedPackage(Nevra("filesystem", Evr(0, "1", "1"), "noarch"), SourceRef("filesystem", Evr(0, "1", "1")), None)
LOCK = Lock("container", "ef" * 32, (OWN, PACKAGE), {"trixie": "01" * 32})


def test_round_trip():
    assert parse_lock(format_lock(LOCK), "x.lock") == LOCK


def test_order_of_packages_does_not_matter():
    turned = Lock(LOCK.track, LOCK.definition, tuple(reversed(LOCK.packages)), LOCK.indexes)
    assert format_lock(turned) == format_lock(LOCK)


@pytest.mark.parametrize(
    "text",
    [
        "not toml [",
        "version = 99",
        'version = 1\ntrack = "x"',
        format_lock(LOCK).replace("size = 1234", 'size = "many"'),
    ],
    ids=["not-toml", "other-version", "no-packages", "size-is-a-word"],
)
def test_damaged_lock_is_refused_with_its_name_and_a_remedy(text):
    with pytest.raises(BadInput) as caught:
        parse_lock(text, "container.lock")
    assert caught.value.where == "container.lock"
    assert "bedplate lock" in caught.value.remedy
