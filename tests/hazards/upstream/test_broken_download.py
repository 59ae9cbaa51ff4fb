"""Downloads from mirrors that stall, lie, hang up or forget, and the kill of a download half-way."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.model.package import Location
from bedplate.upstream.download import FetchReport, MovedOnError, Wanted, fetch
from bedplate.upstream.mirrors import Mirrors
from bedplate.upstream.store import ContentStore
from bedplate.upstream.transport import TransportError
from support.mirror import QUICK, Mirror, answer, cut_off_after, honest, once, serve

BODY = bytes(range(256)) * 4000


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serve({"pool/a.deb": BODY}) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def wanted(path: str = "pool/a.deb", body: bytes = BODY) -> Wanted:
    return Wanted(Location("test", path, hashlib.sha256(body).hexdigest(), len(body)), "stable")


def mirrors(*urls: str, archives: tuple[str, ...] = ()) -> dict[str, Mirrors]:
    return {"test": Mirrors("test", {"main": urls}, {"stable": "main"}, {"main": archives}, {})}


def get(store: ContentStore, *urls: str, archives: tuple[str, ...] = (), jobs: int = 2) -> FetchReport:
    return fetch([wanted()], store, mirrors(*urls, archives=archives), limits=QUICK, jobs=jobs)


def nothing_kept(store: ContentStore) -> bool:
    return not list(store.digests()) and store.size().partial_bytes == 0


def test_body_with_wrong_digest(mirror: Mirror, store: ContentStore) -> None:
    mirror.files["pool/a.deb"] = BODY[:-1] + b"!"
    with pytest.raises(TrustError, match="not the file the index names"):
        get(store, mirror.url)
    assert nothing_kept(store)


def test_body_shorter_than_promised_by_the_index(mirror: Mirror, store: ContentStore) -> None:
    mirror.files["pool/a.deb"] = BODY[:100]
    with pytest.raises(TrustError, match="got 100 bytes"):
        get(store, mirror.url)
    assert nothing_kept(store)


def test_body_without_end_is_cut_off_one_byte_behind_its_size(mirror: Mirror, store: ContentStore) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(content)
                sent += len(content)
        except OSError:
            return  # the client hung up, as it should

    mirror.tricks["pool/a.deb"] = endless
    with pytest.raises(TrustError, match=f"got {len(BODY) + 1} bytes"):
        get(store, mirror.url)
    assert sent < 100 * len(BODY)
    assert nothing_kept(store)


def test_content_length_lies_and_the_rest_is_asked_for(mirror: Mirror, store: ContentStore) -> None:
    mirror.tricks["pool/a.deb"] = once(cut_off_after(1000))
    report = get(store, mirror.url)
    assert store.verify(wanted().location.sha256)
    assert mirror.requests == [("pool/a.deb", ""), ("pool/a.deb", "bytes=1000-")]
    assert report.received_bytes == len(BODY)


def test_network_lost_mid_file_then_resumed_by_the_next_run(mirror: Mirror, store: ContentStore) -> None:
    def honest_until(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        if handler.headers.get("Range"):
            handler.connection.close()
        else:
            cut_off_after(5000)(handler, content)

    mirror.tricks["pool/a.deb"] = honest_until
    with pytest.raises(TransportError) as caught:
        get(store, mirror.url)
    assert "what was received is kept" in caught.value.remedy
    mirror.tricks.clear()
    mirror.requests.clear()
    report = get(store, mirror.url)
    assert mirror.requests == [("pool/a.deb", "bytes=5000-")]
    assert report.received_bytes == len(BODY) - 5000
    assert store.verify(wanted().location.sha256)


def test_file_changed_on_the_mirror_between_two_parts(mirror: Mirror, store: ContentStore) -> None:
    """If-Range makes the server send the whole new file rather than a part that does not fit."""

    def old_version(handler: BaseHTTPRequestHandler, _content: bytes) -> None:
        answer(handler, 200, b"old" * 100, {"Content-Length": str(len(BODY)), "ETag": '"old"'})

    mirror.tricks["pool/a.deb"] = once(old_version)
    get(store, mirror.url)
    assert store.verify(wanted().location.sha256)


def test_part_on_disk_is_of_another_file(mirror: Mirror, store: ContentStore) -> None:
    store.partial.mkdir(parents=True)
    (store.partial / f"{wanted().location.sha256}.part").write_bytes(b"rubbish" * 50)
    get(store, mirror.url)
    assert store.verify(wanted().location.sha256)


def test_part_on_disk_is_longer_than_the_file(mirror: Mirror, store: ContentStore) -> None:
    store.partial.mkdir(parents=True)
    (store.partial / f"{wanted().location.sha256}.part").write_bytes(BODY + b"more")
    get(store, mirror.url)
    assert store.verify(wanted().location.sha256)


def test_mirror_ignores_ranges(mirror: Mirror, store: ContentStore) -> None:
    store.partial.mkdir(parents=True)
    (store.partial / f"{wanted().location.sha256}.part").write_bytes(BODY[:500])
    mirror.tricks["pool/a.deb"] = lambda handler, content: answer(handler, 200, content)
    get(store, mirror.url)
    assert store.verify(wanted().location.sha256)


def test_mirror_sends_another_range_than_asked(mirror: Mirror, store: ContentStore) -> None:
    store.partial.mkdir(parents=True)
    (store.partial / f"{wanted().location.sha256}.part").write_bytes(BODY[:500])

    def shifted(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        if handler.headers.get("Range"):
            answer(handler, 206, content[7:], {"Content-Range": f"bytes 7-{len(content) - 1}/{len(content)}"})
        else:
            honest(handler, content)

    mirror.tricks["pool/a.deb"] = shifted
    get(store, mirror.url)
    assert store.verify(wanted().location.sha256)


def test_stalling_mirror_is_left_for_the_next(mirror: Mirror, store: ContentStore) -> None:
    release = threading.Event()

    def stall(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        release.wait(30)

    with serve({"pool/a.deb": BODY}) as stalling:
        stalling.tricks["pool/a.deb"] = stall
        get(store, stalling.url, mirror.url)
        release.set()
    assert store.verify(wanted().location.sha256)
    assert len(stalling.requests) == QUICK.attempts


def test_dripping_mirror_is_left_for_the_next(mirror: Mirror, store: ContentStore) -> None:
    """It sends often enough never to time out, and would take for ever."""
    release = threading.Event()

    def drip(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        try:
            for byte in content:
                handler.wfile.write(bytes([byte]))
                if release.wait(0.05):
                    return
        except OSError:
            return  # the client had enough

    impatient = dataclasses.replace(QUICK, grace_seconds=0.2, attempts=1)
    with serve({"pool/a.deb": BODY}) as dripping:
        dripping.tricks["pool/a.deb"] = drip
        fetch([wanted()], store, mirrors(dripping.url, mirror.url), limits=impatient)
        release.set()
    assert store.verify(wanted().location.sha256)


def test_server_errors_pass(mirror: Mirror, store: ContentStore) -> None:
    mirror.tricks["pool/a.deb"] = once(lambda handler, _content: answer(handler, 503, b"busy"))
    get(store, mirror.url)
    assert len(mirror.requests) == 2


def test_no_mirror_can_be_reached(store: ContentStore) -> None:
    with serve() as gone:
        dead = gone.url
    with pytest.raises(TransportError) as caught:
        get(store, dead)
    assert dead in str(caught.value)
    assert "--mirror" in caught.value.remedy


def test_locked_versions_have_left_the_mirror(mirror: Mirror, store: ContentStore) -> None:
    """Those that are still there are fetched; the error names all that are not."""
    gone = [wanted(f"pool/{name}.deb", name.encode()) for name in ("zebra", "bear")]
    with pytest.raises(MovedOnError) as caught:
        fetch([wanted(), *gone], store, mirrors(mirror.url), limits=QUICK)
    assert [one.location.path for one in caught.value.gone] == ["pool/bear.deb", "pool/zebra.deb"]
    assert "lock again" in caught.value.remedy
    assert store.has(wanted().location.sha256)


def test_version_that_left_the_mirror_comes_from_the_archive_mirror(mirror: Mirror, store: ContentStore) -> None:
    with serve() as current:
        get(store, current.url, archives=(mirror.url,))
        assert current.paths() == ["pool/a.deb"]
    assert store.verify(wanted().location.sha256)


def test_one_lying_mirror_does_not_stop_an_honest_one(mirror: Mirror, store: ContentStore) -> None:
    with serve({"pool/a.deb": b"evil" * 1000}) as liar:
        get(store, liar.url, mirror.url)
    assert store.verify(wanted().location.sha256)


def test_lock_names_an_upstream_that_is_not_defined(store: ContentStore) -> None:
    with pytest.raises(BadInput, match="no upstream of this definition"):
        fetch([wanted()], store, {}, limits=QUICK)


def test_one_bad_file_of_many_ends_the_run_and_keeps_the_good(mirror: Mirror, store: ContentStore) -> None:
    others = {f"pool/{number}.deb": bytes([number]) * 50_000 for number in range(8)}
    mirror.files.update(others)
    mirror.files["pool/3.deb"] = b"evil"
    everything = [wanted(path, body) for path, body in others.items()]
    with pytest.raises(TrustError, match=r"pool/3\.deb"):
        fetch(everything, store, mirrors(mirror.url), limits=QUICK, jobs=1)
    assert store.check() == []
    mirror.files.update(others)
    fetch(everything, store, mirrors(mirror.url), limits=QUICK)
    assert store.size().entries == len(others)


def test_file_url_of_a_missing_directory(tmp_path: Path, store: ContentStore) -> None:
    with pytest.raises(MovedOnError):
        get(store, (tmp_path / "nowhere").as_uri())


def test_redirect_loop_ends(mirror: Mirror, store: ContentStore) -> None:
    mirror.tricks["pool/a.deb"] = lambda handler, _content: answer(
        handler, 302, b"", {"Location": f"{mirror.url}/pool/a.deb"}
    )
    with pytest.raises(BedplateError, match=r"[Rr]edirect"):
        get(store, mirror.url)


def _fetch_in_process(root: Path, url: str) -> None:
    get(ContentStore(root), url)


def test_two_processes_fill_one_store(mirror: Mirror, store: ContentStore) -> None:
    started = threading.Event()

    def slow(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        started.set()
        honest(handler, content)

    mirror.tricks["pool/a.deb"] = slow
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_fetch_in_process, args=(store.root, mirror.url)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert mirror.paths() == ["pool/a.deb"], "the second process waited for the first one's download"
    assert store.check() == []
    assert store.size().partial_bytes == 0


def test_download_killed_half_way_is_continued(mirror: Mirror, store: ContentStore) -> None:
    half_sent, release = threading.Event(), threading.Event()

    def half(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        answer(handler, 200, content[: len(content) // 2], {"Content-Length": str(len(content))})
        handler.wfile.flush()
        half_sent.set()
        release.wait(30)

    mirror.tricks["pool/a.deb"] = half
    process = multiprocessing.get_context("spawn").Process(target=_fetch_in_process, args=(store.root, mirror.url))
    process.start()
    assert half_sent.wait(30)
    part = store.partial / f"{wanted().location.sha256}.part"
    while not part.exists() or part.stat().st_size < 1000:
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    release.set()
    assert list(store.digests()) == []
    kept = part.stat().st_size
    mirror.tricks.clear()
    mirror.requests.clear()
    get(store, mirror.url)
    assert mirror.requests == [("pool/a.deb", f"bytes={kept}-")]
    assert store.verify(wanted().location.sha256)
