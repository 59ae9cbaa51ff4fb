"""The container host boots, is healthy, and keeps what it promises: judged from inside by the host itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.emulator.accelerator import choose
from bedplate.emulator.machine import Machine, MachineState
from bedplate.emulator.ssh import wait_until_reachable, with_ssh
from bedplate.flows.boot import boot_image, check_report, machine_options

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return MachineState(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def report(workspace, container_image, state):
    return boot_image(workspace, container_image, state=state)


def test_it_runs_without_a_failed_unit(report):
    assert report.state == "running"
    assert report.failed_units == ()
    assert report.journal_errors == ()


def test_every_link_of_the_boot_chain_holds(report, container_image):
    assert report.secure_boot
    assert report.verity
    assert report.root_hash == container_image.build.root_hash
    assert report.tpm
    assert report.pcr11_matches is True


def test_the_kernel_is_locked_down(report):
    assert report.lockdown == "integrity"
    assert report.module_signatures_enforced


def test_var_is_sealed_to_the_tpm(report):
    assert report.var_device == "encrypted"


def test_a_container_really_ran(report):
    assert report.containers_ran is True


def test_nothing_about_it_is_wrong_and_nothing_listens_that_the_track_does_not_allow(report, workspace):
    assert check_report(workspace, "container", report) == []


def test_a_second_boot_finds_its_var_again(workspace, container_image, state, report):
    again = boot_image(workspace, container_image, state=state, with_container=False)
    assert again.state == "running"
    assert again.var_device == "encrypted"
    assert again.pcr11_matches is True


def test_without_a_tpm_var_is_plain_and_said_so(workspace, container_image):
    options = replace(machine_options(workspace, container_image), tpm=False)
    seen = bytearray()
    report = boot_image(workspace, container_image, options=options, with_container=False, on_console=seen.extend)
    assert report.state == "running"
    assert report.failed_units == ()
    assert report.var_device == "plain"
    assert b"not encrypted" in bytes(seen)


def test_a_credential_switches_ssh_on_and_a_console_has_a_prompt(workspace, container_image, toolbox, tmp_path):
    options, access = with_ssh(machine_options(workspace, container_image), tmp_path)
    with Machine(options, choose(toolbox), toolbox) as machine:
        assert wait_until_reachable(machine, access, 600.0)
        command = access.command()
        done = toolbox.run(command[0], *command[1:], "id -u; cat /usr/lib/os-release")
        assert done.text.splitlines()[0] == "0"
        assert "IMAGE_ID=" in done.text
        assert b"login:" in machine.console.data
