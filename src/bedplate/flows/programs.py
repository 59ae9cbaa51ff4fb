"""Programs of the distribution's own, compiled once and kept by the digest of all they depend on."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bedplate.compose.programs import REVISION, compile_program
from bedplate.flows.cache import part
from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools, tools_lock
from bedplate.flows.workspace import Workspace
from bedplate.model.digest import identity, sha256
from bedplate.model.errors import BadInput

COMPILER = "compiler"
_LIBRARIES = ("libcurl.so.4", "libcrypto.so.3")


def own_program(workspace: Workspace, name: str) -> Path:
    """The program that ``distro/programs/<name>`` is compiled to.

    Raises:
        BadInput: there is no such source.
        ToolError: it does not compile.
    """
    source = workspace.distro / "programs" / name
    if not source.is_file():
        raise BadInput("there is no such program", where=str(source), remedy="write it, or take it out of the set")
    tools = sorted(str(package.nevra) for package in tools_lock(workspace, COMPILER).packages)
    key = identity(["program", REVISION, sha256(source.read_bytes()), _LIBRARIES, tools])
    target = part(workspace, "programs") / key
    if not target.is_file():
        # The bytes depend on the compiler that is locked; where the mirrors have moved on, on the one they have.
        toolbox = prepare_tools(workspace, COMPILER, Relock.WHEN_NEEDED)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as folder:
            made = Path(folder) / "program"
            with workspace.progress.task(f"compile {name}"):
                compile_program(source, made, _LIBRARIES, toolbox)
            made.chmod(0o755)
            made.replace(target)
    return target
