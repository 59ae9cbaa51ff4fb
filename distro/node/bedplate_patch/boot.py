"""Kernels on the EFI system partition: what there was, and making it so again. See kernel-install(8)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from bedplate_patch.door import run

_PLACES = ("efi/EFI/Linux", "boot/efi/EFI/Linux", "boot/EFI/Linux")
_COUNTER = re.compile(r"\+\d+(-\d+)?(?=\.efi$)")
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
