"""Kernels as packages: which package is of which flavour, and what its image says of itself."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from bedplate.compose import uki
from bedplate.compose.kernels import flavour_of
from bedplate.compose.stages.identity import ImageName, kernel_os_release
from bedplate.model.definition.track import Kernel
from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox
from bedplate.verify.inspection import parse_os_release

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
KERNEL = {"package": "linux-image-*-cloud-amd64", "command_line": ["quiet"], "initrd_modules": []}


def test_a_package_is_of_the_flavour_whose_pattern_it_matches() -> None:
    kernel = Kernel.model_validate({**KERNEL, "flavour": "cloud"})
    assert flavour_of(kernel, "linux-image-6.12.9-cloud-amd64") == "cloud"
    assert flavour_of(kernel, "linux-image-6.12.9-amd64") is None


def test_without_a_flavour_no_kernel_is_a_package() -> None:
    assert flavour_of(Kernel.model_validate(KERNEL), "linux-image-6.12.9-cloud-amd64") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"flavour": "../x"},
        {"revision": 0},
        {"profiles": [{"id": "main", "title": "x", "command_line": []}]},
        {"profiles": [{"id": "x", "title": 'a"\nID=b', "command_line": []}]},
    ],
)
def test_names_that_mean_two_things_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Kernel.model_validate({**KERNEL, **wrong})


def test_a_kernel_in_a_package_says_its_track_and_release_and_no_image() -> None:
    name = ImageName("bedplate", "Bedplate Linux", "", "", "server", "Server", "", "")
    own = parse_os_release(kernel_os_release(name, "6.12", "6.12-1.1").decode())
    assert own["IMAGE_ID"] == "bedplate-server"
    assert own["IMAGE_VERSION"] == "6.12-1.1"
    # It belongs to the track and not to one image.
    assert "BUILD_ID" not in own and "VERSION_ID" not in own


@pytest.mark.tools
def test_a_finished_image_is_read_as_it_was_made(toolbox: Toolbox) -> None:
    stub = toolbox.tree.path(STUB).read_bytes()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(data: bytes) -> bytes:
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    profile = uki.Profile("other", "another way", "quiet preempt=full")
    made = uki.build_uki(stub, stub, b"initrd", b"ID=x\nIMAGE_ID=y\n", "6.12", "quiet", public, sign, [profile])
    read = uki.read_uki(made.data, "uki")
    assert (read.command_line, read.pcr11, read.profiles) == (made.command_line, made.pcr11, made.profiles)
    with pytest.raises(BadInput, match="not a unified kernel image"):
        uki.read_uki(stub, "stub")
