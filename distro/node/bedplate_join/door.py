"""The one door to external programs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended: ``code`` is its exit status (124: its time was over, 127: it could not be started), ``text``
    what it wrote to both outputs."""

    code: int
    text: str


def run(command: Sequence[str], *, seconds: float, text: str = "") -> Completed:
    """Run ``command`` for at most ``seconds`` with ``text`` on its standard input; then it and all it started are
    killed. It never raises for a program that fails: the status tells."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
    except OSError as error:
        return Completed(127, f"{command[0]}: {error.strerror}")
    try:
        output, _ = process.communicate(text.encode(), timeout=seconds)
        return Completed(process.returncode, output.decode("utf-8", "replace"))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Completed(124, output.decode("utf-8", "replace") + f"\nnot done after {seconds:.0f} s")


Runner = Callable[..., Completed]
