"""The content store when the disk is full, an entry rots, or somebody passes a name that is no digest."""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.model.errors import BedplateError, TrustError
from bedplate.model.package import Location
from bedplate.upstream.disk import disk_errors, write_all
from bedplate.upstream.download import fetch_file
from bedplate.upstream.store import ContentStore
from bedplate.upstream.transport import Transport
from support.mirror import QUICK, serve

BODY = b"content" * 100_000
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def _in_process_with_quota(root: Path, url: str, result: multiprocessing.SimpleQueue[str]) -> None:
    # The kernel's own limit on file size: a write beyond it fails as on a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    store = ContentStore(root)
    try:
        if url:
            location = Location("test", "a.deb", DIGEST, len(BODY))
            with Transport(QUICK) as transport:
                fetch_file(location, [f"{url}/a.deb"], store, transport)
        else:
            store.put_stream([BODY[:50_000], BODY[50_000:]], DIGEST, len(BODY))
    except BedplateError as error:
        result.put(str(error))
    else:
        result.put("stored")


def under_quota(store: ContentStore, url: str = "") -> str:
    spawn = multiprocessing.get_context("spawn")
    result = spawn.SimpleQueue()
    process = spawn.Process(target=_in_process_with_quota, args=(store.root, url, result))
    process.start()
    text: str = result.get()
    process.join(30)
    return text


def test_disk_full_while_storing(store: ContentStore) -> None:
    kept = store.put_stream([b"earlier"], hashlib.sha256(b"earlier").hexdigest(), 7)
    text = under_quota(store)
    assert str(store.root) in text
    assert "what to do: free some space" in text
    assert kept.read_bytes() == b"earlier"
    assert not store.has(DIGEST)
    assert list(store.partial.iterdir()) == []


def test_disk_full_while_downloading_then_continued(store: ContentStore) -> None:
    with serve({"a.deb": BODY}) as mirror:
        assert "free some space" in under_quota(store, mirror.url)
        assert not store.has(DIGEST)
        mirror.requests.clear()
        with Transport(QUICK) as transport:
            fetch_file(Location("test", "a.deb", DIGEST, len(BODY)), [f"{mirror.url}/a.deb"], store, transport)
        assert mirror.requests == [("a.deb", "bytes=100000-")]
    assert store.verify(DIGEST)


def test_disk_full_as_the_kernel_says_it(store: ContentStore) -> None:
    """/dev/full answers every write with ENOSPC."""
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(BedplateError, match="no space left"),
        disk_errors(store.root),
    ):
        write_all(full, b"x")


def test_stream_with_wrong_content_leaves_nothing(store: ContentStore) -> None:
    with pytest.raises(TrustError):
        store.put_stream([BODY[:-1], b"!"], DIGEST, len(BODY))
    assert not store.has(DIGEST)
    assert list(store.partial.iterdir()) == []


def test_stream_longer_than_promised_is_not_read_to_its_end(store: ContentStore) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield BODY

    with pytest.raises(TrustError, match="more than"):
        store.put_stream(endless(), DIGEST, len(BODY))
    assert taken == 2


def test_stream_that_fails_half_way_leaves_nothing(store: ContentStore) -> None:
    def failing() -> Iterator[bytes]:
        yield BODY[:10]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put_stream(failing(), DIGEST, len(BODY))
    assert list(store.partial.iterdir()) == []


def test_rotten_entry_is_found(store: ContentStore) -> None:
    path = store.put_stream([BODY], DIGEST, len(BODY))
    store.put_stream([b"good"], hashlib.sha256(b"good").hexdigest(), 4)
    path.chmod(0o644)
    path.write_bytes(BODY[:-1] + b"?")
    assert store.check() == [DIGEST]
    with pytest.raises(TrustError, match="damaged and was removed"):
        store.read_verified(DIGEST)
    assert not store.has(DIGEST)
    assert store.check() == []


def test_entry_of_wrong_size_counts_as_absent(store: ContentStore) -> None:
    path = store.put_stream([BODY], DIGEST, len(BODY))
    path.chmod(0o644)
    path.write_bytes(BODY[:5])
    assert not store.has(DIGEST, len(BODY))
    store.put_stream([BODY], DIGEST, len(BODY))
    assert store.verify(DIGEST)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 62 + "/x"])
def test_name_that_is_no_digest(store: ContentStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        store.path(name)


def _put(root: Path, bodies: list[bytes]) -> None:
    for body in bodies:
        ContentStore(root).put_stream([body], hashlib.sha256(body).hexdigest(), len(body))


def test_two_processes_store_the_same_entries(store: ContentStore) -> None:
    bodies = [bytes([number]) * 50_000 for number in range(30)]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_put, args=(store.root, order)) for order in (bodies, bodies[::-1])]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert store.check() == []
    assert store.size().entries == len(bodies)
    assert list(store.partial.iterdir()) == []
