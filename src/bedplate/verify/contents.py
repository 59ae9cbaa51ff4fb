"""What a root file system holds that deserves a look: set-id files, capabilities, open modes, interpreters. Pure.

An interpreter is a program that runs text it is given. It is found by what it is, not by its place: a program known by
name, by text that only this interpreter contains, or by a script's ``#!`` line that leads to it.
"""

from __future__ import annotations

import posixpath
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HEAD_BYTES = 4096
_MAX_LINKS = 16

# Interpreters by the name of their program, a version's digits cut off.
_SHELLS = "sh bash dash ash ksh mksh zsh fish csh tcsh rbash busybox toybox sash elvish nu pwsh"
_OTHERS = "awk mawk gawk nawk perl python pypy ruby lua luajit tclsh wish expect guile node nodejs deno bun php qjs gdb"
KNOWN_NAMES = frozenset(f"{_SHELLS} {_OTHERS}".split(" "))
# Texts that a program of this kind contains whatever it is called. All of them, since other programs carry shell
# snippets or pass a variable on.
MARKERS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("bash", (b"BASH_VERSINFO", b"BASH_XTRACEFD", b"BASH_LOADABLES_PATH")),
    ("dash", (b"Illegal number: %s", b"bad variable name", b"OPTIND=1")),
    ("busybox", (b"BusyBox v", b"applet not found")),
    ("mawk", (b"MAWK_LONG_OPTIONS", b"SUBSEP")),
    ("gawk", (b"GAWK_READ_TIMEOUT", b"SUBSEP")),
    ("perl", (b"PERL5LIB", b"PERL5OPT", b"PERL_UNICODE")),
    ("python", (b"PYTHONHOME", b"PYTHONSTARTUP", b"PYTHONHASHSEED")),
    ("lua", (b"LUA_INIT", b"LUA_PATH", b"lua_debug>")),
    ("zsh", (b"ZSH_ARGZERO", b"ZSH_SUBSHELL")),
    ("ruby", (b"RUBYLIB", b"RUBYOPT")),
)
# Texts to read: nobody runs a script from there, so it needs no interpreter and makes none of a program.
_DOCUMENTATION = "/usr/share/doc/"
# What a file system makes for itself (mke2fs(8)): in no package, and not the image's to own.
_OF_THE_FILE_SYSTEM = frozenset({"/lost+found"})
_GO_NOTE = struct.pack("<3I", 4, 83, 4) + b"Go\0\0"
_ET_EXEC, _ET_DYN = 2, 3
_PT_INTERP = 3
_XATTR = "security.capability"
_CAPABILITY_NAMES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
    "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin "
    "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override "
    "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
)
_CAPABILITIES = _CAPABILITY_NAMES.split(" ")


@dataclass(frozen=True, slots=True)
class PathFact:
    """One path of a file system.

    ``mode`` has type and permission bits. ``size`` is in bytes, ``stored`` what it takes on the disk (compressed; 0 for
    another name of a file already counted). ``target`` is a link's. ``script`` is the interpreter its ``#!`` line
    names; ``interpreter`` the kind of interpreter the content is, empty for anything else.
    """

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    stored: int
    target: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    script: str = ""
    interpreter: str = ""


@dataclass(frozen=True, slots=True)
class SizedPath:
    """A path with its bytes, plain and on the disk."""

    path: str
    size: int
    stored: int


@dataclass(frozen=True, slots=True)
class SetIdFile:
    """A set-id file: ``mode`` as four octal digits, numeric owner and group."""

    path: str
    mode: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class CapableFile:
    """A file with capabilities, in the form of cap_to_text(3)."""

    path: str
    capabilities: str


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A program that runs text. ``kind`` names it; ``scripts`` says how many scripts of the image ask for it."""

    path: str
    kind: str
    scripts: int


@dataclass(frozen=True, slots=True)
class OwnerSize:
    """All an owner (``package:NAME``, ``files:SET``, ``stage:NAME``) has in the image."""

    owner: str
    paths: int
    size: int
    stored: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What :func:`survey` found. ``orphan_scripts`` are scripts whose interpreter is not there.

    ``owners`` and ``unowned`` are None when nothing says whose the paths are.
    """

    paths: int
    files: int
    plain_bytes: int
    setid: tuple[SetIdFile, ...]
    capabilities: tuple[CapableFile, ...]
    world_writable: tuple[str, ...]
    devices: tuple[str, ...]
    interpreters: tuple[Interpreter, ...]
    orphan_scripts: tuple[str, ...]
    largest: tuple[SizedPath, ...]
    owners: tuple[OwnerSize, ...] | None
    unowned: tuple[str, ...] | None


def classify(name: str, head: bytes, rest: bytes = b"") -> tuple[str, str]:
    """What an executable file is: (interpreter of its ``#!`` line, kind of interpreter it is itself), either empty.

    Args:
        name: The file's name without directory.
        head: Its first :data:`HEAD_BYTES`.
        rest: All of it, where it is a program; see :func:`is_program`.
    """
    if head[:2] == b"#!":
        return _shebang(head), ""
    if not is_program(head):
        return "", ""
    base = name.rstrip("0123456789.-")
    if base in KNOWN_NAMES or name in KNOWN_NAMES:
        return "", base
    for kind, markers in MARKERS:
        if all(marker in rest for marker in markers):
            return "", kind
    return "", ""


