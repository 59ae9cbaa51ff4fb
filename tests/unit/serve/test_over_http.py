"""The service as it runs: its own process, real sockets, stopped and killed."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bedplate.serve.people import Conflict, NotThere
from support.serve_process import Running, served_in


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with served_in(tmp_path_factory.mktemp("served")) as made:
        yield made


def until(check: Any, what: str) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(what)


def test_a_poll_gets_the_signed_bytes_of_the_store(served: Running) -> None:
    node = served.enrol(1)
    answer = served.poll(node, "SHA256SUMS")
    assert answer.content == (served.store.root / "container/1.0.0/SHA256SUMS").read_bytes()
    assert served.poll(node, "SHA256SUMS.gpg").content.endswith(hashlib.sha256(answer.content).digest())
    assert served.poll(node, "SHA256SUMS").headers["cache-control"] == "no-store"


def test_artefacts_whole_in_ranges_and_conditionally(served: Running) -> None:
    node = served.enrol(2)
    served.poll(node, "SHA256SUMS")
    name = "bedplate-container_1.0.0.root.gz"
    whole = (served.store.root / "container/1.0.0" / name).read_bytes()
    answer = served.poll(node, name)
    assert (answer.status_code, answer.content) == (200, whole)
    part = served.poll(node, name, headers={"range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, whole[10:30])
    assert part.headers["content-range"] == f"bytes 10-29/{len(whole)}"
    tail = served.poll(node, name, headers={"range": "bytes=-7"})
    assert tail.content == whole[-7:]
    assert served.poll(node, name, headers={"range": f"bytes={len(whole)}-"}).status_code == 416
    same = served.poll(node, name, headers={"if-none-match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    head = served.http.head(
        node["path"].replace("%m", node["machine"]).replace("%A", "1.0.0").replace("%b", "1" * 32) + name
    )
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole)))


def test_killed_in_the_middle_of_a_rollout_it_goes_on(served: Running) -> None:
    node = served.enrol(3)
    served.poll(node, "SHA256SUMS")
    rollout = served.client.call(
        "POST", "/api/v1/rollouts", {"channel": "stable", "track": "container", "version": "1.1.0", "pace": "urgent"}
    )
    assert b"1.1.0" in served.poll(node, "SHA256SUMS").content
    served.poll(node, "bedplate-container_1.1.0.efi")
    until(lambda: "rebooting" in _stored(served, node["machine"]), "the state was never written")
    assert served.end(signal.SIGKILL) == -signal.SIGKILL
    served.start()
    again = served.client.call("GET", f"/api/v1/rollouts/{rollout['id']}")
    assert again["status"] == "running"
    assert served.client.call("GET", f"/api/v1/nodes/{node['machine']}")["node"]["stage"] == "rebooting"
    served.poll(node, "SHA256SUMS", version="1.1.0")
    assert served.client.call("GET", f"/api/v1/nodes/{node['machine']}")["node"]["stage"] == "healthy"
    until(lambda: _aborted(served, rollout), "never aborted")
    with pytest.raises(Conflict, match="changed since"):
        served.client.call("POST", f"/api/v1/rollouts/{rollout['id']}/pause", {"revision": rollout["revision"]})


def _stored(served: Running, machine: str) -> str:
    """What the database holds of a node's update: the API also shows what is not written yet."""
    with contextlib.closing(sqlite3.connect(served.directory / "fleet.db")) as connection:
        return str(connection.execute("SELECT attempt FROM node WHERE id = ?", (machine,)).fetchone())


def _aborted(served: Running, rollout: dict[str, Any]) -> bool:
    """Abort, unless the roll-out moved on between looking and pressing: then look again."""
    try:
        served.client.call("POST", f"/api/v1/rollouts/{rollout['id']}/abort", {"revision": _revision(served, rollout)})
    except Conflict:
        return False
    return True


def _revision(served: Running, rollout: dict[str, Any]) -> int:
    return int(served.client.call("GET", f"/api/v1/rollouts/{rollout['id']}")["revision"])


def test_stopped_gracefully_everything_is_written(served: Running) -> None:
    nodes = [served.enrol(number) for number in range(10, 20)]
    for node in nodes:
        served.poll(node, "SHA256SUMS")
    assert served.end(signal.SIGTERM) == 0
    served.start()
    for node in nodes:
        assert served.client.call("GET", f"/api/v1/nodes/{node['machine']}")["node"]["version"] == "1.0.0"
    assert b'"message": "stopped"' in (served.directory / "log").read_bytes()
    assert b"bn1_" not in (served.directory / "log").read_bytes().replace("bn1_…".encode(), b"")


def test_an_oversized_head_or_body_is_refused(served: Running) -> None:
    def raw(content: bytes) -> bytes:
        # A server that has refused may hang up while the rest is still on its way to it: the reset is the answer then.
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as one:
            try:
                one.sendall(content)
                return one.recv(4096)
            except (ConnectionResetError, BrokenPipeError):
                return b""

    assert raw(b"GET /v1/poll/ HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 60_000 + b"\r\n\r\n")[:12] in (
        b"HTTP/1.1 431",
        b"HTTP/1.1 400",
        b"",
    )
    head = f"POST /v1/enroll HTTP/1.1\r\nHost: a\r\nContent-Length: {10**9}\r\n\r\n".encode()
    assert raw(head).startswith(b"HTTP/1.1 413")
    whole = b"POST /v1/enroll HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
    assert raw(whole)[:12] in (b"HTTP/1.1 413", b"")
    assert served.http.get("/healthz").status_code == 200
    assert raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100)[:9] in (b"HTTP/1.1 ", b"")
    assert served.http.post("/v1/poll/a").status_code == 405


def test_a_head_that_never_ends_is_cut_off_while_others_are_served(served: Running) -> None:
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=60) for _ in range(50)]
    for one in slow:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow:")
    assert served.http.get("/healthz").status_code == 200
    for one in slow:
        answer = one.recv(100)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
        one.close()


def test_health_metrics_and_the_document(served: Running) -> None:
    node = served.enrol(30)
    served.poll(node, "SHA256SUMS")
    assert served.http.get("/readyz").text == "ready\n"
    assert served.http.get("/healthz").json()["state"] == "well"
    text = served.http.get("/metrics").text
    assert 'bedplate_polls_total{result="listing"}' in text
    assert node["machine"] not in text
    document = served.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    with pytest.raises(NotThere):
        served.client.call("GET", "/api/v1/rollouts/nothing")
