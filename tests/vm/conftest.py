"""Fixtures of the tests that boot real images: one workspace, one build, as a user makes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bedplate.cli.console import LineProgress
from bedplate.flows.build import BuildOutcome, build_track
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def workspace() -> Workspace:
    """The user's own workspace: its cache, its keys, the checkout's definition."""
    return Workspace.from_environment(os.environ, distro=ROOT / "distro", output=ROOT / "out", progress=LineProgress())


@pytest.fixture(scope="session")
def container_build(workspace: Workspace) -> BuildOutcome:
    """The container host, built (or found built) by the ordinary flow."""
    return build_track(workspace, "container", Relock.WHEN_NEEDED)


@pytest.fixture(scope="session")
def container_image(workspace: Workspace, container_build: BuildOutcome) -> FoundImage:
    """The built image as commands find it."""
    return find_image(workspace, str(container_build.directory))


@pytest.fixture
def place(workspace, container_build, tmp_path_factory):
    """A directory with a copy of the downloads and the keys, readable by its owner only."""
    directory = tmp_path_factory.mktemp("other")
    shutil.copytree(workspace.cache / "store", directory / "cache/store")
    if (workspace.cache / "locks").is_dir():
        shutil.copytree(workspace.cache / "locks", directory / "cache/locks")
    shutil.copytree(workspace.keys, directory / "keys")
    return directory
