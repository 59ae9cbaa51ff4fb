"""The units that have had their preset, for the trigger that gives it to those that come later. Pure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import file_output, output

NAME = "units"
TRIGGERS = "/usr/sbin/bedplate-triggers"
KNOWN = "/var/lib/bedplate/units"
_FOLDER = "/usr/lib/systemd/system"
_KINDS = frozenset({".service", ".socket", ".timer", ".path", ".target", ".mount", ".automount"})


def known_units(paths: Collection[str]) -> StageOutput:
    """One name a line, sorted; nothing for an image without triggers.

    Args:
        paths: Every path of the image.
    """
    if TRIGGERS not in paths:
        return output(NAME)
    found = [PurePosixPath(path) for path in paths]
    names = sorted(path.name for path in found if str(path.parent) == _FOLDER and path.suffix in _KINDS)
    return output(NAME, [file_output(KNOWN, "".join(f"{name}\n" for name in names).encode())])
