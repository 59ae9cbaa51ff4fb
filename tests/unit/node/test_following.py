"""bedplate-follow: signed listings, judged by gpgv, from a real server; the way of a release, cut off at every step."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bedplate.toolchain.run import Toolbox
from bedplate.trust.keys import KeyStore
from bedplate_follow.following import Follower, Outcome
from bedplate_follow.memory import Pin, Store
from bedplate_follow.offers import Offer, Unbelievable, order, read_listing, read_snapshot, refusal
from bedplate_follow.service import Machine, Service, address, check_signature
from bedplate_patch.errors import BadInput, Exit, NotStarted, PatchError
from support.services import services  # noqa: F401

IMAGE = {"IMAGE_ID": "bedplate-server", "IMAGE_VERSION": "1.0.1"}
MACHINE = Machine("a" * 32, "b" * 32)
NOW = 1_790_000_000.0


def snapshot(version: str, **more: Any) -> bytes:
    data = {
        "format": 1,
        "track": "server",
        "version": version,
        "expires": int(NOW) + 86400,
        "stream": "1",
        "state": f"20261121T101112Z-{version.replace('.', '')}",
        "repomd_sha256": hashlib.sha256(version.encode()).hexdigest(),
    }
    return json.dumps({**data, **more}).encode()


def listing(version: str, content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()} *bedplate-server_{version}.snapshot\n".encode()


class Shop:
    """What a service offers; it notes what it was asked as."""

    def __init__(self) -> None:
        self.version = "1.0.1"
        self.content = snapshot("1.0.1")
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.gone = False

    def offer(self, version: str, **more: Any) -> None:
        self.version, self.content = version, snapshot(version, **more)

    def __call__(self, version: str, failed: tuple[str, ...]) -> Shop:
        if self.gone:
            raise NotStarted("the update service cannot be asked")
        self.asked.append((version, failed))
        return self

    def listing(self) -> bytes:
        return listing(self.version, self.content)

    def fetch(self, name: str, limit: int) -> bytes:
        assert name == f"bedplate-server_{self.version}.snapshot" and len(self.content) < limit
        return self.content


class Cut(Exception):
    """Power is lost."""


@dataclass
class Patch:
    """bedplate-patch: what it will answer, and whether power is lost while it runs."""

    code: int = 0
    cut: str = ""
    reports: list[dict[str, Any]] = field(default_factory=list)
    under_way: dict[str, Any] | None = None
    pinned: list[Pin | None] = field(default_factory=list)
    store: Store | None = None

    def apply(self) -> tuple[int, dict[str, Any]]:
        assert self.store is not None
        self.pinned.append(self.store.pin())
        if self.cut == "before":
            raise Cut
        words = {0: "done", 1: "rolled-back", 3: "reboot-needed", 4: "not-started", 5: "needs-a-person"}
        report = {
            "id": f"patch-{len(self.reports)}",
            "outcome": words.get(self.code, "bad-input"),
            "message": "so it is",
        }
        if self.code in (0, 1, 3, 5):
            self.reports.append(report)
        if self.code == 3:
            self.under_way = {"state": "applied"}
        if self.cut == "after":
            raise Cut
        return self.code, report

    def status(self) -> dict[str, Any]:
        return {"under_way": self.under_way, "last": self.reports[-1] if self.reports else None}


@dataclass
class Bench:
    store: Store
    shop: Shop = field(default_factory=Shop)
    patch: Patch = field(default_factory=Patch)
    os_release: dict[str, str] = field(default_factory=lambda: dict(IMAGE))

    def run(self) -> Outcome:
        self.patch.store = self.store
        return self.follower().run()

    def follower(self) -> Follower:
        return Follower(self.store, self.patch, self.shop, self.os_release, lambda: NOW)

    @property
    def pinned(self) -> str:
        pin = self.store.pin()
        return pin.version if pin is not None else ""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Store(tmp_path / "follow"))


def test_it_moves_to_exactly_the_offered_state_and_says_so(bench: Bench) -> None:
    assert bench.run() == Outcome(Exit.DONE, "1.0.1", "", "1.0.1 is the newest release for this machine")
    assert not bench.patch.pinned
    bench.shop.offer("1.0.2")
    assert bench.run() == Outcome(Exit.DONE, "1.0.2", "1.0.2", "1.0.2 runs")
    assert bench.patch.pinned == [
        Pin("1.0.2", "20261121T101112Z-102", hashlib.sha256(b"1.0.2").hexdigest()),
    ]
    assert bench.pinned == "1.0.2"
    # The poll after it names what runs now: that is the report.
    assert [version for version, _ in bench.shop.asked] == ["1.0.1", "1.0.1", "1.0.2"]
    # An upgraded os-release names no image any more.
    bench.os_release.clear()
    assert bench.run().version == "1.0.2"


@pytest.mark.parametrize("code", [1, 5])
def test_taken_back_it_is_told_and_never_tried_again(bench: Bench, code: int) -> None:
    bench.shop.offer("1.0.2")
    bench.run()
    bench.shop.offer("1.0.3")
    bench.patch.code = code
    outcome = bench.run()
    assert (outcome.code, outcome.version, outcome.failed) == (code, "1.0.2", ("1.0.3",))
    assert bench.pinned == "1.0.2"
    assert bench.shop.asked[-1] == ("1.0.2", ("1.0.3",))
    assert "not tried again" in bench.run().message
    assert len(bench.patch.pinned) == 2
    bench.patch.code = 0
    bench.shop.offer("1.0.4")
    assert bench.run().version == "1.0.4"


def test_not_begun_it_is_asked_again(bench: Bench) -> None:
    bench.shop.offer("1.0.2")
    bench.patch.code = 4
    outcome = bench.run()
    assert (outcome.code, outcome.version, outcome.failed) == (Exit.NOT_STARTED, "1.0.1", ())
    assert bench.pinned == ""
    # Withdrawn meanwhile: nothing of it is left.
    bench.shop.offer("1.0.1")
    bench.patch.code = 0
    assert bench.run().offered == ""
    bench.shop.offer("1.0.2")
    assert bench.run().version == "1.0.2"


@pytest.mark.parametrize(("after", "version", "failed"), [("done", "1.0.2", ()), ("rolled-back", "1.0.1", ("1.0.2",))])
def test_a_reboot_decides(bench: Bench, after: str, version: str, failed: tuple[str, ...]) -> None:
    bench.shop.offer("1.0.2")
    bench.patch.code = 3
    assert bench.run().code == Exit.REBOOT_NEEDED
    waiting = bench.run()
    assert (waiting.code, waiting.version) == (Exit.REBOOT_NEEDED, "1.0.1")
    # Until a boot went well the old release is what runs, and the service hears just that.
    assert bench.shop.asked[-1] == ("1.0.1", ())
    assert len(bench.patch.pinned) == 1
    with pytest.raises(NotStarted):
        bench.follower().leave()
    bench.patch.under_way = None
    bench.patch.reports[-1]["outcome"] = after
    outcome = bench.run()
    assert (outcome.version, outcome.failed) == (version, failed)
    assert bench.pinned == ("1.0.2" if after == "done" else "")


@pytest.mark.parametrize(
    ("cut", "code", "version", "failed"),
    [
        ("before", 0, "1.0.1", ()),
        ("after", 0, "1.0.2", ()),
        ("after", 1, "1.0.1", ("1.0.2",)),
        ("after", 4, "1.0.1", ()),
    ],
)
def test_power_lost_while_it_patches(bench: Bench, cut: str, code: int, version: str, failed: tuple[str, ...]) -> None:
    bench.run()
    bench.shop.offer("1.0.2")
    bench.patch.cut, bench.patch.code = cut, code
    with pytest.raises(Cut):
        bench.run()
    bench.shop.gone = True
    with pytest.raises(NotStarted):
        bench.run()
    memory = bench.store.read()
    assert memory is not None
    assert (memory.version, memory.failed, memory.pending) == (version, failed, None)
    assert bench.pinned == ("1.0.2" if version == "1.0.2" else "")


def test_nothing_that_cannot_be_right_is_followed(bench: Bench) -> None:
    bench.shop.offer("1.0.2", track="container")
    with pytest.raises(PatchError, match="cannot be right"):
        bench.run()
    bench.shop.offer("1.0.2", expires=int(NOW))
    with pytest.raises(NotStarted, match="expired"):
        bench.run()
    for state in ("../../elsewhere", "a/b", "", ".."):
        bench.shop.offer("1.0.2", state=state)
        with pytest.raises(PatchError, match="no state"):
            bench.run()
    assert not bench.patch.pinned and bench.pinned == ""


def test_an_older_release_is_no_offer() -> None:
    offer = Offer("1.0.9", "n", "d")
    assert refusal(offer, "1.0.10", ()) and refusal(offer, "1.0.9", ())
    assert refusal(offer, "1.0.8", ("1.0.9",))
    assert not refusal(offer, "1.0.8", ("1.0.7",)) and not refusal(offer, "strange", ())
    assert order("1.0.10") > order("1.0.9") > order("1.0") > order("x")


@pytest.mark.parametrize(
    "content",
    [b"x\n", b"a" * 64 + b" *../x\n", listing("1.0", b"a") + listing("1.1", b"b"), listing("01.0", b"a"), b"\xff\n"],
)
def test_a_listing_that_is_none(content: bytes) -> None:
    with pytest.raises(Unbelievable):
        read_listing(content, "bedplate-server")


def test_a_listing_without_a_state_and_a_file_that_was_not_signed() -> None:
    other = f"{'0' * 64} *bedplate-container_1.0.efi\n".encode()
    assert read_listing(other, "bedplate-server") is None
    offer = read_listing(other + listing("1.1", b"{}"), "bedplate-server")
    assert offer is not None and offer.version == "1.1"
    for content in (b"{} ", b"[]", b"[" * 9000):
        with pytest.raises(Unbelievable):
            read_snapshot(content, offer, "server")


def test_damaged_memory_and_leaving(bench: Bench) -> None:
    bench.shop.offer("1.0.2")
    bench.run()
    assert bench.follower().leave().code == Exit.DONE
    assert bench.store.pin() is None
    for name in ("memory.json", "pin.json"):
        for content in (b"", b"[]", b'{"format": 7}', b'{"version": 1}'):
            (bench.store.root / name).write_bytes(content)
            with pytest.raises(PatchError, match="damaged"):
                bench.store.read() if name == "memory.json" else bench.store.pin()


def test_a_system_that_does_not_say_what_it_is(bench: Bench) -> None:
    bench.os_release.clear()
    with pytest.raises(BadInput, match="IMAGE_ID"):
        bench.run()


def test_the_address() -> None:
    where = address("https://u.example/v1/poll/server/auto/%m/bn1_x/%A/%b", MACHINE, "1.0.1")
    assert where == f"https://u.example/v1/poll/server/auto/{'a' * 32}/bn1_x/1.0.1/{'b' * 32}/"
    for wrong in ("ftp://x/", "https://x/%q", "https://x/ y", ""):
        with pytest.raises(BadInput):
            address(wrong, MACHINE, "1")


class _Handler(SimpleHTTPRequestHandler):
    queries: list[str] = []

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.queries.append(query)
        self.path = path
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read what they assert."""


