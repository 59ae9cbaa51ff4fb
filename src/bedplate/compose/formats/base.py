"""What a format is given, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from bedplate.model.filesystem import FileSystem
from bedplate.toolchain.run import Toolbox


class Origin(Enum):
    """What a format holds: the whole disk, or the content of the root file system."""

    DISK = "disk"
    ROOT = "root"


@dataclass(frozen=True, slots=True)
class InstallerFile:
    """A file of the installer: where it lies on this machine, and its permission bits."""

    source: Path
    mode: int


@dataclass(frozen=True)
class FormatJob:
    """A finished image to give another form.

    ``name`` is the distribution's and the track's (``bedplate-server``), ``epoch`` seconds since 1970. ``disk`` is the
    raw disk image; ``root`` opens its root file system. ``labels`` are facts by name that a form may carry
    (``os-release`` fields, the lock's digest). ``sign_efi`` signs an EFI program (unsigned, signed); ``installer`` are
    the installer's files by their path in the image.
    """

    name: str
    version: str
    epoch: int
    disk: Path
    root: Callable[[], AbstractContextManager[FileSystem]]
    labels: Mapping[str, str]
    toolbox: Toolbox
    jobs: int
    sign_efi: Callable[[Path, Path], None]
    installer: Mapping[str, InstallerFile]


class Format(Protocol):
    """One form. ``revision`` counts changes of its code that change its bytes; the same image, revision and tools give
    the same bytes."""

    @property
    def name(self) -> str:
        """What ``--format`` calls it."""
        ...

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        ...

    @property
    def file(self) -> str:
        """Name of the artefact."""
        ...

    @property
    def origin(self) -> Origin:
        """What it is made from."""
        ...

    @property
    def owned_set(self) -> str:
        """The set of the distribution's own files that it holds besides the image; empty for none."""
        ...

    @property
    def revision(self) -> int:
        """See above."""
        ...

    def write(self, job: FormatJob, target: Path) -> None:
        """Write the artefact to ``target``, a new file.

        Raises:
            BadInput: the image cannot have this form.
            ToolError: a program failed.
        """
        ...
