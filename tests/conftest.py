"""Fixtures all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Toolbox
from bedplate.toolchain.tree import ToolsTree

# The same examples on every machine and no limit of time: a check that fails here fails for everyone.
settings.register_profile("check", derandomize=True, deadline=None)
settings.load_profile("check")

DISTRO = Path(__file__).resolve().parent.parent / "distro"


@pytest.fixture(scope="session")
def toolbox() -> Toolbox:
    """Programs of the tools tree: the one named by ``BEDPLATE_TOOLS_TREE``, else the locked one, made when missing."""
    tree = os.environ.get("BEDPLATE_TOOLS_TREE")
    if tree:
        return Toolbox(ToolsTree(Path(tree)), epoch=1_700_000_000)
    workspace = Workspace.from_environment(os.environ, distro=DISTRO)
    return prepare_tools(workspace, "tools", Relock.WHEN_NEEDED)
