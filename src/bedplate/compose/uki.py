"""The unified kernel image: kernel, initrd, command line and their measurements in one EFI program.

Sources: the UAPI group's UKI specification, systemd-stub(7). The unsigned bytes are a pure function of the inputs and
the PCR key's (deterministic) signature; the Secure Boot signature holds a time and is attached as a step of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bedplate.compose import pcr, pe
from bedplate.model.errors import BadInput
from bedplate.model.pe import parse_pe
from bedplate.toolchain.run import Toolbox

STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_OF_THE_BUILD = ("roothash=", "root=", "rootfstype=", "init=", "rdinit=")
_NEVER_OTHERS = ("roothash=", "init=", "rdinit=")
# Without an ID: systemd-boot calls the first entry by the name of the image alone.
_FIRST_PROFILE = b"# as the image says\n"
LOADER = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"


@dataclass(frozen=True, slots=True)
class Profile:
    """A further way to start the image: the ``id`` and ``title`` of its entry, and the whole command line."""

    id: str
    title: str
    command_line: str


@dataclass(frozen=True, slots=True)
class Uki:
    """The unsigned image and the values of PCR 11 (hex, by phase path) it leads to; ``profiles`` holds those of each
    further profile by its id."""

    data: bytes
    command_line: str
    pcr11: dict[str, str]
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)


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


def profile_line(line: str, options: Sequence[str]) -> str:
    """The command line of a profile: the image's, and ``options`` behind it.

    Raises:
        BadInput: an option that says what is trusted, or with white space.
    """
    wrong = [option for option in options if option.startswith(_NEVER_OTHERS) or option.split() != [option]]
    if wrong:
        raise BadInput(
            "these options cannot stand in the command_line of a profile",
            details=wrong,
            remedy="what is trusted is the same for every entry of an image; write one option an entry",
        )
    return " ".join([line, *options])


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
    profiles: Sequence[Profile] = (),
) -> Uki:
    """Make the unsigned image. Its first entry has ``cmdline``; each of ``profiles`` is one more. The signed policies
    are those of all of them.

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
    base = {**own, **{section.name: section.data for section in content}}
    first = {".profile": _FIRST_PROFILE} if profiles else {}
    values = pcr.expected({**base, **first})
    more = {one.id: _profile_sections(one, os_release) for one in profiles}
    others = {name: pcr.expected({**base, **sections}) for name, sections in more.items()}
    all_values = [values, *others.values()]
    signed = {f"{number} {phase}": value for number, by in enumerate(all_values) for phase, value in by.items()}
    signature = pe.Section(".pcrsig", pcr.signature_json(signed, pcr_public_key, pcr_sign))
    # The kernel comes last of what all entries share: what stands behind a .profile is of that entry alone.
    behind = [pe.Section(name, data) for sections in (first, *more.values()) for name, data in sections.items()]
    image = pe.add_sections(stub, [*content[:-1], signature, content[-1], *behind], STUB)
    return Uki(image, cmdline, values, others)


def _profile_sections(profile: Profile, os_release: bytes) -> dict[str, bytes]:
    # A sort key of its own: systemd-boot 257 takes profiles of one key in no order, and the first entry must be first.
    # It also gives all entries of an image on trial one id, so that the first is what that id means.
    name = re.sub(rb"^IMAGE_ID=(.*)$", rb"IMAGE_ID=\1-" + profile.id.encode(), os_release, flags=re.M)
    text = f'ID={profile.id}\nTITLE="{profile.title}"\n'
    return {".profile": text.encode(), ".osrel": name, ".cmdline": profile.command_line.encode()}


def read_uki(signed: bytes, where: str) -> Uki:
    """What a finished image is: its bytes without the signature, its command line, and the values of PCR 11.

    Raises:
        BadInput: not an image made by :func:`build_uki`.
    """
    program = parse_pe(signed, where)
    groups: list[dict[str, bytes]] = [{}]
    for section in program.sections:
        if section.name == ".profile":
            groups.append({})
        groups[-1][section.name] = program.data[section.offset : section.offset + section.size]
    base, first, *others = groups if len(groups) > 1 else [*groups, {}]
    if ".linux" not in base or ".cmdline" not in base:
        raise BadInput("not a unified kernel image", where=where)
    named = [re.search(rb"^ID=(.*)$", own[".profile"], re.M) for own in others]
    return Uki(
        program.unsigned(),
        base[".cmdline"].decode(),
        pcr.expected({**base, **first}),
        {
            name[1].decode() if name else "": pcr.expected({**base, **own})
            for name, own in zip(named, others, strict=True)
        },
    )


def sign_efi(toolbox: Toolbox, unsigned: Path, key: Path, certificate: Path, signed: Path) -> None:
    """Attach a Secure Boot signature (Authenticode) to an EFI program: sbsign(1).

    Raises:
        ToolError: sbsign failed.
    """
    toolbox.run("sbsign", "--key", key, "--cert", certificate, "--output", signed, unsigned)
