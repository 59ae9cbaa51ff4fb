"""The unified kernel image: kernel, initrd, command line and their measurements in one EFI program.

Sources: the UAPI group's UKI specification, systemd-stub(7). The unsigned bytes are a pure function of the inputs and
the PCR key's (deterministic) signature; the Secure Boot signature holds a time and is attached as a step of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bedplate.compose import pcr, pe
from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox

STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_OF_THE_BUILD = ("roothash=", "root=", "rootfstype=", "init=", "rdinit=")
LOADER = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"


@dataclass(frozen=True, slots=True)
class Uki:
    """The unsigned image and the values of PCR 11 (hex, by phase path) it leads to."""

    data: bytes
    command_line: str
    pcr11: dict[str, str]


def command_line(options: Sequence[str], root: Sequence[str]) -> str:
    """The signed command line: the track's options, then those that name the root.

    Raises:
        BadInput: an option that belongs to the build, or with white space.
    """
    wrong = [option for option in options if option.startswith(_OF_THE_BUILD) or option.split() != [option]]
    if wrong:
        raise BadInput(
            "these options cannot stand in kernel.command_line",
            details=wrong,
            remedy="the root is named by the build; write one option an entry",
        )
    return " ".join([*options, *root])


def public_key_of(certificate: bytes) -> bytes:
    """PEM of the public key in a PEM certificate."""
    key = x509.load_pem_x509_certificate(certificate).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def build_uki(
    stub: bytes,
    kernel: bytes,
    initrd: bytes,
    os_release: bytes,
    kernel_version: str,
    cmdline: str,
    pcr_public_key: bytes,
    pcr_sign: pcr.Sign,
) -> Uki:
    """Make the unsigned image.

    Args:
        pcr_public_key: PEM; also put into the image, where the node finds what to seal to.
        pcr_sign: See :func:`bedplate.compose.pcr.signature_json`.
    """
    content = [
        pe.Section(".osrel", os_release),
        pe.Section(".cmdline", cmdline.encode()),
        pe.Section(".uname", kernel_version.encode()),
        pe.Section(".pcrpkey", pcr_public_key),
        pe.Section(".initrd", initrd),
        pe.Section(".linux", kernel),
    ]
    own = {section.name: section.data for section in pe.sections(stub, STUB) if section.name == ".sbat"}
    values = pcr.expected({**own, **{section.name: section.data for section in content}})
    signature = pe.Section(".pcrsig", pcr.signature_json(values, pcr_public_key, pcr_sign))
    # The kernel comes last: old kernels unpack themselves behind their own section.
    image = pe.add_sections(stub, [*content[:-1], signature, content[-1]], STUB)
    return Uki(image, cmdline, values)


def sign_efi(toolbox: Toolbox, unsigned: Path, key: Path, certificate: Path, signed: Path) -> None:
    """Attach a Secure Boot signature (Authenticode) to an EFI program: sbsign(1).

    Raises:
        ToolError: sbsign failed.
    """
    toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", signed, unsigned)
