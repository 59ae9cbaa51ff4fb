"""Two built images side by side, from what is in them: the inspection's facts, and the configuration they boot with."""

from __future__ import annotations

import re
from enum import Enum

from bedplate.flows.boot import boot_image
from bedplate.flows.definition import read_definition
from bedplate.flows.filesystems import open_root
from bedplate.flows.images import FoundImage
from bedplate.flows.inspect import inspect_image
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput
from bedplate.model.filesystem import read_node
from bedplate.verify.inspection import Inspection
from bedplate.verify.surface import (
    Comparison,
    ConfigFile,
    Surface,
    compare_surfaces,
    enabled_units,
    mount_settings,
    security_modules,
    sysctl_settings,
)

_CONFIG = re.compile(
    r"/(?:etc|usr/lib|usr/local/lib)/sysctl\.d/[^/]+\.conf|/etc/fstab|/etc/selinux/config"
    r"|/(?:etc|usr/lib)/systemd/system/(?:[^/]+|[^/]+\.mount\.d/[^/]+\.conf|[^/]+\.(?:wants|requires)/[^/]+)"
)
_MODULE = re.compile(r"/usr/lib/modules/.+\.ko(?:\.\w+)?$")
_PROGRAM = re.compile(r"/usr/s?bin/[^/]+$")
_MAX_TEXT = 1 << 20


class Sockets(Enum):
    """Which listening sockets are compared: those a track allows, which every boot is checked for, or those that are
    seen when the image is booted."""

    ALLOWED = "allowed"
    SEEN = "seen"


def compare_images(
    workspace: Workspace, first: FoundImage, second: FoundImage, sockets: Sockets = Sockets.ALLOWED
) -> Comparison:
    """What two images expose.

    Args:
        sockets: Where the listening sockets are taken from.

    Raises:
        BadInput: an image has no root file system or kernel to look into, or is damaged.
    """
    return compare_surfaces(image_surface(workspace, first, sockets), image_surface(workspace, second, sockets))


def image_surface(workspace: Workspace, found: FoundImage, sockets: Sockets = Sockets.ALLOWED) -> Surface:
    """What one image exposes; see :func:`compare_images`."""
    image = inspect_image(found)
    if image.root is None or image.uki is None:
        raise BadInput("no root file system or no kernel image to look into", where=image.image)
    contents = image.root.contents
    files: list[ConfigFile] = []
    counts = {"paths": contents.paths, "files": contents.files, "programs": 0, "kernel modules": 0}
    with open_root(found.disk) as system:
        for node in system.walk():
            counts["kernel modules"] += node.is_file and bool(_MODULE.match(node.path))
            counts["programs"] += node.is_file and bool(node.mode & 0o111) and bool(_PROGRAM.match(node.path))
            if _CONFIG.fullmatch(node.path) and not node.is_directory:
                text = read_node(system, node, _MAX_TEXT).decode(errors="replace")
                link = node.is_symlink
                files.append(ConfigFile(node.path, "" if link else text, text if link else ""))
    options = tuple(image.uki.command_line.split())
    counts["enabled units"] = len(enabled_units(files))
    counts["world-writable paths"] = len(contents.world_writable)
    return Surface(
        track=image.track,
        version=image.version,
        image=image.image,
        sizes=_sizes(image),
        counts=counts,
        packages={package.name: package.evr for package in image.root.packages},
        setid=tuple(sorted(file.path for file in contents.setid)),
        capabilities=tuple(sorted(f"{file.path} {file.capabilities}" for file in contents.capabilities)),
        interpreters=tuple(sorted(one.path for one in contents.interpreters)),
        listening=_listening(workspace, found, image.track, sockets),
        booted=sockets is Sockets.SEEN,
        kernel_options=tuple(sorted(option for option in options if not option.startswith("roothash="))),
        sysctl=sysctl_settings(files),
        mounts=mount_settings(files),
        lsm=(*security_modules(options, files), *(("root verified by dm-verity",) if image.root_hash else ())),
    )


def _sizes(image: Inspection) -> dict[str, int]:
    root, uki = image.root, image.uki
    assert root is not None and uki is not None
    return {
        "disk": image.size,
        "root file system": root.bytes,
        "contents unpacked": root.contents.plain_bytes,
        "UKI": uki.program.size,
        "kernel": uki.section_bytes(".linux"),
        "initrd": uki.section_bytes(".initrd"),
    }


def _listening(workspace: Workspace, found: FoundImage, track: str, sockets: Sockets) -> tuple[str, ...]:
    if sockets is Sockets.SEEN:
        report = boot_image(workspace, found, with_container=False)
        return tuple(sorted({f"{one.protocol} {one.address}" for one in report.listening}))
    known = read_definition(workspace).tracks.get(track)
    return tuple(sorted(known.limits.listening)) if known is not None else ()
