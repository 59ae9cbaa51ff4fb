"""What the audit log says since it was last read, over its rotations. Runs in the guest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO

_DENIED = re.compile(r"avc: +(denied.*)")
_UNCOMPUTED = re.compile(r"type=SELINUX_ERR .*?: (.*)")


class AuditLog:
    """Reads on from where it was. auditd renames ``audit.log`` to ``audit.log.1`` and so on, and drops the oldest: the
    file that was read last is kept open, so that no new one has its inode."""

    def __init__(self, path: Path = Path("/var/log/audit/audit.log")) -> None:
        self.path = path
        self.stream: IO[bytes] = path.open("rb")
        self.stream.seek(0, os.SEEK_END)

    def new(self) -> tuple[list[str], bool]:
        """Lines that were added, oldest first, and whether some had gone before they were read."""
        newer, known = self._newer()
        lines = self._rest()
        for stream in newer:
            self.stream.close()
            self.stream = stream
            lines += self._rest()
        return lines, not known

    def _rest(self) -> list[str]:
        data = self.stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.stream.seek(len(whole) - len(data), os.SEEK_CUR)  # half a line is left for the next time
        return whole.decode(errors="replace").splitlines()

    def _newer(self) -> tuple[list[IO[bytes]], bool]:
        """Files begun after the one that is open, oldest first, and whether that one is among the log's still. From the
        newest to the oldest: a rotation meanwhile shows a file twice, and hides none."""
        found: dict[tuple[int, int], IO[bytes]] = {}
        for path in [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, 1000))]:
            try:
                stream = path.open("rb")
            except FileNotFoundError:
                break
            if _inode(stream) == _inode(self.stream):
                stream.close()
                return list(found.values())[::-1], True
            if found.setdefault(_inode(stream), stream) is not stream:
                stream.close()
        return list(found.values())[::-1], False


def denials(lines: Iterable[str]) -> list[str]:
    """What SELinux denied or could not work out, each once."""
    found = (_DENIED.search(line) or _UNCOMPUTED.match(line) for line in lines)
    return sorted({match[1].strip() for match in found if match})


def _inode(stream: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino
