"""A booted server with a repository beside it, to be asked in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine
from bedplate.emulator.ssh import wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.build import build_track
from bedplate.flows.images import find_image
from bedplate.flows.locks import Relock
from bedplate.flows.workspace import Workspace
from bedplate.packages.serving import repository_server
from bedplate.toolchain.run import Completed, Toolbox

BOOT_SECONDS = 1200.0
DENIALS = "{ journalctl -b -k -o cat; cat /var/log/audit/audit.log; } | grep -o 'avc:  *denied.*' | sort -u"


@dataclass(frozen=True)
class Server:
    """A running machine, how to run a script as root in it, and the directory its repository is served from."""

    machine: Machine
    ask: Callable[[str], Completed]
    repository: Path


@contextmanager
def booted_server(workspace: Workspace, toolbox: Toolbox, place: Path, repository: Path) -> Iterator[Server]:
    """Build the server (or find it built), boot it, wait until it is up."""
    image = find_image(workspace, str(build_track(workspace, "server", Relock.WHEN_NEEDED).directory))
    options, access = with_ssh(machine_options(workspace, image), place)
    with repository_server(repository) as port:
        address = {"bedplate.repository": f"http://10.0.2.2:{port}\n".encode()}
        options = replace(options, credentials={**options.credentials, **address})
        with Machine(options, choose(toolbox), toolbox) as machine:
            assert wait_until_reachable(machine, access, BOOT_SECONDS), machine.console.data[-2000:].decode(
                "ascii", "replace"
            )

            def ask(script: str) -> Completed:
                command = access.command()
                return toolbox.run(command[0], *command[1:], "bash", "-s", stdin=script.encode(), ok=range(256))

            ask("timeout 900 systemctl is-system-running --wait")
            yield Server(machine, ask, repository)
