"""The boot chain of an image: kernel with its modules, initrd, UKI and boot loader, from the locked packages."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from bedplate.compose.clock import Clock
from bedplate.compose.groups import Unpacked
from bedplate.compose.initrd import build_initrd, initrd_key, initrd_packages
from bedplate.compose.inputs import BuildInputs
from bedplate.compose.modules import ModuleIndex, index_from_json, index_to_json, load_order, read_index
from bedplate.compose.stages.cache import write_entry
from bedplate.compose.stages.identity import ImageName, os_release
from bedplate.compose.uki import LOADER, STUB, Profile, Uki, build_uki, command_line, profile_line, read_uki
from bedplate.model.digest import canonical_json, identity
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.package import PackageContent
from bedplate.model.pe import parse_pe

INITRD, UKI_UNSIGNED, UKI, LOADER_SIGNED = (
    "initrd.cpio.zst", "uki.unsigned.efi", "uki.efi", "systemd-bootx64.efi",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BootParts:
    """What goes into a UKI and does not depend on the root file system."""

    stub: bytes
    kernel: bytes
    initrd: bytes
    os_release: bytes


_PACKAGED = re.compile(r"/usr/lib/modules/(?P<entry>[^/]+)/uki\.efi")


def entry_of(packages: Sequence[PackageContent], where: str) -> str:
    """The name of the boot entry that the one package among ``packages`` with a signed image brings.

    Raises:
        BadInput: there is none, or more than one.
    """
    found = [match["entry"] for package in packages for file in package.files if (match := _PACKAGED.match(file.path))]
    if len(found) != 1:
        raise BadInput(f"{len(found)} packages bring a signed kernel image, not one", where=where)
    return found[0]


def packaged_uki(packages: Sequence[PackageContent], where: str) -> tuple[bytes, Uki]:
    """The signed image out of the package that brings it, and what it is.

    Raises:
        BadInput: see :func:`entry_of`.
    """
    path = f"/usr/lib/modules/{entry_of(packages, where)}/uki.efi"
    data = next(data for package in packages for _, data in package.read(path.__eq__))
    return data, read_uki(data, where)


@dataclass
class BootChain:
    """Makes the boot chain of one build; what can be kept is kept below ``cache``."""

    inputs: BuildInputs
    cache: Path
    clock: Clock
    unpacked: Unpacked
    jobs: int

    @property
    def where(self) -> str:
        """Named in errors."""
        return f"track {self.inputs.track.id}"

    @cached_property
    def kernel(self) -> PackageContent:
        """The one package that brings the kernel.

        Raises:
            BadInput: there is none, or more than one.
        """
        pattern = self.inputs.track.kernel.package
        found = [
            p
            for p in self.inputs.packages
            if fnmatchcase(p.nevra.name, pattern) and any(f.path.startswith("/boot/vmlinuz-") for f in p.files)
        ]
        if len(found) != 1:
            names = ", ".join(p.nevra.name for p in found) or "no package"
            raise BadInput(
                f"kernel.package matches {names} with a kernel",
                where=self.where,
                remedy="name exactly one locked package that brings /boot/vmlinuz-VERSION",
            )
        return found[0]

    @cached_property
    def modules(self) -> ModuleIndex:
        """The modules the track lists, for root and initrd, and all they need."""
        kernel = self.inputs.track.kernel
        wanted = [*kernel.modules, *kernel.initrd_modules, *kernel.encryption_modules]
        place = self.cache / "modules" / identity(["module index", 2, self.kernel.digest, wanted])
        try:
            return index_from_json(json.loads(place.read_bytes()))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            index = read_index(self.kernel, wanted, self.unpacked, self.jobs)
            write_entry(place, canonical_json(index_to_json(index)))
            return index

    def prepare(self, opener: str, name: ImageName, folder: Path) -> BootParts | None:
        """Everything that is known before the root file system is: the parts of a UKI, None where a package brings it
        whole; and in ``folder`` the signed boot loader."""
        loader = folder / f".{LOADER_SIGNED}"
        loader.write_bytes(self.file(LOADER))
        self.inputs.keys.sign_efi(loader, folder / LOADER_SIGNED)
        loader.unlink()
        if self.inputs.track.kernel.flavour:
            return None
        with self.clock.step("initrd"):
            return self.parts(opener, os_release(name))

    def parts(self, opener: str, named: bytes) -> BootParts:
        """The parts of a UKI that says it is ``named`` (the text of os-release)."""
        kernel = self.file(f"/boot/vmlinuz-{self.modules.version}")
        return BootParts(self.file(STUB), kernel, self.initrd(opener), named)

    def finish(self, parts: BootParts | None, root_options: Sequence[str], folder: Path) -> Uki:
        """The signed UKI, the unsigned one and the initrd in ``folder``: made, or out of the package that brings it.

        Raises:
            BedplateError: the package's UKI starts another root.
        """
        if parts is None:
            signed, uki = packaged_uki(self.inputs.packages, self.where)
            if not set(root_options) <= set(uki.command_line.split()):
                raise BedplateError("the kernel's package starts another root than the image's", where=self.where)
            (folder / UKI_UNSIGNED).write_bytes(uki.data)
            (folder / UKI).write_bytes(signed)
            (folder / INITRD).write_bytes(parse_pe(signed, self.where).section(".initrd") or b"")
            return uki
        uki = self.uki(parts, root_options)
        (folder / INITRD).write_bytes(parts.initrd)
        (folder / UKI_UNSIGNED).write_bytes(uki.data)
        self.inputs.keys.sign_efi(folder / UKI_UNSIGNED, folder / UKI)
        return uki

    def uki(self, parts: BootParts, root_options: Sequence[str]) -> Uki:
        """The unsigned UKI."""
        kernel = self.inputs.track.kernel
        line = command_line(kernel.command_line, root_options)
        return build_uki(
            parts.stub,
            parts.kernel,
            parts.initrd,
            parts.os_release,
            self.modules.version,
            line,
            self.inputs.keys.pcr_public_key,
            self.inputs.keys.pcr_sign,
            [Profile(one.id, one.title, profile_line(line, one.command_line)) for one in kernel.profiles],
        )

    def initrd(self, opener: str) -> bytes:
        """The initrd that opens the root by ``opener``, a name of :mod:`bedplate.compose.initrd`."""
        kernel = self.inputs.track.kernel
        order = load_order(self.modules, kernel.initrd_modules, self.where)
        later = [m for m in load_order(self.modules, kernel.encryption_modules, self.where) if m not in order]
        packages = initrd_packages(self.inputs.packages, [*order, *later], opener)
        place = self.cache / "initrds" / initrd_key(packages, order, later, opener)
        digest_place = place.with_suffix(".sha256")
        try:
            data = place.read_bytes()
            if digest_place.read_text() == sha256(data).hexdigest():
                return data
        except FileNotFoundError:
            pass
        data = build_initrd(packages, order, later, opener, self.unpacked).data
        write_entry(place, data)
        write_entry(digest_place, sha256(data).hexdigest().encode())
        return data

    def file(self, path: str) -> bytes:
        """A file of the boot chain.

        Raises:
            BadInput: no package brings it.
        """
        for package in self.inputs.packages:
            if any(entry.path == path for entry in package.files):
                for _, data in package.read(path.__eq__):
                    return data
        raise BadInput(
            f"no locked package brings {path}",
            where=self.where,
            remedy="add its package to boot_packages and lock again",
        )
