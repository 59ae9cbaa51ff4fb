"""First-boot configuration on a disk of its own, where cloud-init's NoCloud datasource looks for it.

Source: cloud-init's NoCloud: a FAT file system labelled ``CIDATA`` with ``meta-data`` and ``user-data``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bedplate.emulator.options import Drive
from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox

SERIAL = "cloud-init"
_SIZE = 1 << 20
_LIMIT = _SIZE // 2


def write_seed(toolbox: Toolbox, path: Path, user_data: str, *, instance: str, hostname: str) -> Drive:
    """Write a seed to ``path`` and give the drive that shows it to a machine.

    Args:
        user_data: Text of the user data, ``#cloud-config`` on its first line or another form cloud-init knows.
        instance: Identifies the machine: first-boot steps run again when it changes.

    Raises:
        BadInput: the user data is larger than a seed holds, or the names hold more than one line.
        ToolError: mkfs.vfat or mcopy failed.
    """
    if len(user_data.encode()) > _LIMIT:
        raise BadInput(f"user data of {len(user_data.encode())} bytes; a seed holds {_LIMIT}")
    if "\n" in instance + hostname:
        raise BadInput("instance and host name are one line each")
    files = {"meta-data": f"instance-id: {instance}\nlocal-hostname: {hostname}\n", "user-data": user_data}
    path.unlink(missing_ok=True)
    toolbox.run("mkfs.vfat", "-C", "-n", "CIDATA", path, str(_SIZE // 1024))
    with tempfile.TemporaryDirectory(prefix="bedplate-seed-") as folder:
        for name, text in files.items():
            source = Path(folder) / name
            source.write_text(text)
            toolbox.run("mcopy", "-i", path, source, f"::/{name}", env={"MTOOLSRC": os.devnull})
    return Drive(path, SERIAL)
