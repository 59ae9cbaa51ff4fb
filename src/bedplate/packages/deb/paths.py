"""Where a path of a Debian package really lies: names checked, aliases of the merged /usr resolved, links bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bedplate.packages.deb.container import bad_package

ALIASES: Mapping[str, str] = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "lib32": "usr/lib32",
    "libx32": "usr/libx32",
}
"""Top-level links of the merged /usr (Debian does not merge sbin into bin)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FOREIGN = ("/tmp/", "/var/tmp/", "/dev/shm/", "/home/", "/build/")
"""Places that are not the image's own: a packaged link into them lets whoever writes there decide what it means."""


def canonical(name: str, limit: int, where: str) -> str:
    """The canonical absolute path of the archive member ``name``; ``/`` for the root itself.

    Raises:
        BadInput: the name is absolute, climbs with ``..``, is too long, or holds control characters.
    """
    if name.startswith("/"):
        raise bad_package(where, f"the path {name!r} is absolute")
    if len(name.encode()) > limit:
        raise bad_package(where, f"a path is longer than {limit} bytes")
    if _CONTROL.search(name):
        raise bad_package(where, f"the path {name!r} has control characters")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise bad_package(where, f"the path {name!r} climbs with '..'")
    if len(parts) > 1 and parts[0] in ALIASES:
        parts[0] = ALIASES[parts[0]]
    return "/" + "/".join(parts)


def check_link(path: str, target: str, where: str) -> None:
    """Refuse a symbolic link that leads out of the tree.

    Raises:
        BadInput: the target is empty, climbs above the root, or lies where anybody may write.
    """
    if not target or "\0" in target or "\n" in target:
        raise bad_package(where, f"the link {path} has no usable target")
    start = [] if target.startswith("/") else path.strip("/").split("/")[:-1]
    # A link below /usr/lib may have been packaged below /lib: both readings must stay inside, the deeper one decides.
    depth = list(start)
    for part in target.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not depth:
                raise bad_package(where, f"the link {path} -> {target} climbs out of the tree")
            depth.pop()
        else:
            depth.append(part)
    if ("/" + "/".join(depth) + "/").startswith(_FOREIGN):
        raise bad_package(where, f"the link {path} -> {target} leads out of what packages own")
