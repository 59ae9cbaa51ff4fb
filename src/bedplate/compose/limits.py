"""What is in an image that deserves a second look, held against the track's allow lists. Pure.

Listed are set-id files, file capabilities, world-writable paths, interpreters and listening sockets, and the sizes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bedplate.compose import capabilities
from bedplate.model.definition.track import Limits
from bedplate.model.errors import Finding, Level
from bedplate.model.package import FileKind
from bedplate.model.tree import TreeEntry

_INTERPRETERS = re.compile(
    r"(ba|da|z|k|mk|fi|tc|c|a)?sh|busybox|(m|g|n)?awk|perl[0-9.]*|python[0-9.]*|ruby[0-9.]*|lua(jit)?[0-9.]*|tclsh[0-9.]*"
    r"|node(js)?|php[0-9.]*|guile[0-9.]*|gdb|expect|qjs|java|mono"
)
_PROGRAM_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/usr/libexec", "/usr/lib")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Census:
    """What was found: paths, sorted. ``needs_shell`` maps scripts to the interpreter of their first line."""

    setid: tuple[str, ...]
    capabilities: tuple[str, ...]
    world_writable: tuple[str, ...]
    interpreters: tuple[str, ...]
    needs_shell: tuple[tuple[str, str], ...] = ()


def census(entries: Iterable[TreeEntry], scripts: Mapping[str, str] | None = None) -> Census:
    """Go through the tree.

    Args:
        scripts: Path of each script in the image -> the interpreter its first line names.
    """
    found: dict[str, list[str]] = {"setid": [], "capabilities": [], "world_writable": [], "interpreters": []}
    for entry in entries:
        if entry.kind is FileKind.SYMLINK:
            continue
        if entry.kind is FileKind.FILE and entry.mode & 0o6000:
            found["setid"].append(entry.path)
        if any(name == capabilities.XATTR for name, _ in entry.xattrs):
            found["capabilities"].append(entry.path)
        if entry.mode & 0o002:
            found["world_writable"].append(entry.path)
        if entry.kind is FileKind.FILE and entry.mode & 0o111 and _is_interpreter(entry.path):
            found["interpreters"].append(entry.path)
    lists = {name: tuple(sorted(paths)) for name, paths in found.items()}
    return Census(**lists, needs_shell=tuple(sorted((scripts or {}).items())))


def _is_interpreter(path: str) -> bool:
    here = PurePosixPath(path)
    return str(here.parent) in _PROGRAM_DIRECTORIES and _INTERPRETERS.fullmatch(here.name) is not None


def check_census(found: Census, limits: Limits, where: str) -> list[Finding]:
    """An error for everything found that the track does not allow, a warning for what it allows in vain."""
    findings = []
    for key in ("setid", "capabilities", "world_writable", "interpreters"):
        present: Sequence[str] = getattr(found, key)
        allowed: Sequence[str] = getattr(limits, key)
        remedy = f"drop it in the track, or look at it and add it to limits.{key}"
        for path in sorted(set(present) - set(allowed)):
            findings.append(Finding(f"image.{key.replace('_', '-')}.unlisted", Level.ERROR, _CAUSES[key], path, remedy))
        for path in sorted(set(allowed) - set(present)):
            cause = f"limits.{key} allows what the image does not hold"
            findings.append(
                Finding(f"image.{key.replace('_', '-')}.stale", Level.WARNING, cause, path, f"remove it in {where}")
            )
    present_interpreters = {PurePosixPath(path).name for path in found.interpreters}
    for path, interpreter in found.needs_shell:
        name = PurePosixPath(interpreter).name
        # /bin/sh is a link to one of them.
        if name not in present_interpreters and name != "sh" and _INTERPRETERS.fullmatch(name):
            findings.append(
                Finding(
                    "image.script.no-interpreter",
                    Level.WARNING,
                    f"a script for {interpreter}, which is not in the image",
                    path,
                    "drop the script in the track",
                )
            )
    return findings


_CAUSES = {
    "setid": "a set-id file that is not on the allow list",
    "capabilities": "a file with capabilities that is not on the allow list",
    "world_writable": "a world-writable path that is not on the allow list",
    "interpreters": "an interpreter that is not on the allow list",
}


def check_sizes(limits: Limits, root_bytes: int, uki_bytes: int, packages: int) -> list[Finding]:
    """An error for each size beyond its limit."""
    facts = (
        ("root", root_bytes, limits.root_mib * _MIB, "root file system has {} bytes, allowed are {}"),
        ("uki", uki_bytes, limits.uki_mib * _MIB, "UKI has {} bytes, allowed are {}"),
        ("packages", packages, limits.packages, "image has {} packages, allowed are {}"),
    )
    return [
        Finding(
            f"image.size.{name}",
            Level.ERROR,
            "the " + text.format(value, limit),
            "",
            "drop something, or raise the limit",
        )
        for name, value, limit, text in facts
        if value > limit
    ]


def check_listening(listening: Collection[str], limits: Limits) -> list[Finding]:
    """An error for each socket a booted image listens on that is not allowed.

    Args:
        listening: ``tcp/22`` for any address, ``udp/53@127.0.0.53`` for one.
    """
    return [
        Finding(
            "image.listening.unlisted",
            Level.ERROR,
            "a listening socket that is not on the allow list",
            socket,
            "switch the service off, or look at it and add it to limits.listening",
        )
        for socket in sorted(set(listening))
        if socket not in limits.listening and socket.split("@")[0] not in limits.listening
    ]
