"""Kernels as packages of ours: each brings its signed image and is installed beside the one before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bedplate.compose.clock import Clock
from bedplate.compose.inputs import BootKeys, BuildInputs, code_digest
from bedplate.compose.kernels import flavour_of, kernel_image
from bedplate.flows.cache import part
from bedplate.flows.kernel_names import kernel_package_name
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.track import Track
from bedplate.model.digest import identity
from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileKind, Nevra
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.spec import PackageSpec
from bedplate.packages.rpm.writer import WRITER_VERSION, write_rpm
from bedplate.trust.keys import KeyStore
from bedplate.trust.sign_efi import sign_efi

REVISION = 2
"""Part of every cache key: raise it when the same inputs give another package."""


def is_kernel(package: RpmPackage) -> bool:
    """Whether a package brings a kernel."""
    return any(file.path.startswith("/boot/vmlinuz-") for file in package.files)


def kernel_packages(
    workspace: Workspace, inputs: BuildInputs, keys: KeyStore, kernels: Iterable[RpmPackage]
) -> list[RpmPackage]:
    """The package with the signed image of each of ``kernels`` that is of a flavour of ``inputs.track``, unsigned as an
    RPM. Gives none for a track whose kernel is no package.

    Args:
        inputs: The track's image; its packages bring what a signed image holds beside the kernel.
    """
    chosen = [(flavour_of(inputs.track.kernel, one.nevra.name), one) for one in kernels if is_kernel(one)]
    return [_package(workspace, inputs, keys, flavour, one) for flavour, one in chosen if flavour is not None]


def _package(workspace: Workspace, inputs: BuildInputs, keys: KeyStore, flavour: str, kernel: RpmPackage) -> RpmPackage:
    track, distro = inputs.track, inputs.distro
    evr = kernel.nevra.evr
    release = f"{evr.release}.{track.kernel.revision}"
    nevra = Nevra(
        kernel_package_name(distro.id, track.id, flavour), Evr(evr.epoch, evr.version, release), kernel.nevra.arch
    )
    key = identity(
        [
            "kernel package",
            [REVISION, WRITER_VERSION, code_digest()],
            distro.model_dump(mode="json"),
            [track.id, track.title, track.root.model_dump(mode="json"), track.kernel.model_dump(mode="json")],
            inputs.keys.public,
            flavour,
            track.extends,
            kernel.digest,
            sorted([one.nevra.name, one.digest] for one in inputs.packages),
        ]
    )
    target = part(workspace, "rpms") / "kernels" / f"{nevra.name}-{key[:32]}.rpm"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(workspace, inputs, keys, flavour, kernel, nevra, target)
    return RpmPackage.open(target)


def _write(
    workspace: Workspace,
    inputs: BuildInputs,
    keys: KeyStore,
    flavour: str,
    kernel: RpmPackage,
    nevra: Nevra,
    target: Path,
) -> None:
    distro, track = inputs.distro, inputs.track
    clock = Clock(workspace.progress)
    made = replace(inputs, keys=_repeatable(inputs.keys, keys))
    with clock.step(f"kernel {nevra}"):
        image = kernel_image(
            made,
            kernel,
            f"{nevra.evr.version}-{nevra.evr.release}",
            part(workspace, "compose"),
            clock,
            workspace.jobs,
        )
    folder = f"/usr/lib/modules/{image.version}-{nevra.evr.release}"
    contents = {f"{folder}/uki.efi": image.signed, f"{folder}/flavour": f"{flavour}\n".encode()}
    spec = PackageSpec(
        nevra=nevra,
        source=kernel.source,
        summary=f"Linux {image.version} as a signed boot image ({track.title})",
        description=(
            f"Kernel, initrd and command line of {distro.name} in one signed EFI program. Installed, it goes to the\n"
            "EFI system partition beside those that are there, is tried once with the next start, and kept when that\n"
            "was good."
        ),
        license="GPL-2.0-only",
        url=distro.home_url,
        vendor=distro.name,
        build_time=distro.source_date_epoch,
        requires=(f"{kernel.nevra.name} >= {kernel.nevra.evr}", f"{distro.id}-kernels"),
        # dnf installs packages with the first one side by side, and keeps as many as installonly_limit says.
        provides=("installonlypkg(kernel)", f"{distro.id}-{track.id}-kernel = {nevra.evr}"),
        # The same kernel for another system: its image would lie in the same place.
        conflicts=(kernel_package_name(distro.id, track.extends, flavour),) if track.extends else (),
        files=(
            FileEntry(folder, FileKind.DIRECTORY, 0o755, mtime=distro.source_date_epoch),
            *(_file(path, data, distro.source_date_epoch) for path, data in contents.items()),
        ),
    )
    write_rpm(spec, lambda entry: (contents[entry.path],), target)


def _file(path: str, data: bytes, mtime: int) -> FileEntry:
    digest = hashlib.sha256(data).hexdigest()
    return FileEntry(path, FileKind.FILE, 0o644, mtime=mtime, size=len(data), sha256=digest)


def _repeatable(keys: BootKeys, store: KeyStore) -> BootKeys:
    """The same keys, with a Secure Boot signature that holds no time: its digest is in the image's package database."""
    boot = store.signer("boot")

    def sign(source: Path, target: Path) -> None:
        target.write_bytes(sign_efi(source.read_bytes(), boot.public, boot.sign, str(source)))

    return replace(keys, sign_efi=sign)


def tracks_with_kernels(tracks: Iterable[Track], names: Sequence[str]) -> list[Track]:
    """The tracks that one of the kernels called ``names`` is a flavour of."""
    return [track for track in tracks if any(flavour_of(track.kernel, name) for name in names)]
