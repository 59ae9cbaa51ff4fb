"""Firmware variables with our own Secure Boot keys enrolled.

Sources: UEFI specification 2.10 section 32 (Secure Boot: PK, KEK, db); OVMF's variable store.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from virt.firmware.varstore.edk2 import Edk2VarStore

from bedplate.model.errors import BadInput
from bedplate.toolchain.tree import ToolsTree

CODE = "usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.fd"
DATA_DIRECTORIES = ("usr/share/seabios", "usr/share/qemu")

# Whose entries these are in the signature lists (EFI_SIGNATURE_DATA.SignatureOwner); it has no further meaning.
_OWNER = "7f1c2d5e-4a0b-4f43-9d3c-6f0e5a8b1c27"


def write_variables(tree: ToolsTree, target: Path, certificates: Sequence[bytes]) -> None:
    """Write a variable store to ``target``.

    Args:
        certificates: PEM certificates for PK (the first), KEK and db (all). Nobody else's keys are enrolled. Empty:
            the store of a machine in setup mode, where nothing is checked.

    Raises:
        BadInput: one of them is not a PEM certificate.
    """
    template = tree.path(VARIABLES)
    if not certificates:
        _write(target, template.read_bytes())
        return
    store = Edk2VarStore(str(template))
    variables = store.get_varlist()
    with tempfile.TemporaryDirectory(prefix="bedplate-") as scratch:
        for number, certificate in enumerate(certificates):
            path = Path(scratch) / f"{number}.pem"
            path.write_bytes(certificate)
            try:
                if number == 0:
                    variables.add_cert("PK", _OWNER, str(path), True)
                variables.add_cert("KEK", _OWNER, str(path))
                variables.add_cert("db", _OWNER, str(path))
            except ValueError as error:
                raise BadInput(f"not a PEM certificate ({error})", remedy="give the key's cert.pem") from error
    variables.enable_secureboot()
    _write(target, store.bytes_varstore(variables))


def _write(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.rename(target)
