"""A mirror on the loopback interface that can be told to misbehave, and signed archives to put on it."""

from __future__ import annotations

import hashlib
import lzma
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import pysequoia

from bedplate.model.definition.distro import MirrorKind, Suite, Upstream
from bedplate.upstream.index import IndexContext
from bedplate.upstream.mirrors import Mirrors
from bedplate.upstream.store import ContentStore
from bedplate.upstream.transport import Limits

QUICK = Limits(connect_seconds=2.0, read_seconds=0.5, attempts=2, backoff_seconds=0.01)

Misbehaviour = Callable[[BaseHTTPRequestHandler, bytes], None]
"""Answers a request in its own way; gets the handler and the true content."""


@dataclass
class Mirror:
    """What the server serves: path -> content, and how it misbehaves: path -> what to do instead.

    ``requests`` are the (path, Range header) pairs received.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    tricks: dict[str, Misbehaviour] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@contextmanager
def serve(files: Mapping[str, bytes] | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Mirror]:
    """A running mirror; https when there is a TLS context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            wanted = self.headers.get("Range", "")
            mirror.requests.append((path, wanted))
            content = mirror.files.get(path)
            if path in mirror.tricks:
                self.close_connection = True
                mirror.tricks[path](self, content or b"")
            elif content is None:
                answer(self, 404, b"no such file")
            else:
                honest(self, content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    scheme = "https" if tls is not None else "http"
    mirror = Mirror(f"{scheme}://127.0.0.1:{server.server_port}", dict(files or {}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        # A proxy set for the outer world must not come between a test and its own mirror.
        with patch.dict(os.environ, {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}):
            yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """A plain answer; ``headers`` may override the length."""
    handler.send_response(code)
    if handler.close_connection:
        handler.send_header("Connection", "close")
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def honest(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """What a good server does, byte ranges and If-Range included."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range", etag) == etag:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            answer(handler, 416, b"")
            return
        extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", "ETag": etag}
        answer(handler, 206, content[start:], extra)
        return
    answer(handler, 200, content, {"ETag": etag})


def cut_off_after(count: int) -> Misbehaviour:
    """Promise everything, send ``count`` bytes, hang up."""

    def trick(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        answer(handler, 200, content[:count], {"Content-Length": str(len(content))})

    return trick


def once(trick: Misbehaviour) -> Misbehaviour:
    """Misbehave the first time only."""
    done = threading.Event()

    def act(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        if done.is_set():
            honest(handler, content)
        else:
            done.set()
            trick(handler, content)

    return act


def new_key(user: str = "Archive <archive@example.org>", **options: object) -> pysequoia.Tsk:
    """A fresh signing key."""
    return pysequoia.Tsk.generate(user, **options)


@dataclass
class Package:
    """A stanza of a Packages file; ``fields`` are further lines."""

    name: str
    version: str = "1.0-1"
    arch: str = "amd64"
    content: bytes = b""
    fields: str = ""

    @property
    def path(self) -> str:
        return f"pool/main/{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"

    @property
    def body(self) -> bytes:
        return self.content or f"{self.name} {self.version}".encode() * 100

    def stanza(self) -> str:
        digest = hashlib.sha256(self.body).hexdigest()
        return (
            f"Package: {self.name}\nVersion: {self.version}\nArchitecture: {self.arch}\n{self.fields}"
            f"Filename: {self.path}\nSize: {len(self.body)}\nSHA256: {digest}\n"
        )


@dataclass
class DebianArchive:
    """One suite of a Debian archive, signed by ``key``, to be put on a mirror below ``root``."""

    key: pysequoia.Tsk
    suite: str = "stable"
    root: str = "debian"
    packages: list[Package] = field(default_factory=lambda: [Package("hello"), Package("world")])
    date: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(hours=1))
    valid_until: datetime | None = None
    codename: str = ""

    def packages_text(self) -> bytes:
        return "\n".join(package.stanza() for package in self.packages).encode()

    def release(self, index: bytes, packed: bytes) -> bytes:
        """The Release file for these Packages contents."""
        stamp = "%a, %d %b %Y %H:%M:%S UTC"
        lines = [
            "Origin: Test",
            f"Suite: {self.suite}",
            f"Codename: {self.codename or self.suite}",
            f"Date: {self.date.strftime(stamp)}",
            *([f"Valid-Until: {self.valid_until.strftime(stamp)}"] if self.valid_until else []),
            "Acquire-By-Hash: yes",
            "Architectures: amd64",
            "Components: main",
            "SHA256:",
            f" {hashlib.sha256(index).hexdigest()} {len(index):>8} main/binary-amd64/Packages",
            f" {hashlib.sha256(packed).hexdigest()} {len(packed):>8} main/binary-amd64/Packages.xz",
        ]
        return "\n".join(lines).encode() + b"\n"

    def clearsign(self, text: bytes) -> bytes:
        return pysequoia.sign(self.key.signer(), text, mode=pysequoia.SignatureMode.CLEAR)

    def files(self) -> dict[str, bytes]:
        """Everything a mirror serves."""
        index = self.packages_text()
        packed = lzma.compress(index)
        dists = f"{self.root}/dists/{self.suite}"
        by_hash = f"{dists}/main/binary-amd64/by-hash/SHA256/{hashlib.sha256(packed).hexdigest()}"
        return {
            f"{dists}/InRelease": self.clearsign(self.release(index, packed)),
            f"{dists}/main/binary-amd64/Packages.xz": packed,
            by_hash: packed,
            **{f"{self.root}/{package.path}": package.body for package in self.packages},
        }


def definition(*suites: str, fingerprints: list[str], format: str = "deb", **suite_options: object) -> Upstream:
    """An upstream with the suites named, pinned to ``fingerprints`` in ``keys.asc``."""
    return Upstream(
        id="test",
        format=format,
        arch="amd64" if format == "deb" else "x86_64",
        mirrors={"main": MirrorKind(apt_suites=["stable"], path="debian")},
        suites=[
            Suite(name=name, mirror="main", keys=["keys.asc"], fingerprints=fingerprints, **suite_options)
            for name in suites
        ],
    )


def fingerprint(key: pysequoia.Tsk) -> str:
    return str(key.extract_certificate().fingerprint)


def context(
    tmp_path: Path, urls: list[str], *keys: pysequoia.Tsk | pysequoia.Cert, suites: tuple[str, ...] = ("stable",)
) -> IndexContext:
    """Everything an index needs, below ``tmp_path``; ``urls`` are mirror bases."""
    directory = tmp_path / "keys"
    directory.mkdir(exist_ok=True)
    certs = [key if isinstance(key, pysequoia.Cert) else key.extract_certificate() for key in keys]
    (directory / "keys.asc").write_bytes(b"".join(bytes(cert) for cert in certs))
    mirrors = Mirrors("test", {"main": tuple(urls)}, dict.fromkeys(suites, "main"), {}, {"main": "the test"})
    return IndexContext(mirrors, directory, ContentStore(tmp_path / "store"), tmp_path / "state", limits=QUICK)
