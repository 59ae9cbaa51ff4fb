"""The journal's message catalog, compiled: ``journalctl --update-catalog``."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, file_output, output

_WRITTEN = "/var/lib/systemd/catalog/database"
_IN_IMAGE = "/usr/lib/systemd/catalog/database"


@dataclass(frozen=True, slots=True)
class Catalog:
    """Compile /usr/lib/systemd/catalog."""

    name: str = "catalog"
    revision: int = 1
    inputs: tuple[str, ...] = ("/usr/lib/systemd/catalog",)
    parameters: object = None

    def run(self, staged: Staged) -> StageOutput:
        """The database, below /usr: /var is made on the node, tmpfiles.d links there."""
        staged.toolbox.run("journalctl", "--update-catalog", "--root", staged.root)
        return output(self.name, [file_output(_IN_IMAGE, staged.read(_WRITTEN))])
