"""A server with a repository beside it, booted as often as it takes and asked in order."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.support.node import HOST, Node

from bedplate.emulator.options import DiskForm, Drive, MachineOptions
from bedplate.flows.boot import REPOSITORY_CREDENTIAL, machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import FoundImage, find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.packages.serving import repository_server
from bedplate.toolchain.run import Completed, Toolbox

BOOT_SECONDS = 1800.0
DENIALS = (
    "{ journalctl _TRANSPORT=kernel -o cat; cat /var/log/audit/audit.log*; } | grep -o 'avc:  *denied.*' | sort -u"
)
"""Prints what SELinux denied, over all boots."""


class Server(Node):
    """The server track's machine; its disk is kept over its boots. ``repository`` is what it installs from."""

    announcing: Mapping[str, bytes] = {}

    def __init__(self, options: MachineOptions, toolbox: Toolbox, directory: Path, repository: Path) -> None:
        super().__init__(options, toolbox, directory)
        self.repository = repository

    def ask(self, script: str) -> Completed:
        """Run a script as root; whatever it ends with."""
        ssh, *arguments = self.session()
        return self.toolbox.run(ssh, *arguments, "bash", "-s", stdin=script.encode(), ok=range(256))

    def answers(self, script: str, pattern: str, seconds: float = BOOT_SECONDS) -> str:
        """Ask until the answer fits ``pattern``, through restarts; the answer. Whether the machine is up a login tells:
        a connection that comes to none makes OpenSSH refuse the next ones for a while.

        Raises:
            AssertionError: it never did; with what ssh said, and the end of the console.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done = self.ask(script)
            if done.code != 255 and re.search(pattern, done.text):
                return done.text
            assert self.machine is not None
            if self.machine.wait(1.0) is not None:
                break
        tail = bytes(self.console[-4000:]).decode(errors="replace")
        raise AssertionError(f"{script!r} never answered {pattern!r} but {done.text!r} {done.stderr!r}\n{tail}")

    def up(self) -> None:
        """Wait until the machine has booted: whatever it wanted to start runs, or failed."""
        self.answers("systemctl is-system-running --wait", "running|degraded")


def server_image(workspace: Workspace) -> FoundImage:
    """The server, built or found built."""
    return find_image(workspace, str(build_track(workspace, "server", Relock.WHEN_NEEDED).directory))


@contextmanager
def booted_server(
    workspace: Workspace,
    toolbox: Toolbox,
    place: Path,
    repository: Path,
    disk: DiskForm = DiskForm.OVERLAY,
    drives: Sequence[Drive] = (),
) -> Iterator[Server]:
    """Build the server (or find it built), boot it, wait until it is up.

    Args:
        disk: What it writes to; what survives the emulator's end is only known of a copy.
        drives: Further disks.
    """
    with repository_server(repository) as port:
        address = {REPOSITORY_CREDENTIAL: f"http://{HOST}:{port}\n".encode()}
        options = replace(
            machine_options(workspace, server_image(workspace)),
            disk_form=disk,
            credentials=address,
            drives=tuple(drives),
        )
        server = Server(options, toolbox, place / "machine", repository)
        server.start()
        try:
            server.up()
            yield server
        finally:
            server.kill()
            shutil.rmtree(server.state.directory, ignore_errors=True)
