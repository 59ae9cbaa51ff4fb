"""The QEMU machine protocol over a :class:`Channel`: one command at a time, events kept.

Source: QEMU's QMP specification (one JSON object a line).
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from bedplate.emulator.channel import Channel
from bedplate.model.errors import BedplateError

_MAX_EVENTS = 1000


class Qmp:
    """A QMP client. Feed it by making it the channel's listener: ``Channel(listener=qmp.feed)``."""

    def __init__(self) -> None:
        self.channel = Channel(self.feed)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self._replies: dict[int, dict[str, Any]] = {}
        self._change = threading.Condition()
        self._number = 0

    def feed(self, data: bytes) -> None:
        """Take bytes from QEMU."""
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        with self._change:
            for line in lines:
                if line.strip():
                    self._take(json.loads(line))
            self._change.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._events = [*self._events, message][-_MAX_EVENTS:]
        elif "id" in message:
            self._replies[message["id"]] = message

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events called ``name`` so far (``RESET``, ``SHUTDOWN``, ``STOP``), oldest first."""
        with self._change:
            return [event for event in self._events if event["event"] == name]

    def execute(self, command: str, seconds: float = 10.0, **arguments: Any) -> Any:
        """Run a command and return its value.

        Raises:
            BedplateError: QEMU refused it or gave no answer in time.
        """
        with self._change:
            self._number += 1
            number = self._number
        request: dict[str, Any] = {"execute": command, "id": number}
        if arguments:
            request["arguments"] = arguments
        self.channel.send(json.dumps(request).encode() + b"\n")
        end = time.monotonic() + seconds
        with self._change:
            while number not in self._replies:
                left = end - time.monotonic()
                if left <= 0 or self.channel.closed:
                    raise BedplateError(f"the emulator did not answer {command!r}")
                self._change.wait(min(left, 1.0))
            reply = self._replies.pop(number)
        if "error" in reply:
            raise BedplateError(f"the emulator refused {command!r}: {reply['error'].get('desc', '')}")
        return reply.get("return")
