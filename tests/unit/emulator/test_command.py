"""The QEMU command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.emulator.command import TCG_CPU, Places, machine_command
from bedplate.emulator.machine import write_credentials
from bedplate.emulator.options import Acceleration, Accelerator, Cable, Drive, Forward, MachineOptions
from bedplate.model.errors import BadInput

TCG = Accelerator(Acceleration.TCG, "")
KVM = Accelerator(Acceleration.KVM, "")
PLACES = Places(
    disk=Path("/s/disk.qcow2"),
    code=Path("/t/code.fd"),
    variables=Path("/s/vars.fd"),
    data=(Path("/t/bios"),),
    console=3,
    report=4,
    qmp=5,
    tpm=6,
)


def values(command: list[str], option: str) -> list[str]:
    return [command[place + 1] for place, word in enumerate(command) if word == option]


def test_secure_boot_needs_smm_and_flash_that_only_smm_writes() -> None:
    command = machine_command(MachineOptions(Path("i")), TCG, PLACES)
    assert "smm=on" in values(command, "-machine")[0]
    assert "driver=cfi.pflash01,property=secure,value=on" in values(command, "-global")


def test_firmware_code_cannot_be_written() -> None:
    drives = values(machine_command(MachineOptions(Path("i")), TCG, PLACES), "-drive")
    assert [drive for drive in drives if "/t/code.fd" in drive and "readonly=on" in drive]


def test_further_drives_are_read_only_and_named() -> None:
    options = MachineOptions(Path("i"), drives=(Drive(Path("/a,b.tar"), "oci"),))
    command = machine_command(options, TCG, PLACES)
    assert any("file=/a,,b.tar" in drive and "readonly=on" in drive for drive in values(command, "-drive"))
    assert any("serial=oci" in device for device in values(command, "-device"))


def test_forwards_listen_on_the_loopback_address_only() -> None:
    options = MachineOptions(Path("i"), forwards=(Forward(4022, 22),))
    assert values(machine_command(options, TCG, PLACES), "-netdev") == ["user,id=net0,hostfwd=tcp:127.0.0.1:4022-:22"]


def test_no_network_means_no_card() -> None:
    command = machine_command(MachineOptions(Path("i"), network=False), TCG, PLACES)
    assert values(command, "-nic") == ["none"]
    assert not values(command, "-netdev")


@pytest.mark.parametrize(("accelerator", "cpu"), [(KVM, "host"), (TCG, TCG_CPU)])
def test_accelerator_chooses_the_processor(accelerator: Accelerator, cpu: str) -> None:
    command = machine_command(MachineOptions(Path("i")), accelerator, PLACES)
    assert values(command, "-cpu") == [cpu]
    assert values(command, "-accel")[0].startswith(accelerator.kind.value)


@pytest.mark.parametrize(("accelerator", "wanted", "count"), [(KVM, None, "2"), (TCG, None, "1"), (TCG, 4, "4")])
def test_software_emulation_has_one_processor_unless_told_otherwise(
    accelerator: Accelerator, wanted: int | None, count: str
) -> None:
    command = machine_command(MachineOptions(Path("i"), cpus=wanted), accelerator, PLACES)
    assert values(command, "-smp") == [count]


def test_restart_off_ends_the_machine_on_reset() -> None:
    command = machine_command(MachineOptions(Path("i"), restart=False), TCG, PLACES)
    assert values(command, "-action") == ["reboot=shutdown"]


def test_credentials_are_in_private_files_and_not_on_the_command_line(tmp_path: Path) -> None:
    options = MachineOptions(Path("i"), credentials={"passwd.root": b"a, b\n"})
    (path,) = write_credentials(options, tmp_path)
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text() == "io.systemd.credential.binary:passwd.root=YSwgYgo="


def test_credential_too_large_for_the_firmware_tables(tmp_path: Path) -> None:
    options = MachineOptions(Path("i"), credentials={"big": bytes(40 << 10)})
    with pytest.raises(BadInput, match="'big' has 40960 bytes"):
        write_credentials(options, tmp_path)


def test_a_cable_is_a_card_of_its_own_between_two_sockets() -> None:
    cable = Cable(Path("/w/a,1"), Path("/w/b"), "52:54:00:00:00:0a")
    command = machine_command(MachineOptions(Path("i"), cable=cable), TCG, PLACES)
    assert values(command, "-netdev")[1] == (
        "dgram,id=cable,local.type=unix,local.path=/w/a,,1,remote.type=unix,remote.path=/w/b"
    )
    assert "virtio-net-pci,netdev=cable,mac=52:54:00:00:00:0a,romfile=" in values(command, "-device")
    alone = machine_command(MachineOptions(Path("i"), network=False, cable=cable), TCG, PLACES)
    assert len(values(alone, "-netdev")) == 1
    assert "-nic" not in alone
