"""The disk image itself, which every build has."""

from __future__ import annotations

from pathlib import Path

from bedplate.compose.formats.base import FormatJob, Origin


class Raw:
    """See :class:`bedplate.compose.formats.base.Format`."""

    name = "raw"
    title = "raw disk image"
    file = "disk.raw"
    origin = Origin.DISK
    owned_set = ""
    revision = 1

    def write(self, job: FormatJob, target: Path) -> None:
        """Nothing is to be done: the build has left it."""
