"""Answers that stream, through the server's own interface to an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # there for applications to catch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from bedplate.serve.rsgi import Application

SCOPE = SimpleNamespace(
    path="/news", method="GET", headers={}, query_string="", http_version="1.1", scheme="http", client="127.0.0.1:1"
)


class Connection:
    """One whose client is gone after so many pieces."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces
        self.got: list[bytes] = []

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Connection:
        return self

    async def send_bytes(self, data: bytes) -> None:
        if not self.left:
            raise ProtocolClosed
        self.left -= 1
        self.got.append(data)

    async def client_disconnect(self) -> None:
        await asyncio.Event().wait()


def run(connection: Connection, ended: list[bool], fault: Exception | None = None) -> None:
    async def news() -> AsyncIterator[bytes]:
        try:
            for number in range(5):
                if fault is not None and number == 1:
                    raise fault
                yield b"%d" % number
        finally:
            ended.append(True)

    async def answer(request: Request) -> StreamingResponse:
        return StreamingResponse(news())

    people: Any = Starlette(routes=[Route("/news", answer)])
    asyncio.run(Application(None, people).__rsgi__(SCOPE, connection))  # type: ignore[arg-type]  # no poll comes


def test_a_client_that_goes_away_is_no_failure_and_ends_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    connection, ended = Connection(pieces=2), list[bool]()
    with caplog.at_level(logging.INFO, "bedplate.serve"):
        run(connection, ended)
    assert (connection.got, ended, caplog.records) == ([b"0", b"1"], [True], [])


def test_a_stream_that_fails_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bedplate.serve"):
        run(Connection(pieces=9), [], ZeroDivisionError("of the test"))
    assert [record.message for record in caplog.records] == ["a request failed"]
