"""Worker processes that do not outlive the program that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from concurrent.futures import Executor, ProcessPoolExecutor

_PR_SET_PDEATHSIG = 1


def worker_pool(jobs: int) -> Executor:
    """An executor of ``jobs`` processes. A killed parent takes them with it (prctl(2), PR_SET_PDEATHSIG): without that
    they wait for work for ever and keep the caller's pipes open."""
    return ProcessPoolExecutor(max(1, jobs), initializer=_die_with_parent, initargs=(os.getpid(),))


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was killed before the line above
        os._exit(1)
