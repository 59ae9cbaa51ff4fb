"""What a kind of root file system is given, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from bedplate.compose.disk import SlotSpec
from bedplate.compose.groups import Contents
from bedplate.compose.plan import TreePlan
from bedplate.compose.scripts import ScriptIndex
from bedplate.model.definition.track import Track
from bedplate.model.progress import Progress
from bedplate.toolchain.run import Toolbox


@dataclass(frozen=True)
class RootJob:
    """One tree to write.

    ``name`` is the distribution's and the track's, ``version`` the image's, ``namespace`` what identifiers are made
    from, ``epoch`` seconds since 1970. ``cache`` is shared by all builds. ``step`` times a part of the work.
    """

    track: Track
    name: str
    version: str
    namespace: UUID
    epoch: int
    plan: TreePlan
    contents: Contents
    scripts: ScriptIndex
    cache: Path
    toolbox: Toolbox
    jobs: int
    progress: Progress
    step: Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class WrittenRoot:
    """A root file system in the build's directory.

    ``artefacts`` maps the files it consists of to their hex SHA-256, empty where it is not known yet. ``options`` are
    what the kernel's command line must say to find it; ``root_hash`` is hex, empty for one that is not verified.
    """

    path: Path
    artefacts: Mapping[str, str]
    options: tuple[str, ...]
    root_hash: str = ""


class RootWriter(Protocol):
    """One kind of root file system at work on one job."""

    @property
    def opener(self) -> str:
        """Which part of the initrd opens it: a name of :mod:`bedplate.compose.initrd`."""
        ...

    def interpreters(self) -> Mapping[str, str]:
        """Path of each script of the tree -> the program its first line names. Comes first: limits are checked on it
        before anything is written."""
        ...

    def write(self, folder: Path) -> WrittenRoot:
        """Make the file system's files in ``folder``.

        Raises:
            BadInput: something does not fit.
            ToolError: a program failed.
        """
        ...

    def slots(self, written: WrittenRoot, seed: UUID) -> tuple[SlotSpec, ...]:
        """The partitions that hold it."""
        ...
