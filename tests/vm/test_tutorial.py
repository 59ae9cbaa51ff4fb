"""The first server, as its page says: every block is typed where the page says, and shows what the page says."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.tutorial import Step, steps

from bedplate.flows.definition import copy_definition
from bedplate.flows.workspace import Workspace

pytestmark = pytest.mark.vm

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/tutorial/first-server.md"
BOOT_SECONDS = 1200.0
STEP_SECONDS = 1200.0


class Reader:
    """Somebody who follows the page in a directory of their own, with a copy of the definition to change."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.place = place
        self._stack = stack
        self._session: list[str] = []
        self._machine: subprocess.Popen[bytes] | None = None
        self._console = place.with_name("console.log")

    def follow(self, step: Step) -> None:
        """Do what a block says and look at what it shows."""
        if step.place == "desk background":
            self._start(step.text)
            return
        if step.place == "desk login":
            self._session = shlex.split(step.text)
            self._log_in()
            return
        command = ["bash", "-e"] if step.place == "desk" else [*self._session, "bash", "-e"]
        done = self._run(command, step.text)
        said = f"{PAGE.name}, line {step.line}:\n{step.text}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == step.code, said
        missing = [pattern for pattern in step.shows if not re.search(pattern, done.stdout + done.stderr)]
        assert not missing, f"{missing} not shown by {said}"

    def _run(self, command: list[str], text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=text, cwd=self.place, capture_output=True, text=True, timeout=STEP_SECONDS, check=False
        )

    def _start(self, text: str) -> None:
        log = self._stack.enter_context(self._console.open("wb"))
        self._machine = subprocess.Popen(
            shlex.split(text), cwd=self.place, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._stack.callback(self._stop)

    def _stop(self) -> None:
        assert self._machine is not None
        self._machine.terminate()
        self._machine.wait(60)

    def _log_in(self) -> None:
        assert self._machine is not None
        end = time.monotonic() + BOOT_SECONDS
        done = self._run([*self._session, "true"], "")
        while done.returncode and self._machine.poll() is None and time.monotonic() < end:
            time.sleep(1)
            done = self._run([*self._session, "true"], "")
        assert done.returncode == 0, done.stderr + self._console.read_text(errors="replace")[-3000:]


@pytest.fixture(scope="module")
def reader(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    place = tmp_path_factory.mktemp("tutorial") / "checkout"
    place.mkdir()
    copy_definition(workspace.distro, place / "distro")
    (place / "bin").symlink_to(ROOT / "bin")
    # A cache of their own that begins with what is downloaded and made: the repository is theirs alone.
    cache = place.with_name("cache")
    for name in ("store", "indexes", "descriptions", "rpms", "signed", "tools", "compose", "locks", "programs"):
        if (workspace.cache / name).is_dir():
            shutil.copytree(workspace.cache / name, cache / name, symlinks=True, copy_function=_link)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name in ("BEDPLATE_DISTRO", "BEDPLATE_OUTPUT"):
            patch.delenv(name, raising=False)
        patch.setenv("BEDPLATE_CACHE", str(cache))
        yield Reader(place, stack)


def _link(source: str, target: str) -> None:
    # Others may be at work in the user's cache: what they just took away is not needed.
    with contextlib.suppress(FileNotFoundError):
        os.link(source, target)


def test_the_page_can_be_followed(reader: Reader) -> None:
    for step in steps(PAGE.read_text()):
        started = time.monotonic()
        reader.follow(step)
        print(f"line {step.line}, {step.place}: {time.monotonic() - started:.1f} s", flush=True)
