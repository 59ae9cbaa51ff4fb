"""The cache of shared libraries: ldconfig(8), which needs no privilege with ``-r``."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, file_output, output

_CACHE = "/etc/ld.so.cache"


@dataclass(frozen=True, slots=True)
class Ldconfig:
    """Index the shared libraries of the image."""

    name: str = "ldconfig"
    revision: int = 1
    inputs: tuple[str, ...] = (
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d",
        "/usr/lib/*.so*",
        "/usr/lib/x86_64-linux-gnu/*.so*",
        "/usr/lib64",
        "/usr/local/lib",
    )
    parameters: object = None

    def run(self, staged: Staged) -> StageOutput:
        """ld.so.cache; the auxiliary cache, which holds inode numbers, is thrown away with the scratch directory."""
        for link in ("lib", "lib64"):
            (staged.root / link).symlink_to(f"usr/{link}")
        # -X: links belong to packages, none is made here.
        staged.toolbox.run("ldconfig", "-X", "-r", staged.root)
        return output(self.name, [file_output(_CACHE, staged.read(_CACHE))])
