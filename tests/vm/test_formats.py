"""The server's other forms are read by what they are for: a container host, and what imports disks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine
from bedplate.emulator.options import Drive, MachineOptions
from bedplate.emulator.ssh import wait_until_reachable, with_ssh
from bedplate.flows.boot import machine_options
from bedplate.flows.formats import add_formats
from bedplate.flows.tools import prepare_tools
from bedplate.flows.tracks import build_tracks
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.vm

_ASK = """
set -e
disk=$(for d in /sys/block/*; do [ "$(cat $d/serial 2>/dev/null)" = base-image ] && echo /dev/${d##*/}; done)
systemctl start containerd.service
ctr images import $disk >/dev/null
ref=$(ctr images list -q)
echo "ref $ref"
ctr run --rm $ref one /usr/bin/bash -c '
  . /etc/os-release; echo "track $VARIANT_ID"; echo "packages $(rpm -qa | wc -l)"
  python3 -c "import ssl; print(\\"python\\", ssl.OPENSSL_VERSION.split()[0])"
  [ ! -e /usr/lib/modules ] && echo "no modules"'
"""


def in_the_host(options: MachineOptions, archive: Path, toolbox: Toolbox, scratch: Path) -> str:
    """Boot a container host with an OCI archive as a second disk, and what :data:`_ASK` says there."""
    wanted = replace(options, drives=(Drive(archive, "base-image"),), memory_mib=3072, disk_bytes=12 << 30)
    wanted, access = with_ssh(wanted, scratch)
    with Machine(wanted, choose(toolbox), toolbox) as machine:
        assert wait_until_reachable(machine, access, 900)
        return toolbox.run(*access.command(), _ASK).text


def test_containerd_runs_the_base_image(workspace, container_image, tmp_path):
    server = build_tracks(workspace, ["server"]).builds[0]
    server = add_formats(workspace, server, ["oci"])
    archive = tmp_path / "base"
    shutil.copyfile(server.build.path("base.oci.tar"), archive)
    said = in_the_host(machine_options(workspace, container_image), archive, prepare_tools(workspace), tmp_path)
    lines = said.splitlines()
    assert f"ref localhost/bedplate-server:{server.build.version}" in lines
    assert "track server" in lines and "python OpenSSL" in lines and "no modules" in lines
    assert int(next(line for line in lines if line.startswith("packages ")).split()[1]) > 100


def test_qemu_reads_the_disks_and_the_fixed_one_is_as_azure_wants_it(workspace):
    server = build_tracks(workspace, ["server"]).builds[0]
    server = add_formats(workspace, server, ["qcow2", "vhd"])
    tools = prepare_tools(workspace)
    disk, qcow2, vhd = (server.build.path(name) for name in ("disk.raw", "disk.qcow2", "disk.vhd"))
    checked = json.loads(tools.run("qemu-img", "check", "--output=json", qcow2).text)
    assert not any(checked.get(problem) for problem in ("corruptions", "leaks", "check-errors"))
    tools.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, qcow2)
    tools.run("qemu-img", "compare", "-f", "raw", "-F", "vpc", disk, vhd)
    # Azure: fixed, a whole number of MiB, and the footer's size is the disk's.
    size = json.loads(tools.run("qemu-img", "info", "-f", "vpc", "--output=json", vhd).text)["virtual-size"]
    assert size % (1 << 20) == 0 and vhd.stat().st_size == size + 512
    with vhd.open("rb") as stream:
        stream.seek(-512, 2)
        footer = stream.read()
    assert footer[:8] == b"conectix" and int.from_bytes(footer[60:64], "big") == 2
    assert int.from_bytes(footer[48:56], "big") == size
