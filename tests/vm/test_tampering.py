"""An image that was changed after it was signed does not start; each test is named after what was done to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.emulator import tamper
from bedplate.emulator.boot import BootFailed
from bedplate.flows.boot import boot_image, machine_options
from bedplate.trust.authenticode import unsigned_bytes
from bedplate.trust.keys import KeyStore

pytestmark = pytest.mark.vm


@pytest.fixture
def refused(workspace, container_image, tmp_path):
    """Boots a changed copy and gives the stable id of why it failed."""

    def boot(path):
        options = replace(machine_options(workspace, container_image), image=path)
        with pytest.raises(BootFailed) as caught:
            boot_image(workspace, container_image, options=options, with_container=False)
        return caught.value.id

    return boot


def test_byte_flipped_in_root(container_image, tmp_path, refused):
    copy = tmp_path / "root.raw"
    tamper.flip_in_root(container_image.disk, copy)
    assert refused(copy) == "verity-corruption"


def test_byte_flipped_in_verity_data(container_image, tmp_path, refused):
    copy = tmp_path / "verity.raw"
    tamper.flip_in_verity(container_image.disk, copy)
    assert refused(copy) in ("verity-corruption", "verity-open")


def test_byte_flipped_in_uki(container_image, tmp_path, refused, toolbox):
    copy = tmp_path / "uki.raw"
    tamper.flip_in_uki(container_image.disk, copy, toolbox)
    assert refused(copy) == "secure-boot-denied"


def test_signed_by_a_foreign_key(container_image, tmp_path, refused, toolbox):
    key, certificate = KeyStore(tmp_path / "foreign").boot_key_paths()
    plain = unsigned_bytes(tamper.read_uki(container_image.disk, toolbox))
    forged = tamper.sign_foreign(plain, key, certificate, toolbox)
    copy = tmp_path / "foreign.raw"
    tamper.replace_uki(container_image.disk, copy, forged, toolbox)
    assert refused(copy) == "secure-boot-denied"
