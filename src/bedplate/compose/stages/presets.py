"""Enabled units by presets, masked units by links to /dev/null.

systemd's own ``systemctl --root preset-all`` reads the units and presets of the image and makes the links; nothing of
the host is looked at. Source: systemd.preset(5), systemctl(1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, output

_UNITS = ("/usr/lib/systemd/system", "/usr/lib/systemd/user", "/etc/systemd/system", "/etc/systemd/user")


@dataclass(frozen=True, slots=True)
class Presets:
    """Enable what the presets list and mask ``masked``."""

    masked: Sequence[str]
    name: str = "presets"
    revision: int = 1
    inputs: tuple[str, ...] = (*_UNITS, "/usr/lib/systemd/system-preset", "/usr/lib/systemd/user-preset")

    @property
    def parameters(self) -> object:
        """What the result depends on besides the inputs."""
        return sorted(self.masked)

    def run(self, staged: Staged) -> StageOutput:
        """Links below /etc/systemd that the presets and the mask list ask for."""
        folders = [staged.root / "etc/systemd" / kind for kind in ("system", "user")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        before = {path for folder in folders for path in folder.rglob("*")}
        for unit in self.masked:
            link = folders[0] / unit
            link.symlink_to("/dev/null")
        for scope in ((), ("--global",)):
            staged.toolbox.run("systemctl", "--root", staged.root, *scope, "--preset-mode=full", "preset-all")
        made = {
            "/" + str(path.relative_to(staged.root)): _target(path, staged.root)
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.is_symlink() and path not in before
        }
        return output(self.name, links=made)


def _target(link: Path, root: Path) -> str:
    target = str(link.readlink())
    prefix = str(root)
    return target[len(prefix) :] if target.startswith(prefix + "/") else target
