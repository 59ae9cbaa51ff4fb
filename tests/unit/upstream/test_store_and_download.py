"""The store keeps what it is given; downloads come once, in parallel, and never again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.model.errors import BedplateError
from bedplate.model.package import Location
from bedplate.upstream.download import Wanted, fetch
from bedplate.upstream.mirrors import Mirrors
from bedplate.upstream.store import ContentStore
from support.mirror import QUICK, Mirror, serve

FILES = {f"pool/{number}.deb": bytes([number]) * (1000 * number) for number in range(20)}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


WANTED = [Wanted(Location("test", path, digest(body), len(body)), "stable", path) for path, body in FILES.items()]


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serve(FILES) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def mirrors(*urls: str) -> dict[str, Mirrors]:
    return {"test": Mirrors("test", {"main": urls}, {"stable": "main"}, {}, {})}


def put(store: ContentStore, data: bytes) -> str:
    store.put_stream([data], digest(data), len(data))
    return digest(data)


def test_second_fetch_touches_no_network(mirror: Mirror, store: ContentStore) -> None:
    first = fetch(WANTED, store, mirrors(mirror.url), limits=QUICK)
    assert (first.downloaded, first.present) == (20, 0)
    assert first.received_bytes == sum(map(len, FILES.values()))
    mirror.requests.clear()
    second = fetch(WANTED, store, {}, limits=QUICK)
    assert (second.downloaded, second.received_bytes, second.present) == (0, 0, 20)
    assert mirror.requests == []
    assert store.check() == []


def test_one_file_wanted_twice_is_fetched_once(mirror: Mirror, store: ContentStore) -> None:
    fetch([WANTED[3], WANTED[3]], store, mirrors(mirror.url), limits=QUICK)
    assert mirror.paths() == ["pool/3.deb"]


def test_file_url(tmp_path: Path, store: ContentStore) -> None:
    for path, body in FILES.items():
        (tmp_path / "mirror dir" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror dir" / path).write_bytes(body)
    fetch(WANTED, store, mirrors((tmp_path / "mirror dir").as_uri()), limits=QUICK)
    assert store.size().entries == len(FILES)


def test_progress_adds_up_to_the_bytes_wanted(mirror: Mirror, store: ContentStore) -> None:
    class Counting:
        total: int | None = None
        done = 0
        lines: list[str] = []

        def task(self, name: str, total: int | None = None, unit: str = "") -> Counting:
            self.total = total
            return self

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None: ...

        def advance(self, amount: int = 1) -> None:
            self.done += amount

        def say(self, line: str) -> None: ...

    progress = Counting()
    fetch(WANTED, store, mirrors(mirror.url), limits=QUICK, progress=progress, jobs=1)  # type: ignore[arg-type]
    assert progress.done == progress.total == sum(map(len, FILES.values()))


def test_entry_is_read_only_and_readable(store: ContentStore) -> None:
    name = put(store, b"hello")
    assert store.path(name).stat().st_mode & 0o777 == 0o444
    assert store.read(name) == store.read_verified(name) == b"hello"
    assert store.has(name, 5)
    assert not store.has(name, 6)


def test_absent_entry_says_what_to_do(store: ContentStore) -> None:
    with pytest.raises(BedplateError) as caught:
        store.open("0" * 64)
    assert caught.value.remedy


def test_gc_keeps_what_is_asked_and_what_is_young(store: ContentStore) -> None:
    kept, young, old = (put(store, data) for data in (b"kept", b"young", b"old"))
    os.utime(store.path(kept), (0, 0))
    os.utime(store.path(old), (0, 0))
    result = store.gc({kept}, older_than=3600)
    assert (result.removed, result.removed_bytes) == (1, 3)
    assert sorted(store.digests()) == sorted([kept, young])


def test_reading_an_entry_marks_it_as_used(store: ContentStore) -> None:
    name = put(store, b"used")
    os.utime(store.path(name), (0, 0))
    store.read(name)
    assert store.gc(older_than=3600).removed == 0


def test_gc_removes_old_unfinished_downloads(store: ContentStore) -> None:
    put(store, b"x")
    fresh, stale = store.partial / "fresh.part", store.partial / "stale.part"
    fresh.write_bytes(b"1")
    stale.write_bytes(b"22")
    os.utime(stale, (0, 0))
    assert store.size().partial_bytes == 3
    store.gc(older_than=3600)
    assert list(store.partial.iterdir()) == [fresh]


def test_empty_store(store: ContentStore) -> None:
    assert store.check() == []
    assert store.size().entries == 0
    assert store.gc().removed == 0
