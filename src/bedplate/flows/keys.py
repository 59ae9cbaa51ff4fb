"""The workspace's keys."""

from __future__ import annotations

from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.trust.keys import KeyStore


def key_store(workspace: Workspace, definition: DefinitionSet) -> KeyStore:
    """The workspace's keys; development keys are made where a role has none."""
    return KeyStore(workspace.keys, definition.distro.name)
