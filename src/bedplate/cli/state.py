"""What the global options said, for the one process that is the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from bedplate.cli.console import Output, choose_progress
from bedplate.flows.workspace import Workspace


@dataclass
class State:
    """Global options, and the output they lead to."""

    verbose: int = 0
    distro: str = ""
    mirrors: tuple[str, ...] = ()
    jobs: int = 0
    output: Output = field(default_factory=Output)

    def begin(self, as_json: bool, output_directory: Path | None = None) -> Workspace:
        """Settle how results are shown and give the workspace the options describe."""
        self.output = Output(as_json=as_json, progress=choose_progress())
        return Workspace.from_environment(
            os.environ,
            distro=Path(self.distro) if self.distro else None,
            output=output_directory,
            mirrors=self.mirrors,
            jobs=self.jobs or None,
            progress=self.output.progress,
        )


STATE = State()
