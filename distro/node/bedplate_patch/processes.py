"""Which running programs still use files that are no longer what lies at their path: /proc/PID/maps, proc(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S{4} [0-9a-f]+ \S+ +(\d+) +(/.*)")
_NOT_CODE = ("/dev/", "/memfd:", "/run/", "/tmp/", "/var/", "/SYSV", "/proc/", "/sys/", "/home/", "/root/", "/[aio]")
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Process:
    """A running program: its unit (``nginx.service``), or its session (``session-4.scope``, ``user@0.service``), and
    the files it uses that were replaced."""

    pid: int
    name: str
    unit: str
    files: tuple[str, ...]


def using_replaced(proc: Path = Path("/proc")) -> list[Process]:
    """Processes that map a file which is gone or was replaced. Containers, with roots of their own, are not ours."""

    def stale(process: Path, path: str, inode: int) -> bool:
        try:
            return Path(f"{process}/root{path}").stat().st_ino != inode
        except OSError:
            return True

    return list(_look(proc, stale))


def using_any(paths: Collection[str], proc: Path = Path("/proc")) -> list[Process]:
    """Processes that map one of ``paths`` (absolute): those that replacing them would concern."""
    wanted = set(paths)
    return list(_look(proc, lambda _process, path, _inode: path in wanted))


def _look(proc: Path, concerns: Callable[[Path, str, int], bool]) -> Iterator[Process]:
    try:
        own_root = (proc / "1/root").stat()
    except OSError:
        own_root = None
    for folder in sorted((one for one in proc.iterdir() if one.name.isdigit()), key=lambda one: int(one.name)):
        if int(folder.name) == os.getpid():
            continue
        try:
            root = (folder / "root").stat()
            if own_root is not None and (root.st_ino, root.st_dev) != (own_root.st_ino, own_root.st_dev):
                continue
            text = (folder / "maps").read_bytes().decode("utf-8", "surrogateescape")
            name = (folder / "comm").read_text().strip()
            unit = unit_of((folder / "cgroup").read_text())
        except (OSError, UnicodeDecodeError):
            continue
        seen = set()
        for line in text.split("\n"):
            found = _MAPPING.fullmatch(line)
            if found is None or found[1] == "0":
                continue
            path = found[2].removesuffix(_DELETED)
            if not path.startswith(_NOT_CODE):
                seen.add((path, int(found[1])))
        files = tuple(sorted({path for path, inode in seen if concerns(folder, path, inode)}))
        if files:
            yield Process(int(folder.name), name, unit, files)


def unit_of(cgroup: str) -> str:
    """The unit a process belongs to, from /proc/PID/cgroup: the outermost service of the system, or the session."""
    for line in cgroup.splitlines():
        if not line.startswith("0::"):
            continue
        parts = [part for part in line[3:].split("/") if part]
        for part in parts:
            if part.endswith((".service", ".scope")):
                return part
    return ""
