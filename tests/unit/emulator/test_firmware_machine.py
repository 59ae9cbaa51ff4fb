"""Real firmware under emulation: Secure Boot lets our key in and nobody else's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from virt.firmware.varstore.edk2 import Edk2VarStore

from bedplate.emulator.boot import diagnose
from bedplate.emulator.firmware import write_variables
from bedplate.emulator.machine import Machine, MachineState
from bedplate.emulator.options import Acceleration, Accelerator, MachineOptions
from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox
from bedplate.trust.keys import KeyStore

pytestmark = pytest.mark.tools

LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
TCG = Accelerator(Acceleration.TCG, "test")
# Far above what it takes on an idle machine; a test that passes never waits this long.
SECONDS = 60.0
# The firmware says "starting" only after it has loaded, and so verified, the program.
STARTED = re.compile(rb"BdsDxe: starting Boot")
ENDED = re.compile(rb"BdsDxe: starting Boot|Access Denied|No bootable option|Not Found")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("own") / "keys")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("foreign") / "keys")


def disk_with_loader(toolbox: Toolbox, directory: Path, signer: KeyStore) -> Path:
    """A FAT disk whose only program is a boot loader signed by ``signer``."""
    signed, disk = directory / "loader.efi", directory / "disk.img"
    key, certificate = signer.boot_key_paths()
    toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", signed, toolbox.tree.path(LOADER))
    with disk.open("wb") as stream:
        stream.truncate(64 << 20)
    toolbox.run("mformat", "-i", disk, "-F", "::")
    toolbox.run("mmd", "-i", disk, "::/EFI", "::/EFI/BOOT")
    toolbox.run("mcopy", "-i", disk, signed, "::/EFI/BOOT/BOOTX64.EFI")
    return disk


def console_of(toolbox: Toolbox, disk: Path, own: KeyStore, *, tpm: bool = False) -> bytes:
    options = MachineOptions(
        disk, memory_mib=512, cpus=1, tpm=tpm, network=False, certificates=(own.signer("boot").public,)
    )
    with Machine(options, TCG, toolbox) as machine:
        assert machine.console.wait_for(ENDED, SECONDS), machine.console.data[-2000:]
        assert machine.processor_seconds > 0.1
        return machine.console.data


def test_loader_signed_by_our_key_starts(toolbox: Toolbox, own: KeyStore, tmp_path: Path) -> None:
    console = console_of(toolbox, disk_with_loader(toolbox, tmp_path, own), own, tpm=True)
    assert STARTED.search(console)


def test_loader_signed_by_a_foreign_key_is_refused(
    toolbox: Toolbox, own: KeyStore, foreign: KeyStore, tmp_path: Path
) -> None:
    console = console_of(toolbox, disk_with_loader(toolbox, tmp_path, foreign), own)
    assert not STARTED.search(console)
    found = diagnose(console)
    assert found is not None
    assert found.id == "secure-boot-denied"


def test_only_our_certificate_is_enrolled(toolbox: Toolbox, own: KeyStore, tmp_path: Path) -> None:
    pem = own.signer("boot").public
    write_variables(toolbox.tree, tmp_path / "vars.fd", [pem])
    variables = Edk2VarStore(str(tmp_path / "vars.fd")).get_varlist()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    for name in ("PK", "KEK", "db"):
        assert variables[name].data.count(der) == 1
        assert len(variables[name].data) < len(der) + 100, f"{name} holds more than our certificate"


def test_something_else_than_a_certificate_is_refused(toolbox: Toolbox, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a PEM certificate"):
        write_variables(toolbox.tree, tmp_path / "vars.fd", [b"garbage"])
    assert not (tmp_path / "vars.fd").exists()


def test_state_is_made_once_and_the_image_is_never_written(toolbox: Toolbox, own: KeyStore, tmp_path: Path) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(b"original" * 512)
    options = MachineOptions(image, certificates=(own.signer("boot").public,), disk_bytes=1 << 30)
    state = MachineState(tmp_path / "state")
    state.prepare(options, toolbox)
    toolbox.run("qemu-io", "-f", "qcow2", "-c", "write -P 0x41 0 4096", state.overlay)
    state.prepare(options, toolbox)
    assert b"A" * 4096 in state.overlay.read_bytes()
    assert image.read_bytes() == b"original" * 512


def test_missing_image_is_named(toolbox: Toolbox, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such image"):
        MachineState(tmp_path / "state").prepare(MachineOptions(tmp_path / "none.raw"), toolbox)
