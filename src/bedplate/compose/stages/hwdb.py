"""The hardware database, compiled: systemd-hwdb(8)."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, file_output, output

_COMPILED = "/usr/lib/udev/hwdb.bin"


@dataclass(frozen=True, slots=True)
class Hwdb:
    """Compile what is left of hwdb.d."""

    name: str = "hwdb"
    revision: int = 1
    inputs: tuple[str, ...] = ("/usr/lib/udev/hwdb.d", "/etc/udev/hwdb.d")
    parameters: object = None

    def run(self, staged: Staged) -> StageOutput:
        """hwdb.bin. The compiler stores the path of each source: below the working directory it is always the same."""
        staged.toolbox.run("systemd-hwdb", "update", "--usr", "--strict", "--root", "/proc/self/cwd", cwd=staged.root)
        return output(self.name, [file_output(_COMPILED, staged.read(_COMPILED), 0o444)])
