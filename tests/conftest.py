"""Fixtures all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bedplate.toolchain.run import Toolbox
from bedplate.toolchain.tree import ToolsTree


@pytest.fixture(scope="session")
def toolbox() -> Toolbox:
    """Programs of the tools tree that ``bin/check`` prepared (``BEDPLATE_TOOLS_TREE``)."""
    return Toolbox(ToolsTree(Path(os.environ["BEDPLATE_TOOLS_TREE"])), epoch=1_700_000_000)
