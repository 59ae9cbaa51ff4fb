"""The module dependency index of the modules in the image: depmod(8)."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, file_output, output

_KEPT = (
    "modules.dep",
    "modules.dep.bin",
    "modules.alias.bin",
    "modules.symbols.bin",
    "modules.softdep",
    "modules.weakdep",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.devname",
)


@dataclass(frozen=True, slots=True)
class Depmod:
    """Index the modules of kernel ``version``."""

    version: str
    name: str = "depmod"
    revision: int = 1

    @property
    def parameters(self) -> object:
        """What the result depends on besides the inputs."""
        return [self.version, list(_KEPT)]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The module tree of this version."""
        return (f"/usr/lib/modules/{self.version}",)

    def run(self, staged: Staged) -> StageOutput:
        """The indexes modprobe and udev read; text forms nobody reads at run time are left out."""
        (staged.root / "lib").symlink_to("usr/lib")
        staged.toolbox.run("depmod", "--basedir", staged.root, self.version)
        paths = [f"/usr/lib/modules/{self.version}/{name}" for name in _KEPT]
        return output(self.name, [file_output(p, staged.read(p)) for p in paths if staged.found(p)])
