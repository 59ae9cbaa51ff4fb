"""A package repository over HTTP, for machines on one's own desk: static files, nothing else.

What is served is signed, so a server cannot make anything up; for more than a desk any web server does.
"""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bedplate.model.errors import BadInput

LOOPBACK = "127.0.0.1"


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # dnf asks for hundreds of files: one connection carries them
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the console belongs to the machine."""


class _Server(ThreadingHTTPServer):
    def __init__(self, address: str, port: int, root: Path) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), functools.partial(_Files, directory=str(root)))


@contextmanager
def repository_server(root: Path, address: str = LOOPBACK, port: int = 0) -> Iterator[int]:
    """Serve the files below ``root`` while the ``with`` block runs; gives the port.

    Args:
        root: The repository's directory, the parent of ``STREAM/ARCH``.
        address: Of the interface to listen on.
        port: 0 for one that is free.

    Raises:
        BadInput: ``root`` holds no repository, or the address cannot be listened on.
    """
    if not any(root.glob("*/*/repodata/repomd.xml")):
        raise BadInput("no package repository here", where=str(root), remedy="make one: bedplate packages import NAME")
    try:
        server = _Server(address, port, root)
    except (OSError, OverflowError) as error:
        raise BadInput(f"cannot listen on {address}:{port}: {error}", remedy="give another address or port") from error
    thread = threading.Thread(target=server.serve_forever, name="bedplate-repository", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
