"""Reads the definition from disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from bedplate.flows.workspace import Workspace
from bedplate.model.definition.facts import Mode
from bedplate.model.definition.load import DefinitionSet, load_definition
from bedplate.model.definition.own import OwnFile, OwnPackage
from bedplate.model.errors import BadInput

_NOT_DEFINITION = ("locks/", "files/", "keys/")


def read_definition(workspace: Workspace) -> DefinitionSet:
    """The validated definition of the workspace.

    Raises:
        BadInput: mistakes in it, all of them at once.
    """
    files: dict[str, str] = {}
    for path in sorted(workspace.distro.rglob("*.toml")):
        name = path.relative_to(workspace.distro).as_posix()
        if name.startswith(_NOT_DEFINITION):
            continue
        files[name] = _text(path)
    definition = load_definition(files)
    own = {name: _with_trees(package, workspace.distro) for name, package in definition.own.items()}
    return replace(definition, own=own)


def copy_definition(source: Path, target: Path) -> None:
    """Copy a definition to a directory that is not there yet, whole by itself: for a variant of it.

    Links among the owned files are the image's own and stay links; any other leads out of the definition, and what it
    leads to is copied.
    """
    shutil.copytree(source, target, ignore=lambda folder, _: ["files"] if Path(folder) == source else [])
    shutil.copytree(source / "files", target / "files", symlinks=True)


def _with_trees(package: OwnPackage, distro: Path) -> OwnPackage:
    """The package with the files of its trees among its files."""
    files: dict[str, OwnFile] = {}
    directories: dict[str, Mode] = {}
    for target, source in package.trees.items():
        folder = distro / source
        if not folder.is_dir():
            raise BadInput(f"no directory {source!r}", where=f"own/{package.name}.toml: trees.{target}")
        for path in sorted(one for one in folder.rglob("*") if "__pycache__" not in one.parts):
            name = f"{target}/{path.relative_to(folder).as_posix()}"
            if path.is_dir():
                directories[name] = Mode(mode="0755")
            else:
                files[name] = OwnFile(content=_text(path), verbatim=True)
        directories[target] = Mode(mode="0755")
    if not files:
        return package
    return package.model_copy(
        update={"files": {**files, **package.files}, "directories": {**directories, **package.directories}}
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise BadInput("not UTF-8 text", where=str(path), remedy="save the file as UTF-8") from error
    except FileNotFoundError as error:
        raise BadInput(
            "a link to a file that is not there",
            where=str(path),
            remedy="copy the definition with what its links lead to: cp -rL",
        ) from error
