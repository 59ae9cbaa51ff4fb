"""The initrd: a static busybox, dmsetup, findfs, a few modules and one script. Made from the locked packages.

It has no systemd on purpose: under emulation that saves ten seconds, and there is less to attack before the root is
verified. The price: no enter-initrd and leave-initrd phases are measured into PCR 11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath

import zstandard

from bedplate.compose import cpio
from bedplate.compose.elf import needed_libraries
from bedplate.compose.groups import Unpacked
from bedplate.compose.modules import KernelModule, modinfo
from bedplate.model.digest import identity, sha256
from bedplate.model.errors import BadInput
from bedplate.model.package import FileKind, PackageContent

REVISION = 3
# 19 would save a sixth of the size and cost twenty times the time.
_LEVEL = 8
_BUSYBOX = "/usr/bin/busybox"
_FINDFS = "/usr/sbin/findfs"
# How a root is opened -> the programs that takes.
OPENERS: Mapping[str, tuple[str, ...]] = {
    "verity": ("/usr/sbin/dmsetup", _FINDFS),
    # What makes and opens /var are the verified root's own programs.
    "verity-state": ("/usr/sbin/dmsetup", _FINDFS),
    "plain": (_FINDFS,),
    "encryptable": (
        _FINDFS,
        "/usr/sbin/dmsetup",
        "/usr/sbin/cryptsetup",
        "/usr/bin/systemd-cryptenroll",
        "/usr/lib/x86_64-linux-gnu/cryptsetup/libcryptsetup-token-systemd-tpm2.so",
        # systemd opens these by name.
        *(f"/usr/lib/x86_64-linux-gnu/libtss2-{part}.so.0" for part in ("esys", "mu", "rc", "tcti-device")),
    ),
}
# A writable root can be patched, and the patch can be taken back from here.
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "verity": ("root_verity.sh",),
    "verity-state": ("root_verity.sh", "state.sh"),
    "plain": ("root_plain.sh", "root_patch.sh"),
    "encryptable": ("root_plain.sh", "root_patch.sh", "root_crypt.sh"),
}
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
# Of one program family only, which finds it by its run path.
_SHARED_OF_SYSTEMD = f"{_LIBRARIES}/systemd/"
# A plug-in: it is looked for below this path, not among the libraries.
_TOKENS = f"{_LIBRARIES}/cryptsetup/"
_LOADER = "/usr/lib64/ld-linux-x86-64.so.2"
# Buses whose devices the script can see before it loads anything. It looks at just these (init.sh).
BUSES = ("acpi", "pci", "virtio", "vmbus", "xen")
_BUS_ALIAS = re.compile(rf"({'|'.join(BUSES)})\*?:")
# Shell patterns and module aliases both are fnmatch(3); these characters have no other meaning in a shell's pattern.
_SAFE_ALIAS = re.compile(r"[A-Za-z0-9_:*?\[\]\-.,+]+")


@dataclass(frozen=True, slots=True)
class Initrd:
    """The compressed archive, and its size (bytes) unpacked."""

    data: bytes
    unpacked_bytes: int


def script(opener: str) -> dict[str, bytes]:
    """The shell scripts by their name in the initrd; ``opener`` is a key of :data:`OPENERS`."""
    folder = resources.files("bedplate.compose")
    return {
        "init": folder.joinpath("init.sh").read_bytes(),
        "root.sh": b"\n".join(folder.joinpath(name).read_bytes() for name in _SCRIPTS[opener]),
    }


def initrd_key(
    packages: Sequence[PackageContent], modules: Sequence[KernelModule], later: Sequence[KernelModule], opener: str
) -> str:
    """The name of the initrd in a cache: a digest of all its bytes depend on."""
    return identity(
        [
            "initrd",
            REVISION,
            [opener, *(sha256(text) for text in script(opener).values())],
            sorted(package.digest for package in packages),
            [[[module.image_path, module.sha256] for module in some] for some in (modules, later)],
            [_LEVEL, zstandard.__version__, list(zstandard.ZSTD_VERSION)],
        ]
    )


def initrd_packages(
    packages: Sequence[PackageContent], modules: Sequence[KernelModule], opener: str
) -> list[PackageContent]:
    """The packages an initrd takes files from: programs with their libraries, busybox, the kernel."""
    index = _path_index(packages)
    owners = {package.nevra.name: package for package in packages}
    wanted = [_BUSYBOX, *OPENERS[opener], *(module.path for module in modules)]
    found = {index[path] for path in wanted if path in index}
    found |= {name for path, name in index.items() if _is_library(path)}
    return [owners[name] for name in sorted(found)]


def build_initrd(
    packages: Sequence[PackageContent],
    modules: Sequence[KernelModule],
    later: Sequence[KernelModule],
    opener: str,
    unpacked: Unpacked,
) -> Initrd:
    """Make the initrd.

    Args:
        packages: All locked packages, those of the boot chain too.
        modules: The kernel modules in the order they are loaded.
        later: Further ones, which the way to open the root loads where it needs them.
        opener: How the root is opened, a key of :data:`OPENERS`.
        unpacked: Where modules that were unpacked before are found.

    Raises:
        BadInput: a program, library or module that no package brings.
    """
    files = _programs(packages, OPENERS[opener])
    entries = [
        cpio.directory(path) for path in ("bin", "dev", "lib", "lib/modules", "lib64", "proc", "root", "run", "sys")
    ]
    entries += [
        # The kernel opens it before devtmpfs is there; without it the first messages are lost.
        cpio.character_device("dev/console", 5, 1),
        *(cpio.file(name, text, 0o755) for name, text in script(opener).items()),
    ]
    for path, data in files.items():
        place = "lib64/" if path == _LOADER else "lib/" if ".so" in path else "bin/"
        if path.startswith(_TOKENS):
            place = _TOKENS.lstrip("/")
            entries += [cpio.directory(str(folder)) for folder in reversed(PurePosixPath(place).parents)][1:]
            entries.append(cpio.directory(place.rstrip("/")))
        entries.append(cpio.file(place + PurePosixPath(path).name, data, 0o755))
    lines, contents = _modules(packages, modules, unpacked)
    if later:
        late_lines, late_contents = _modules(packages, later, unpacked)
        contents |= late_contents
        entries.append(cpio.file("later-modules.sh", late_lines))
    entries += [cpio.file(f"lib/modules/{name}", data) for name, data in contents.items()]
    entries.append(cpio.file("modules.sh", lines))
    plain = cpio.archive(entries)
    # One thread and no checksum of the content: the kernel's unpacker takes any zstd frame, but not more than one.
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(plain)
    return Initrd(packed, len(plain))


def _path_index(packages: Sequence[PackageContent]) -> dict[str, str]:
    return {
        entry.path: package.nevra.name
        for package in packages
        for entry in package.files
        if entry.kind is not FileKind.DIRECTORY
    }


def _is_library(path: str) -> bool:
    if path == _LOADER or path.startswith(f"{_SHARED_OF_SYSTEMD}libsystemd-shared-"):
        return True
    return path.startswith(_LIBRARIES + "/") and ".so" in path and path.count("/") == 4


def _place_of(name: str, index: Mapping[str, str]) -> str:
    if name.startswith("ld-linux"):
        return _LOADER
    if f"{_SHARED_OF_SYSTEMD}{name}" in index:
        return f"{_SHARED_OF_SYSTEMD}{name}"
    return f"{_LIBRARIES}/{name}"


def _programs(packages: Sequence[PackageContent], programs: Sequence[str]) -> dict[str, bytes]:
    """Programs and, by their dynamic sections, the libraries they need; keyed by the name they are looked up by."""
    links = {e.path: e.target for p in packages for e in p.files if e.kind is FileKind.SYMLINK}
    index = _path_index(packages)
    by_name = {package.nevra.name: package for package in packages}
    result: dict[str, bytes] = {}
    waiting = [_BUSYBOX, *programs, _LOADER]
    while waiting:
        path = waiting.pop()
        if path in result:
            continue
        real = _resolve(path, links)
        if real not in index:
            raise BadInput(
                f"no locked package brings {path}, which the initrd needs",
                where="boot_packages",
                remedy="add its package to the track's boot_packages and lock again",
            )
        package = by_name[index[real]]
        data = next(data for _, data in package.read(lambda p, real=real: p == real))  # type: ignore[misc]
        result[path] = data
        waiting += [_place_of(name, index) for name in needed_libraries(data, path)]
    return dict(sorted(result.items()))


def _resolve(path: str, links: Mapping[str, str]) -> str:
    for _ in range(8):
        target = links.get(path)
        if target is None:
            return path
        joined = PurePosixPath(target) if target.startswith("/") else PurePosixPath(path).parent / target
        parts: list[str] = []
        for part in joined.parts[1:]:
            if part == "..":
                parts = parts[:-1]
            elif part != ".":
                parts.append(part)
        if parts and parts[0] in ("bin", "sbin", "lib", "lib64"):
            parts.insert(0, "usr")
        path = "/" + "/".join(parts)
    return path


def _modules(
    packages: Sequence[PackageContent], modules: Sequence[KernelModule], unpacked: Unpacked
) -> tuple[bytes, dict[str, bytes]]:
    """The lines that load the modules in order, and their contents by file name."""
    wanted = {module.path: module for module in modules}
    plain: dict[str, bytes] = {}
    for package in packages:
        if any(entry.path in wanted for entry in package.files):
            for entry, data in package.read(wanted.__contains__):
                module = wanted[entry.path]
                plain[module.name] = unpacked.transformed(data, module.transform, entry.path)
    if len(plain) != len(modules):
        lacking = sorted({m.name for m in modules} - set(plain))
        raise BadInput("no package brings these modules of the initrd", details=lacking)
    aliases = {m.name: _bus_aliases(plain[m.name]) for m in modules}
    on_scsi = {m.name for m in modules if not aliases[m.name] and _has_alias(plain[m.name], "scsi:")}
    needed_by = _needed_by([m for m in modules if m.name not in on_scsi])
    lines = []
    contents = {}
    for module in modules:
        name = f"{module.name}.ko"
        contents[name] = plain[module.name]
        patterns = list(aliases[module.name])
        users = needed_by.get(module.name, set())
        if not patterns and users and all(aliases[user] for user in users):
            # A library of drivers: wanted where one of them is.
            patterns = sorted({pattern for user in users for pattern in aliases[user]})
        if module.name in on_scsi:
            lines.append(f"load_if scsi_mod {name}")
        elif patterns:
            lines.append(f"load_for {name} {' '.join(map(_quoted, patterns))}")
        else:
            lines.append(f"load {name}")
        if any(pattern.startswith("acpi") for pattern in patterns):
            lines.append("scan")  # a bus of its own: its devices can only be seen now
    return "".join(f"{line}\n" for line in lines).encode(), contents


def _needed_by(modules: Sequence[KernelModule]) -> dict[str, set[str]]:
    """For each module those that need it, directly or not, and are no library themselves."""
    by_name = {module.name: module for module in modules}
    users: dict[str, set[str]] = {}

    def visit(name: str, user: str) -> None:
        for needed in by_name[name].depends:
            if needed in by_name and user not in users.setdefault(needed, set()):
                users[needed].add(user)
                visit(needed, user)

    for module in modules:
        visit(module.name, module.name)
    return {name: {u for u in found if u not in users} for name, found in users.items()}


def _has_alias(data: bytes, prefix: str) -> bool:
    return any(alias.startswith(prefix) for alias in modinfo(data, "initrd").get("alias", []))


def _bus_aliases(data: bytes) -> list[str]:
    found = sorted({alias for alias in modinfo(data, "initrd").get("alias", []) if _BUS_ALIAS.match(alias)})
    return [alias for alias in found if _SAFE_ALIAS.fullmatch(alias)]


def _quoted(pattern: str) -> str:
    return f"'{pattern}'"
