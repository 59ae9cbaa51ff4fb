"""Copying ranges of files inside the kernel."""

from __future__ import annotations

import errno
import os

_UNSUPPORTED = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})
_PIECE = 1 << 23


def copy_range(source: int, source_offset: int, target: int, target_offset: int, length: int) -> None:
    """Copy ``length`` bytes between two open files, by copy_file_range(2) where the file systems allow it.

    Raises:
        EOFError: the source ends too early.
        OSError: reading or writing failed, for instance because the disk is full.
    """
    done = 0
    while done < length:
        try:
            copied = os.copy_file_range(
                source, target, min(length - done, 1 << 30), source_offset + done, target_offset + done
            )
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            break
        if not copied:
            raise EOFError("source file ends too early")
        done += copied
    while done < length:
        data = os.pread(source, min(_PIECE, length - done), source_offset + done)
        if not data:
            raise EOFError("source file ends too early")
        view = memoryview(data)
        while view:
            written = os.pwrite(target, view, target_offset + done)
            view = view[written:]
            done += written
