"""The formats by the name ``--format`` gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bedplate.compose.formats.base import Format
from bedplate.compose.formats.installer import Installer
from bedplate.compose.formats.oci import Oci
from bedplate.compose.formats.qcow2 import Qcow2
from bedplate.compose.formats.raw import Raw
from bedplate.compose.formats.vhd import Vhd
from bedplate.compose.formats.wsl import Wsl
from bedplate.model.errors import BadInput

_ALL: tuple[Format, ...] = (Raw(), Qcow2(), Vhd(), Oci(), Wsl(), Installer())
FORMATS: Mapping[str, Format] = {one.name: one for one in _ALL}


def chosen_formats(names: Sequence[str]) -> list[Format]:
    """The formats of these names, each once, in the registry's order.

    Raises:
        BadInput: unknown names, all of them at once.
    """
    unknown = sorted(set(names) - FORMATS.keys())
    if unknown:
        raise BadInput(
            f"unknown formats: {', '.join(unknown)}", where="--format", remedy=f"choose from {', '.join(FORMATS)}"
        )
    return [one for name, one in FORMATS.items() if name in names]
