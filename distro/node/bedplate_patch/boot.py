"""Kernels on the EFI system partition: what there was, and making it so again. See kernel-install(8)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from bedplate_patch.door import run

_PLACES = ("efi/EFI/Linux", "boot/efi/EFI/Linux", "boot/EFI/Linux")
_COUNTER = re.compile(r"\+\d+(-\d+)?(?=\.efi$)")
_SELECTED = "sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_MODULES = re.compile(r"/usr/lib/modules/([^/]+)/uki\.efi")


def entries(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the unified kernel images, without their boot counters."""
    return tuple(sorted({_COUNTER.sub("", path.name) for path in _images(root)}))


def _images(root: Path) -> list[Path]:
    for place in _PLACES:
        if (root / place).is_dir():
            return sorted((root / place).glob("*.efi"))
    return []


def kernels_in(paths: Collection[str]) -> tuple[str, ...]:
    """Kernel releases among a transaction's files that bring a boot image."""
    return tuple(sorted({found[1] for found in map(_MODULES.fullmatch, paths) if found}))


def running(root: Path = Path("/")) -> str:
    """The boot entry that runs, without what it ends in (``TOKEN-KERNEL``); where no boot loader says, the kernel's own
    name for itself. Source: the Boot Loader Interface."""
    try:
        data = (root / _SELECTED).read_bytes()
    except OSError:
        return os.uname().release
    # Four bytes of attributes come first, a profile of the image last.
    return data[4:].decode("utf-16-le", "replace").rstrip("\0").partition("@")[0].removesuffix(".efi")


def runs(name: str, kernels: Collection[str]) -> bool:
    """Whether what :func:`running` says is one of ``kernels``, which are named by a kernel and its image's release."""
    return any(name == kernel or name.endswith(f"-{kernel}") or kernel.startswith(f"{name}-") for kernel in kernels)


def put_back(before: Collection[str], root: Path = Path("/")) -> list[str]:
    """Images that were not there before are removed, those that are missing are installed from the modules' directory;
    what was done, as lines."""
    done = []
    for path in _images(root):
        if _COUNTER.sub("", path.name) not in before:
            path.unlink()
            done.append(f"removed {path.name}")
    missing = set(before) - set(entries(root))
    modules = root / "usr/lib/modules"
    for name in sorted(missing):
        for image in sorted(modules.glob("*/uki.efi")):
            version = image.parent.name
            if version in name:
                result = run(["kernel-install", "add", version, str(image)], seconds=300)
                done.append(
                    f"installed {name}" if result.code == 0 else f"{name} could not be installed: {result.text.strip()}"
                )
                break
    if done:
        os.sync()
    return done
