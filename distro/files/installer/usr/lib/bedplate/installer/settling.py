"""What the answers say, put where the new system's first boot looks: a seed for cloud-init, repart.d for swap."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from .answers import Answers, Network
from .disks import partition
from .writing import Failed

_SEED = "var/lib/cloud/seed/nocloud"
_NETWORK = "etc/systemd/network/50-installed.network"


def seed_files(answers: Answers) -> dict[str, str]:
    """Files of the new system by path: text."""
    short = answers.hostname.split(".")[0]
    user = {
        # The name is on the disk already, and nothing has to be up for it.
        "preserve_hostname": True,
        "users": [
            {
                "name": answers.user, "groups": ["adm", "systemd-journal"], "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
                "shell": "/bin/bash", "lock_passwd": True, "ssh_authorized_keys": answers.ssh_keys,
            }
        ],
    }  # fmt: skip
    names = " ".join(dict.fromkeys((answers.hostname, short)))
    files = {
        "etc/hostname": f"{short}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {names}\n::1 localhost ip6-localhost ip6-loopback\n",
        f"{_SEED}/meta-data": json.dumps({"instance-id": f"installed-{uuid.uuid4()}"}) + "\n",
        f"{_SEED}/user-data": "#cloud-config\n" + json.dumps(user, indent=1) + "\n",
        # cloud-init cannot match an interface by a pattern: networkd is told directly.
        f"{_SEED}/network-config": json.dumps({"config": "disabled"}) + "\n",
        _NETWORK: network_file(answers.network),
    }
    if answers.swap_mib:
        files["etc/repart.d/60-swap.conf"] = (
            f"[Partition]\nType=swap\nLabel=swap\nFormat=swap\nSizeMinBytes={answers.swap_mib}M\n"
            f"SizeMaxBytes={answers.swap_mib}M\n"
        )
    return files


def network_file(net: Network) -> str:
    """The .network file for what the answers say (systemd.network(5))."""
    lines = ["[Match]", f"Name={net.name}", "Type=ether", "", "[Network]"]
    if not net.addresses:
        lines.append("DHCP=yes")
    lines += [f"Address={one}" for one in net.addresses]
    lines += [f"Gateway={net.gateway}"] if net.gateway else []
    lines += [f"DNS={one}" for one in net.dns]
    return "\n".join(lines) + "\n"


def settle(answers: Answers, disk: Path, label: str = "root", seconds: float = 60.0) -> None:
    """Write the files to the new system's root.

    Raises:
        Failed: its partition does not appear or cannot be mounted.
    """
    end = time.monotonic() + seconds
    while (device := partition(label, of=disk)) is None or not device.exists():
        if time.monotonic() > end:
            raise Failed(f"the new partitions of {disk} did not appear")
        time.sleep(0.2)
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(["mount", "-t", "ext4", device, place], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"the new system cannot be mounted: {done.stderr.strip()}")
        try:
            write_files(answers, Path(place))
        finally:
            subprocess.run(["umount", place], check=True)


def write_files(answers: Answers, root: Path) -> None:
    """Put the files below ``root``, readable by root alone."""
    for name, text in seed_files(answers).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            os.fchmod(stream.fileno(), 0o644 if name.startswith("etc/") else 0o600)
            stream.write(text)
            os.fsync(stream.fileno())
    if answers.swap_mib == 0:
        (root / "etc/repart.d").mkdir(parents=True, exist_ok=True)
        (root / "etc/repart.d/60-swap.conf").symlink_to("/dev/null")