@contextlib.contextmanager
def served(root: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.tools
def test_signatures_by_gpgv(tmp_path: Path, services: Toolbox) -> None:  # noqa: F811
    ours, theirs = KeyStore(tmp_path / "ours"), KeyStore(tmp_path / "theirs")
    for store in (ours, theirs):
        store.ensure("update")
    keyring = tmp_path / "keys.gpg"
    keyring.write_bytes(ours.keyring("update"))
    gpgv = services.command("gpgv", [])
    content = listing("1.0.2", snapshot("1.0.2"))
    good = ours.signer("update").sign(content)
    check_signature(content, good, keyring, gpgv)
    cases = {
        "another_key": (content, theirs.signer("update").sign(content)),
        "edited": (content.replace(b"1.0.2", b"1.0.3"), good),
        "no_signature": (content, b""),
        "not_one": (content, b"signature of " + content),
        "cut_short": (content, good[:-10]),
    }
    for case, (said, signature) in cases.items():
        with pytest.raises(PatchError, match="not signed by a key of this system"):
            check_signature(said, signature, keyring, gpgv)
            pytest.fail(case)
    with pytest.raises(PatchError):
        check_signature(content, good, tmp_path / "missing.gpg", gpgv)
    with pytest.raises(PatchError):
        check_signature(content, good, keyring, ["/nowhere/gpgv"])


def test_downloads_have_limits_and_failures_are_told(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_bytes(b"x" * 100)
    with served(tmp_path) as base:
        service = Service(base, tmp_path, ("1.0.2", "1.0.3"))
        assert service.fetch("SHA256SUMS", 100) == b"x" * 100
        assert _Handler.queries[-1] == "failed=1.0.2%2C1.0.3"
        with pytest.raises(NotStarted, match="larger"):
            service.fetch("SHA256SUMS", 99)
        with pytest.raises(NotStarted, match="404") as caught:
            service.fetch("nothing", 10)
        assert "\n" not in caught.value.message and len(caught.value.message) < 200
        assert _Handler.queries[-1] == ""
    with pytest.raises(NotStarted, match="cannot be asked"):
        service.fetch("SHA256SUMS", 100)
