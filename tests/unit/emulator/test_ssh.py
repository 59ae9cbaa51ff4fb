"""When a machine can be reached: servers that greet late, that nobody stands behind, that end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedplate.emulator import ssh
from bedplate.emulator.machine import Machine
from bedplate.emulator.ssh import SshAccess, wait_until_reachable

LONG = 300.0


class _Alive(Machine):
    """A machine that runs until it is told not to."""

    def __init__(self) -> None:
        self.end = threading.Event()

    @property
    def running(self) -> bool:
        return not self.end.is_set()

    def wait(self, seconds: float) -> int | None:
        return 0 if self.end.wait(min(seconds, 0.01)) else None


@contextmanager
def _server(serve: Callable[[socket.socket], None]) -> Iterator[SshAccess]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield SshAccess(server.getsockname()[1], Path("key"))
        thread.join(LONG)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try comes soon."""
    monkeypatch.setattr(ssh, "_TRY_SECONDS", 0.05)


def test_a_server_that_greets_late_is_waited_for_on_the_connection_it_greets() -> None:
    def serve(server: socket.socket) -> None:
        # The first connection is greeted when a second one is there already, which is never greeted.
        first, _ = server.accept()
        second, _ = server.accept()
        with first, second:
            first.sendall(b"SSH-2.0-late\r\n")

    with _server(serve) as access:
        assert wait_until_reachable(_Alive(), access, LONG)


def test_a_connection_that_ends_or_says_something_else_is_no_greeting() -> None:
    def serve(server: socket.socket) -> None:
        for words in (b"", b"Not allowed at this time\r\n", b"SSH-2.0-there\r\n"):
            connection, _ = server.accept()
            with connection:
                connection.sendall(words)

    with _server(serve) as access:
        assert wait_until_reachable(_Alive(), access, LONG)


def test_a_machine_that_ends_is_not_waited_for() -> None:
    machine = _Alive()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            machine.end.set()

    with _server(serve) as access:
        assert not wait_until_reachable(machine, access, LONG)
