"""Credentials that make a stock image report and let us in, without a trace of us in the image.

Sources: systemd.system-credentials(7), systemd-debug-generator(8) for ``systemd.extra-unit.*`` and
``systemd.unit-dropin.*`` (systemd 256 and later).
"""

from __future__ import annotations

from importlib.resources import files

from bedplate.model.errors import BadInput

REPORT_UNIT = "bedplate-report.service"

# The unit waits for the end of the boot itself, so it must not be a part of it: no ordering before any target, and
# Type=exec so that its start job is done at once.
_UNIT = """\
[Unit]
Description=Boot report for the host
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
After=sysinit.target

[Service]
Type=exec
ImportCredential=bedplate.report
ExecStart=/bin/bash %d/bedplate.report
StandardOutput=null
StandardError=journal
"""


def report_credentials() -> dict[str, bytes]:
    """What makes a booted image send a report on the port ``bedplate.report``."""
    script = files("bedplate.emulator").joinpath("guest_report.sh").read_bytes()
    return {
        "bedplate.report": script,
        f"systemd.extra-unit.{REPORT_UNIT}": _UNIT.encode(),
        "systemd.unit-dropin.multi-user.target~bedplate-report": f"[Unit]\nWants={REPORT_UNIT}\n".encode(),
    }


def ssh_credentials(public_key: str) -> dict[str, bytes]:
    """What lets the holder of an SSH key in as root.

    Raises:
        BadInput: not one line of an OpenSSH public key.
    """
    line = public_key.strip()
    if "\n" in line or len(line.split()) < 2 or not line.startswith(("ssh-", "ecdsa-", "sk-")):
        raise BadInput("not an OpenSSH public key", remedy="give the line of a .pub file")
    return {"ssh.authorized_keys.root": f"{line}\n".encode()}
