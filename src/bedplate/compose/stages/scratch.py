"""Where a stage's files lie while it runs: in memory when there is room, else on the disk of the cache.

Stages write thousands of small files that live for seconds, and libsemanage syncs the whole file system it writes to
(syncfs(2)): on a disk that others write to, that wait is longer than the work.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Where glibc and the FHS want shared memory: a tmpfs on every Linux system, if sometimes a small one.
MEMORY = Path("/dev/shm")
# What the largest stage takes (all kernel modules, unpacked), several times over.
ROOM = 2 << 30
_PREFIX = "bedplate-stage-"
# Younger than this, a directory without a lock may be one whose maker has not come to locking it.
_SETTLED = 60.0


@contextmanager
def scratch(name: str, disk: Path, memory: Path = MEMORY, room: int = ROOM) -> Iterator[Path]:
    """An empty directory for one run of the stage ``name``, gone afterwards.

    Args:
        disk: Where it lies when ``memory`` has less than ``room`` bytes to give; made when it is not there.
    """
    place = memory if _fits(memory, room) else disk
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-", dir=place))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _fits(memory: Path, room: int) -> bool:
    """Whether the file system has ``room`` bytes and the machine has them too: a tmpfs promises more than there is."""
    try:
        file_system = os.statvfs(memory)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    return os.access(memory, os.W_OK) and min(file_system.f_bavail * file_system.f_frsize, available) >= room


def _sweep(place: Path) -> None:
    """Remove what a run that was killed left: nobody holds its lock any more."""
    for folder in place.glob(f"{_PREFIX}*"):
        try:
            status = folder.lstat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _SETTLED:
                continue
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # another run removed it
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # at work
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
