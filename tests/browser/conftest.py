"""A browser and a service with a fleet, shared by the tests of the pages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from support.browser import Served, chromium, launcher

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(launcher(tmp_path_factory.mktemp("chromium"), TESTS.parent / "distro")) as started:
        yield started


@pytest.fixture(scope="session")
def pasts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pasts")


@pytest.fixture
def served(pasts: Path, tmp_path: Path, browser: Browser) -> Iterator[Callable[[str], Served]]:
    """Serve a fleet whose story ended ``running`` or ``stopped``, or one without nodes (``none``)."""
    with ExitStack() as open_things:

        def start(end: str) -> Served:
            if not (pasts / end).exists():
                # Playwright's loop runs in this thread; the story wants one of its own.
                code = "import asyncio, sys; from pathlib import Path; from support.fleet_story import live_through; "
                code += "asyncio.run(live_through(Path(sys.argv[1]), sys.argv[2]))"
                subprocess.run([sys.executable, "-c", code, str(pasts / end), end], cwd=TESTS, check=True)
            root = tmp_path / end
            shutil.copytree(pasts / end, root)
            process = subprocess.Popen(
                [sys.executable, "-m", "support.pages_server", str(root)],
                cwd=TESTS,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            open_things.callback(process.wait)
            assert process.stdin is not None and process.stdout is not None
            open_things.callback(process.stdin.close)
            port, manager, operator = process.stdout.readline().split()
            contexts = open_things.enter_context(ExitStack())
            return Served(f"http://127.0.0.1:{port}", manager, operator, browser, contexts)

        yield start