def is_program(head: bytes) -> bool:
    """Whether a file that begins so is a 64-bit ELF program rather than a library: it names a loader or is static."""
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
        return False
    kind, at, size, count = (
        struct.unpack_from("<H", head, 16)
        + struct.unpack_from("<16xQ", head, 16)
        + (struct.unpack_from("<HH", head, 54))
    )
    if kind == _ET_EXEC:
        return True
    if kind != _ET_DYN or size < 56:
        return False
    for number in range(min(count, 64)):
        entry = at + number * size
        if entry + 4 > len(head):
            break
        if struct.unpack_from("<I", head, entry)[0] == _PT_INTERP:
            return True
    # A static position-independent program names no loader either, but starts somewhere; a library does not.
    return bool(struct.unpack_from("<Q", head, 24)[0])


def is_go_program(head: bytes) -> bool:
    """Whether a program carries the Go linker's build note: large, and none of the interpreters known by their text."""
    return _GO_NOTE in head


def survey(paths: Iterable[PathFact], owners: Mapping[str, str] | None = None, top: int = 20) -> Contents:
    """Go through a tree once.

    Args:
        paths: Every path, root first.
        owners: Path -> whose it is; None when unknown.
        top: How many of the largest files to name.
    """
    everything = list(paths)
    links = {fact.path: fact.target for fact in everything if stat.S_ISLNK(fact.mode)}
    known = {fact.path for fact in everything}
    files = [fact for fact in everything if stat.S_ISREG(fact.mode)]
    users: dict[str, int] = {}
    orphans = []
    for fact in files:
        if not fact.script or fact.path.startswith(_DOCUMENTATION):
            continue
        place = resolve(fact.script, links)
        if place in known:
            users[place] = users.get(place, 0) + 1
        else:
            orphans.append(fact.path)
    interpreters = [
        Interpreter(fact.path, fact.interpreter or posixpath.basename(fact.path), users.get(fact.path, 0))
        for fact in files
        if fact.interpreter or fact.path in users
    ]
    sizes = sorted(files, key=lambda fact: (-fact.stored, fact.path))[:top]
    return Contents(
        paths=len(everything),
        files=len(files),
        plain_bytes=sum(fact.size for fact in files if fact.stored or not fact.size),
        setid=tuple(
            SetIdFile(fact.path, f"{fact.mode & 0o7777:04o}", fact.uid, fact.gid)
            for fact in files
            if fact.mode & (stat.S_ISUID | stat.S_ISGID)
        ),
        capabilities=tuple(
            CapableFile(fact.path, describe_capabilities(fact.xattrs[_XATTR]))
            for fact in files
            if _XATTR in fact.xattrs
        ),
        world_writable=tuple(
            fact.path for fact in everything if fact.mode & stat.S_IWOTH and not stat.S_ISLNK(fact.mode)
        ),
        devices=tuple(
            fact.path
            for fact in everything
            if not (stat.S_ISREG(fact.mode) or stat.S_ISDIR(fact.mode) or stat.S_ISLNK(fact.mode))
        ),
        interpreters=tuple(interpreters),
        orphan_scripts=tuple(orphans),
        largest=tuple(SizedPath(fact.path, fact.size, fact.stored) for fact in sizes),
        owners=None if owners is None else _by_owner(everything, owners),
        unowned=None if owners is None else tuple(sorted(known - owners.keys() - _OF_THE_FILE_SYSTEM)),
    )


def resolve(path: str, links: Mapping[str, str]) -> str:
    """``path`` after all symbolic links on its way, within the tree; as it is when they run in a circle."""
    start = path
    for _ in range(_MAX_LINKS):
        parts = [part for part in posixpath.normpath(path).split("/") if part]
        for number in range(1, len(parts) + 1):
            prefix = "/" + "/".join(parts[:number])
            if prefix in links:
                above = "/" + "/".join(parts[: number - 1])
                path = posixpath.normpath(posixpath.join(above, links[prefix], *parts[number:]))
                break
        else:
            return "/" + "/".join(parts)
    return start


def describe_capabilities(value: bytes) -> str:
    """The attribute ``security.capability`` as text (capabilities(7), ``struct vfs_cap_data``)."""
    if len(value) < 12:
        return f"damaged ({value.hex()})"
    (magic,) = struct.unpack_from("<I", value)
    words = struct.unpack_from("<4I", value.ljust(20, b"\0"), 4)
    permitted, inheritable = words[0] | words[2] << 32, words[1] | words[3] << 32
    clauses = []
    for mask, flag in ((permitted, "ep" if magic & 1 else "p"), (inheritable & ~permitted, "i")):
        names = [name for number, name in enumerate(_CAPABILITIES) if mask >> number & 1]
        if names:
            clauses.append(",".join(f"cap_{name}" for name in names) + f"={flag}")
    return " ".join(clauses) or "none"


def _shebang(head: bytes) -> str:
    words = head[2:].split(b"\n", 1)[0].split()
    if not words:
        return ""
    program = words[0].decode(errors="replace")
    if posixpath.basename(program) == "env":
        # env(1) looks the program up; options before it do not name one.
        found = next((word for word in words[1:] if not word.startswith(b"-") and b"=" not in word), b"")
        return f"/usr/bin/{found.decode(errors='replace')}" if found else program
    return program


def _by_owner(paths: Iterable[PathFact], owners: Mapping[str, str]) -> tuple[OwnerSize, ...]:
    sums: dict[str, list[int]] = {}
    for fact in paths:
        owner = owners.get(fact.path)
        if owner is None:
            continue
        entry = sums.setdefault(owner, [0, 0, 0])
        entry[0] += 1
        if stat.S_ISREG(fact.mode):
            entry[1] += fact.size
            entry[2] += fact.stored
    rows = [OwnerSize(owner, *numbers) for owner, numbers in sums.items()]
    return tuple(sorted(rows, key=lambda row: (-row.stored, row.owner)))
