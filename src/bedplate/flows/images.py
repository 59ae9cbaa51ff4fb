"""Finding a finished image: a directory of a build, or a disk image with or without its build's record beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.compose.build import DISK
from bedplate.compose.result import BuildResult, read_result
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput

LOCK_NAME = "lock.toml"


@dataclass(frozen=True)
class FoundImage:
    """A disk image; ``build`` and ``lock`` are None when it came without a build's directory around it."""

    disk: Path
    build: BuildResult | None
    lock: Path | None


def find_image(workspace: Workspace, name: str) -> FoundImage:
    """The image ``name`` means: a track (its newest build), a build's directory, or a disk image.

    Raises:
        BadInput: there is nothing of that name.
    """
    path = Path(name)
    if not path.exists() and (workspace.output / name).is_dir():
        path = workspace.output / name
    if not path.exists():
        raise BadInput(
            f"there is no image {name!r}",
            remedy=f"name a disk image, a build's directory, or a track built below {workspace.output}",
        )
    directory = path if path.is_dir() else path.parent
    build = read_result(directory)
    lock = directory / LOCK_NAME
    if path.is_dir() and build is None:
        raise BadInput("no finished image here", where=str(path), remedy="build one: bedplate build container")
    if build is None or (path.is_file() and path.name != DISK):
        return FoundImage(path, None, None)
    return FoundImage(directory / DISK, build, lock if lock.is_file() else None)
