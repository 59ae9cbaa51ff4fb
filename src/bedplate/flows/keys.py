"""The workspace's keys, also those that lie in hardware modules and cloud services."""

from __future__ import annotations

from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.trust.devices import DeviceKey, register_device
from bedplate.trust.keys import KeyStore


def key_store(workspace: Workspace, definition: DefinitionSet) -> KeyStore:
    """The workspace's keys; development keys are made where a role has none."""
    open_devices(workspace)
    return KeyStore(workspace.keys, definition.distro.name)


def open_devices(workspace: Workspace) -> None:
    """Let keys be used that lie in hardware modules (``pkcs11:``) and cloud services (``awskms:``, ``gcpkms:``,
    ``azurekms:``). What it takes is prepared when such a key is first used."""

    def module(uri: str) -> DeviceKey:
        from bedplate.flows.tools import prepare_tools
        from bedplate.trust.pkcs11 import Pkcs11Key

        return Pkcs11Key(uri, lambda: prepare_tools(workspace, "hsm"))

    def service(uri: str) -> DeviceKey:
        from bedplate.trust.kms import KmsKey

        return KmsKey(uri)

    register_device("pkcs11", module)
    for scheme in ("awskms", "gcpkms", "azurekms"):
        register_device(scheme, service)
