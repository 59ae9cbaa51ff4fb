"""A server's base image runs as a container, in the container host of the same distribution."""

from __future__ import annotations

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
