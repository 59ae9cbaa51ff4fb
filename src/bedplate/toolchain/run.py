"""The one door to external programs: every one comes from the tools tree, is logged, and fails with its own words.

A tool is started through the tools tree's own dynamic loader (``ld.so --library-path``), so it needs neither root nor
a namespace nor anything of the host but a kernel. Programs that start other programs find them through ``PATH``,
which holds small wrappers that do the same.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bedplate.model.errors import BedplateError
from bedplate.toolchain.tree import ToolsTree

log = logging.getLogger("bedplate.run")

Argument = str | Path


class ToolError(BedplateError):
    """A program of the tools tree ended with an exit code that was not expected."""

    def __init__(self, tool: str, command: Sequence[str], code: int, stderr: str) -> None:
        ended = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        tail = stderr.strip().splitlines()[-12:]
        super().__init__(f"{tool} {ended}", details=[f"$ {shlex.join(command)}", *tail])
        self.tool = tool
        self.code = code
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Completed:
    """What a finished program left: exit code, raw standard output, standard error as text."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as UTF-8 text."""
        return self.stdout.decode(errors="replace")


class Toolbox:
    """Runs programs of one tools tree.

    Args:
        tree: Where the programs are.
        epoch: Value of ``SOURCE_DATE_EPOCH`` for every program.
    """

    def __init__(self, tree: ToolsTree, epoch: int = 0) -> None:
        self.tree = tree
        self.epoch = epoch

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment a tool gets. Nothing of the caller's leaks in except the temporary directory."""
        env = {
            "PATH": str(self.tree.wrappers),
            "HOME": "/nonexistent",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "SOURCE_DATE_EPOCH": str(self.epoch),
            **self.tree.environment(),
        }
        if "TMPDIR" in os.environ:
            env["TMPDIR"] = os.environ["TMPDIR"]
        return {**env, **(extra or {})}

    def command(self, tool: str, args: Sequence[Argument]) -> list[str]:
        """The full argument vector that starts ``tool``."""
        return [*self.tree.invocation(tool), *(str(arg) for arg in args)]

    def run(
        self,
        tool: str,
        *args: Argument,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ok: Collection[int] = (0,),
    ) -> Completed:
        """Run ``tool`` to its end.

        Args:
            tool: Program name, as in the tree's bin directories.
            stdin: Bytes for its standard input; nothing when None.
            env: Additions to :meth:`environment`.
            ok: Exit codes that are not a failure.

        Raises:
            ToolError: any other exit code; it names the command and the end of its stderr.
        """
        with self.start(
            tool, *args, env=env, cwd=cwd, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE
        ) as process:
            stdout, stderr_bytes = process.communicate(stdin)
        stderr = stderr_bytes.decode(errors="replace")
        if stderr.strip():
            log.debug("%s: %s", tool, stderr.strip())
        if process.returncode not in ok:
            raise ToolError(tool, [tool, *(str(arg) for arg in args)], process.returncode, stderr)
        return Completed(process.returncode, stdout, stderr)

    def start(
        self,
        tool: str,
        *args: Argument,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
        pass_fds: Collection[int] = (),
        new_session: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start ``tool`` and return its process; the caller ends it and checks its exit code."""
        command = self.command(tool, args)
        log.info("$ %s", shlex.join([tool, *(str(arg) for arg in args)]))
        return subprocess.Popen(
            command,
            env=self.environment(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=new_session,
        )


PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
Process = subprocess.Popen[bytes]
StillRunning = subprocess.TimeoutExpired
