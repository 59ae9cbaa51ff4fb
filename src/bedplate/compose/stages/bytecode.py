"""Byte code of the Python modules packages ship: compiled once here instead of at every start on the machine.

Hash-checked byte code (PEP 552): it holds whatever time the source has, and is not used for a source that changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import Staged, file_output, output


@dataclass(frozen=True, slots=True)
class Bytecode:
    """What the packages' scripts would have had py3compile do."""

    name: str = "bytecode"
    revision: int = 1
    inputs: tuple[str, ...] = ("/usr/lib/python3/**/*.py", "/usr/lib/python3.*/**/*.py", "/usr/lib/python3.*/*.py")
    parameters: object = None

    def run(self, staged: Staged) -> StageOutput:
        """One ``.pyc`` beside each module that compiles; what is meant for another Python does not, and is left."""
        folder = staged.root / "usr/lib"
        if not folder.is_dir():
            return output(self.name)
        staged.toolbox.run(
            "python3", "-m", "compileall", "-q", "-f", "--invalidation-mode", "checked-hash",
            "-s", staged.root, "-p", "/",
            folder, env={"PYTHONHASHSEED": "0"}, ok=(0, 1),
        )  # fmt: skip
        made = sorted(path for path in folder.rglob("__pycache__/*.pyc"))
        return output(
            self.name, [file_output("/" + str(path.relative_to(staged.root)), path.read_bytes()) for path in made]
        )
