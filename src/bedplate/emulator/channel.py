"""Byte channels between a machine and us: connected sockets, read by one thread, waited on by condition."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable

Listener = Callable[[bytes], None]

# What is kept of a channel. A guest may write for ever; memory may not grow with it.
_KEEP = 4 << 20

# Everything a terminal would act on: CSI, OSC and other escape sequences, then any control character left over.
_ESCAPES = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]", re.DOTALL
)


def plain_text(data: bytes) -> str:
    """Console output as text that is safe to show: no escape sequences, no control characters but newline and tab."""
    text = _ESCAPES.sub(b"", data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).decode("utf-8", errors="replace")
    # C1 controls are two bytes in UTF-8, so they only show after decoding.
    return "".join(char for char in text if char in "\n\t" or not 0x7F <= ord(char) < 0xA0)


def last_lines(data: bytes, count: int) -> list[str]:
    """The last ``count`` lines of console output that are not empty, as :func:`plain_text`, 200 characters each."""
    lines = [line.rstrip()[:200] for line in plain_text(data[-65536:]).split("\n")]
    return [line for line in lines if line.strip()][-count:]


class Channel:
    """One channel. ``remote`` is the socket the other process inherits; close it once that has started."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.local, self.remote = socket.socketpair()
        self.closed = False
        self._listener = listener
        self._data = bytearray()
        self._dropped = 0
        self._change = threading.Condition()

    def feed(self, data: bytes) -> None:
        """Take what was read; empty means the other side is gone."""
        with self._change:
            if data:
                self._data += data
                excess = len(self._data) - _KEEP
                if excess > 0:
                    del self._data[:excess]
                    self._dropped += excess
            else:
                self.closed = True
            self._change.notify_all()
        if data and self._listener is not None:
            self._listener(data)

    @property
    def data(self) -> bytes:
        """What was received, at most the last 4 MiB."""
        with self._change:
            return bytes(self._data)

    def wait_for(self, pattern: re.Pattern[bytes], seconds: float) -> re.Match[bytes] | None:
        """Wait until ``pattern`` is found; None when ``seconds`` passed or the channel closed without it."""
        end = time.monotonic() + seconds
        with self._change:
            while True:
                found = pattern.search(bytes(self._data))
                left = end - time.monotonic()
                if found or self.closed or left <= 0:
                    return found
                self._change.wait(left)

    def send(self, data: bytes) -> None:
        """Write to the other side; nothing happens when it is gone."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
            self.local.sendall(data)


class Pump:
    """Reads channels in a thread until all are closed."""

    def __init__(self, channels: list[Channel]) -> None:
        self._channels = channels
        self._thread = threading.Thread(target=self._run, name="bedplate-channels", daemon=True)

    def start(self) -> None:
        """Begin reading."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until everything the other side wrote before it went is read."""
        self._thread.join(seconds)
        for channel in self._channels:
            channel.local.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for channel in self._channels:
                selector.register(channel.local, selectors.EVENT_READ, channel)
            while selector.get_map():
                for key, _ in selector.select():
                    channel = key.data
                    try:
                        data = channel.local.recv(65536)
                    except OSError:
                        data = b""
                    channel.feed(data)
                    if not data:
                        selector.unregister(channel.local)
