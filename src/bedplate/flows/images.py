"""Finding a finished image: a directory of a build, or a disk image with or without its manifest beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput
from bedplate.model.image import LOCK_NAME, MANIFEST_NAME, ImageManifest, parse_manifest


@dataclass(frozen=True)
class FoundImage:
    """A disk image; ``manifest`` and ``lock`` are None when it came without a build's directory around it."""

    disk: Path
    manifest: ImageManifest | None
    lock: Path | None


def find_image(workspace: Workspace, name: str) -> FoundImage:
    """The image ``name`` means: a track (its newest build), a build's directory, or a disk image.

    Raises:
        BadInput: there is nothing of that name, or its manifest is damaged.
    """
    path = Path(name)
    if not path.exists() and (workspace.output / name).is_dir():
        path = workspace.output / name
    directory = path if path.is_dir() else path.parent
    manifest_path = directory / MANIFEST_NAME
    manifest = parse_manifest(manifest_path.read_text(), str(manifest_path)) if manifest_path.is_file() else None
    lock = directory / LOCK_NAME
    if path.is_dir():
        if manifest is None:
            raise BadInput("no finished image here", where=str(path), remedy="build one: bedplate build container")
        return FoundImage(directory / manifest.artefacts["disk"].file, manifest, lock if lock.is_file() else None)
    if not path.is_file():
        raise BadInput(
            f"there is no image {name!r}",
            remedy=f"name a disk image, a build's directory, or a track built below {workspace.output}",
        )
    if manifest is None or manifest.artefacts["disk"].file != path.name:
        return FoundImage(path, None, None)
    return FoundImage(path, manifest, lock if lock.is_file() else None)
