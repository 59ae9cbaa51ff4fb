"""A kernel's signed image by itself, for a package: it fits every content of a root, so it can come after it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from bedplate.compose.bootchain import BootChain
from bedplate.compose.clock import Clock
from bedplate.compose.groups import Unpacked
from bedplate.compose.inputs import BuildInputs
from bedplate.compose.roots import ext4
from bedplate.compose.stages.identity import ImageName, kernel_os_release
from bedplate.compose.uki import Uki
from bedplate.model.definition.track import Kernel, Root
from bedplate.model.errors import BadInput
from bedplate.model.package import PackageContent

# Kinds of root whose options do not depend on what is in them: how the initrd opens them, and those options.
_OPENERS: Mapping[str, tuple[Callable[[Root], str], tuple[str, ...]]] = {"ext4": (ext4.opener, ext4.OPTIONS)}


@dataclass(frozen=True, slots=True)
class KernelImage:
    """One kernel as a signed image. ``version`` is the kernel's name for itself (``uname -r``), ``signed`` the bytes of
    the image with its signature, ``uki`` what it is without."""

    version: str
    uki: Uki
    signed: bytes


def flavour_of(kernel: Kernel, package: str) -> str | None:
    """The flavour of ``kernel`` that a package of this name brings; None for none."""
    return kernel.flavour if kernel.flavour and fnmatchcase(package, kernel.package) else None


def kernel_image(
    inputs: BuildInputs, kernel: PackageContent, release: str, cache: Path, clock: Clock, jobs: int
) -> KernelImage:
    """The signed image of ``kernel`` for the root of ``inputs.track``.

    Args:
        inputs: The image's, whose packages bring the initrd and the stub. Its ``sign_efi`` must give the same bytes for
            the same program: they are a part of the image's package database.
        release: Version and release of the package the image is for.

    Raises:
        BadInput: the track's root is one that a kernel image names by its content.
    """
    where = f"track {inputs.track.id}"
    if inputs.track.root.filesystem not in _OPENERS:
        raise BadInput(
            f"a kernel for a root of the kind {inputs.track.root.filesystem!r} cannot be a package of its own",
            where=where,
            remedy="leave kernel.flavour empty: its signed image names the root by its content",
        )
    track = inputs.track
    opener, options = _OPENERS[track.root.filesystem]
    others = [one for one in inputs.packages if not _brings_a_kernel(one)]
    chain = BootChain(replace(inputs, packages=[*others, kernel]), cache, clock, Unpacked(), jobs)
    name = ImageName(
        inputs.distro.id, inputs.distro.name, "", inputs.distro.home_url, track.id, track.title, "", ""
    )  # fmt: skip
    version = chain.modules.version
    uki = chain.uki(chain.parts(opener(track.root), kernel_os_release(name, version, release)), options)
    with tempfile.TemporaryDirectory(prefix="bedplate-kernel-") as folder:
        unsigned, signed = Path(folder) / "unsigned", Path(folder) / "signed"
        unsigned.write_bytes(uki.data)
        inputs.keys.sign_efi(unsigned, signed)
        return KernelImage(version, uki, signed.read_bytes())


def _brings_a_kernel(package: PackageContent) -> bool:
    return any(file.path.startswith("/boot/vmlinuz-") for file in package.files)
