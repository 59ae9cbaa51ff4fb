"""A real PostgreSQL from the tools tree, on a socket in a scratch directory, for as long as a test needs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bedplate.toolchain.run import Toolbox

_NOBODY = 65534
# What stands for "any other user": PostgreSQL refuses to run as root. The tree may lie where only root can read.
_AS_NOBODY = (
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
)


class Postgres:
    """A server that can be stopped and started."""

    def __init__(self, toolbox: Toolbox, directory: Path) -> None:
        self._toolbox = toolbox
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._bin = _relocated(toolbox, directory)
        self._data = directory / "data"
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self._data, _NOBODY, _NOBODY)
            os.chown(directory, _NOBODY, _NOBODY)
        made = self._run("initdb", "-D", self._data, "-U", "bedplate", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        output, _ = made.communicate(timeout=300)
        assert made.returncode == 0, output.decode()

    @property
    def url(self) -> str:
        """The server's first database."""
        return f"postgresql://bedplate@/postgres?host={self.directory}"

    def _run(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [str(self._bin / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = self._toolbox.command("setpriv", [*_AS_NOBODY, *command])
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={"PATH": f"{self._bin}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
        )

    def start(self) -> None:
        """Start it; returns when it answers."""
        options = ("-k", str(self.directory), "-c", "listen_addresses=", "-c", "fsync=off", "-c", "timezone=UTC")
        self._process = self._run("postgres", "-D", self._data, *options)
        assert self._process.stdout is not None
        seen = []
        for line in self._process.stdout:
            seen.append(line.decode())
            if b"ready to accept connections" in line:
                break
        else:
            raise AssertionError("".join(seen))
        # The rest of its log must not fill the pipe.
        self._drain = subprocess.Popen(
            ["cat"], stdin=self._process.stdout, stdout=(self.directory / "log").open("wb"), start_new_session=True
        )

    def stop(self) -> None:
        """Stop it at once, as a crash would, connections cut."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)
        self._drain.wait(60)
        self._process = None

    def fresh(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[arg-type]
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        return self.url.replace("/postgres?", f"/{name}?")


def _relocated(toolbox: Toolbox, directory: Path) -> Path:
    """A bin directory whose programs find each other and their data, which PostgreSQL seeks relative to itself."""
    (release,) = sorted((toolbox.tree.root / "usr/lib/postgresql").iterdir())
    here = directory / "pg"
    programs = here / "usr/lib/postgresql" / release.name / "bin"
    programs.mkdir(parents=True)
    (programs.parent / "lib").symlink_to(release / "lib")
    (here / "usr/share").symlink_to(toolbox.tree.root / "usr/share")
    loader = toolbox.tree.invocation("bash")[:3]
    for name in ("initdb", "postgres"):
        start = " ".join([*loader, "--argv0", '"$0"', str(release / "bin" / name)])
        (programs / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        (programs / name).chmod(0o755)
    return programs


@contextmanager
def postgres(toolbox: Toolbox) -> Iterator[Postgres]:
    """A server that answers, with everything it left removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="bedplate-pg-"))
    directory.chmod(0o755)
    server = Postgres(toolbox, directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)
