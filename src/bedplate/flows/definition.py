"""Reads the definition from disk."""

from __future__ import annotations

from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet, load_definition
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
        try:
            files[name] = path.read_text()
        except UnicodeDecodeError as error:
            raise BadInput("not UTF-8 text", where=str(path), remedy="save the file as UTF-8") from error
    return load_definition(files)
