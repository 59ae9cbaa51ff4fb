"""Fixtures for tests that need other servers: the tools set ``services``, and one PostgreSQL for a module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.run import Toolbox
from support.postgres import Postgres, postgres

DISTRO = Path(__file__).resolve().parent.parent.parent / "distro"


@pytest.fixture(scope="session")
def services() -> Toolbox:
    """PostgreSQL, nginx, TPM tools."""
    workspace = Workspace.from_environment(os.environ, distro=DISTRO)
    return prepare_tools(workspace, "services", Relock.WHEN_NEEDED)


@pytest.fixture(scope="module")
def server(services: Toolbox) -> Iterator[Postgres]:
    """A running PostgreSQL."""
    with postgres(services) as one:
        yield one
