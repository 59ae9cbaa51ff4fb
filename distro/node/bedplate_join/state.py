"""What was asked for and how far it got: small files below ``/var/lib/bedplate-join``, readable by root only."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from bedplate_join.directive import Request, parse_join
from bedplate_join.errors import BadInput, JoinError

STORE = Path("/var/lib/bedplate-join")
# A try a minute at first, then one in a quarter of an hour, for about a day. Ticks are counted, not read off a clock
# that may jump.
QUICK_TICKS = 15
SLOW_EVERY = 15
LAST_TICK = 24 * 60


class Step(StrEnum):
    """How far a join is."""

    NONE = "none"
    WAITING = "waiting"
    JOINED = "joined"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class State:
    """``ticks`` counts the minutes a join has waited, ``tries`` how often it was tried."""

    step: Step = Step.NONE
    domain: str = ""
    message: str = ""
    remedy: str = ""
    ticks: int = 0
    tries: int = 0

    @property
    def due(self) -> bool:
        """Whether a try is due at this tick."""
        return self.ticks <= QUICK_TICKS or self.ticks % SLOW_EVERY == 0

    @property
    def over(self) -> bool:
        """Whether it has been tried for long enough."""
        return self.ticks >= LAST_TICK


class Store:
    """The files. One process at a time holds them."""

    def __init__(self, root: Path = STORE) -> None:
        self._root = root
        self._request = root / "request.json"
        self._state = root / "state.json"
        # The timer's condition.
        self._waiting = root / "waiting"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else joins or leaves meanwhile.

        Raises:
            JoinError: somebody does.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._root / "lock").open("w") as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise JoinError(
                    "another bedplate-join is at work", remedy="wait for it; see: bedplate-join status"
                ) from error
            yield

    @property
    def request(self) -> Request | None:
        """What was asked for last, None when nothing was."""
        try:
            return parse_join(json.loads(self._request.read_text()), needs_password=False)
        except FileNotFoundError:
            return None
        except (ValueError, BadInput) as error:
            raise JoinError(
                f"{self._request}: damaged: {error}", remedy="remove it, then run: bedplate-join join --help"
            ) from error

    def keep(self, request: Request) -> None:
        """Remember what was asked for."""
        self._write(self._request, json.dumps(request.as_json(), indent=1))

    @property
    def state(self) -> State:
        """How far it got."""
        try:
            values = json.loads(self._state.read_text())
            return State(**{**values, "step": Step(values["step"])})
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError, KeyError) as error:
            raise JoinError(f"{self._state}: damaged: {error}", remedy="remove it") from error

    def note(self, state: State) -> None:
        """Remember how far it got."""
        self._write(self._state, json.dumps(asdict(state), indent=1))
        if state.step is Step.WAITING:
            self._waiting.touch()
        else:
            self._waiting.unlink(missing_ok=True)

    def forget(self) -> None:
        """Nothing was asked for."""
        self._request.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        self._waiting.unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(path, text, 0o600)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace ``path``: it is old or new, never half."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text if text.endswith("\n") else text + "\n")
        stream.flush()
        os.fsync(descriptor)
    beside.rename(path)
