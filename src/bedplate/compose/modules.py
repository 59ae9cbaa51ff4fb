"""Kernel modules: what each one is and needs, and which of them a track takes.

Sources: modinfo(8), the ``.modinfo`` section (zero-terminated ``key=value``), modules.builtin (kernel
kbuild documentation).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from bedplate.compose.groups import Unpacked
from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.globs import translate
from bedplate.model.package import FileEntry, FileKind, PackageContent
from bedplate.model.tree import Transform

_MODULE = re.compile(r"/usr/lib/modules/(?P<version>[^/]+)/kernel/(?P<below>.+)\.ko(?P<packed>\.xz)?")
_BUILTIN = re.compile(r"/usr/lib/modules/[^/]+/modules\.builtin")


@dataclass(frozen=True, slots=True)
class KernelModule:
    """One module. ``path`` is in the package, ``below`` relative to ``kernel/`` without suffix; size and digest are
    of the decompressed module. ``depends`` are names; ``soft`` are wanted before it, where they exist."""

    name: str
    path: str
    below: str
    depends: tuple[str, ...]
    soft: tuple[str, ...]
    size: int
    sha256: str

    @property
    def image_path(self) -> str:
        """Where it lies in the image: the same place, decompressed."""
        return self.path.removesuffix(".xz")

    @property
    def transform(self) -> Transform:
        """How package bytes become image bytes. A module's signature is of the plain bytes and stays valid."""
        return Transform.UNXZ if self.path.endswith(".xz") else Transform.NONE


@dataclass(frozen=True, slots=True)
class ModuleIndex:
    """Modules of one kernel package by name (those that are wanted and all they need, see :func:`read_index`), its
    version string and what is built in."""

    version: str
    modules: Mapping[str, KernelModule]
    builtin: frozenset[str]


def module_name(text: str) -> str:
    """The kernel's own spelling: ``-`` becomes ``_``."""
    return text.replace("-", "_")


def is_module(path: str) -> bool:
    """Whether ``path`` is a kernel module of a package."""
    return _MODULE.fullmatch(path) is not None


def kernel_version(files: Iterable[FileEntry], where: str) -> str:
    """The version directory a kernel package brings.

    Raises:
        BadInput: none, or more than one.
    """
    versions = {m["version"] for f in files if f.kind is FileKind.FILE and (m := _MODULE.fullmatch(f.path))}
    if len(versions) != 1:
        raise BadInput(
            f"the kernel package brings {len(versions)} module trees, not one",
            where=where,
            remedy="name the package that holds /usr/lib/modules/VERSION in kernel.package",
        )
    return versions.pop()


def read_index(
    package: PackageContent, wanted: Sequence[str], unpacked: Unpacked | None = None, jobs: int = 1
) -> ModuleIndex:
    """Read the modules of a kernel package that ``wanted`` names (as :func:`select` takes it) and all they depend on.

    Unpacking takes most of the time: it is done for these alone, with ``jobs`` threads, and what is unpacked is left in
    ``unpacked``.
    """
    where = f"package {package.nevra.name}"
    version = kernel_version(package.files, where)
    unpacked = unpacked or Unpacked()
    packed: dict[str, tuple[str, str, bytes]] = {}
    builtin: frozenset[str] = frozenset()
    for entry, data in package.read(lambda path: is_module(path) or _BUILTIN.fullmatch(path) is not None):
        match = _MODULE.fullmatch(entry.path)
        if match is None:
            builtin = frozenset(module_name(PurePosixPath(line).stem) for line in data.decode().split())
        else:
            packed[module_name(PurePosixPath(match["below"]).name)] = (entry.path, match["below"], data)
    below = {name: folder for name, (_, folder, _) in packed.items()}
    modules: dict[str, KernelModule] = {}
    waiting = {name for item in wanted for name in _matching(below, item)}
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        while waiting:
            found = list(pool.map(lambda name: _read_module(name, *packed[name], unpacked, where), sorted(waiting)))
            modules.update((module.name, module) for module in found)
            needed = {name for module in found for name in (*module.depends, *module.soft)}
            waiting = needed & set(packed) - set(modules)
    return ModuleIndex(version, modules, builtin)


def _read_module(name: str, path: str, below: str, data: bytes, unpacked: Unpacked, where: str) -> KernelModule:
    transform = Transform.UNXZ if path.endswith(".xz") else Transform.NONE
    plain = unpacked.transformed(data, transform, f"{where} {path}")
    info = modinfo(plain, f"{where} {path}")
    soft = [word for line in info.get("softdep", []) for word in _soft_pre(line)]
    depends = [d for line in info.get("depends", []) for d in line.split(",") if d]
    return KernelModule(
        name, path, below, tuple(map(module_name, depends)), tuple(map(module_name, soft)), len(plain), sha256(plain)
    )


def index_to_json(index: ModuleIndex) -> dict[str, object]:
    """Plain data of an index, for the cache."""
    fields = KernelModule.__slots__
    return {
        "version": index.version,
        "builtin": sorted(index.builtin),
        "modules": [[getattr(m, f) for f in fields] for _, m in sorted(index.modules.items())],
    }


def index_from_json(data: Mapping[str, object]) -> ModuleIndex:
    """The inverse of :func:`index_to_json`."""
    rows = data["modules"]
    builtin = data["builtin"]
    assert isinstance(rows, list) and isinstance(builtin, list)
    modules = [KernelModule(n, p, b, tuple(d), tuple(s), size, digest) for n, p, b, d, s, size, digest in rows]
    return ModuleIndex(str(data["version"]), {m.name: m for m in modules}, frozenset(builtin))


def _soft_pre(line: str) -> list[str]:
    before = line.split("pre:", 1)[1] if "pre:" in line else ""
    return before.split("post:", 1)[0].split()


def modinfo(data: bytes, where: str) -> dict[str, list[str]]:
    """The ``.modinfo`` entries of a module, by key."""
    section = _elf_section(data, b".modinfo", where)
    info: dict[str, list[str]] = {}
    for item in section.split(b"\0"):
        key, equals, value = item.partition(b"=")
        if equals:
            info.setdefault(key.decode(errors="replace"), []).append(value.decode(errors="replace"))
    return info


def _elf_section(data: bytes, name: bytes, where: str) -> bytes:
    # ELF-64 little endian (System V gABI, "ELF Header" and "Sections"); pyelftools takes 30 ms a module, this 20 us.
    try:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        (table,) = struct.unpack_from("<Q", data, 40)
        size, count, names = struct.unpack_from("<HHH", data, 58)
        headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
        start = headers[names][4]
        for header in headers:
            at = start + header[0]
            if data[at : data.index(b"\0", at)] == name:
                return data[header[4] : header[4] + header[5]]
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise BedplateError(f"not a kernel module ({error})", where=where, remedy="import the package again") from error
    return b""


def select(index: ModuleIndex, wanted: Sequence[str], where: str) -> dict[str, KernelModule]:
    """The modules a track lists and all they depend on, by name.

    Args:
        wanted: Module names, or patterns of paths below ``kernel/`` without suffix (``net/netfilter/**``).
        where: Named in errors.

    Raises:
        BadInput: entries that name nothing, all of them at once, or a dependency the package lacks.
    """
    chosen: dict[str, KernelModule] = {}
    unknown: list[str] = []
    below = {module.name: module.below for module in index.modules.values()}
    for item in wanted:
        found = [index.modules[name] for name in _matching(below, item)]
        if not found and module_name(item) not in index.builtin:
            unknown.append(item)
        for module in found:
            _add_with_dependencies(index, module, chosen, where)
    if unknown:
        raise BadInput(
            "these entries name no module of the kernel",
            where=where,
            details=unknown,
            remedy="correct or remove them; names are as modinfo(8) shows them, patterns are below kernel/",
        )
    return dict(sorted(chosen.items()))


def _matching(below: Mapping[str, str], item: str) -> list[str]:
    """Names of the modules an entry of a track's list means; ``below`` maps names to paths below ``kernel/``."""
    if "/" not in item and "*" not in item:
        name = module_name(item)
        return [name] if name in below else []
    match: Callable[[str], object] = re.compile(translate("/" + item)).fullmatch
    return [name for name, path in below.items() if match("/" + path)]


def _add_with_dependencies(
    index: ModuleIndex, module: KernelModule, chosen: dict[str, KernelModule], where: str
) -> None:
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current.name in chosen:
            continue
        chosen[current.name] = current
        for name in current.depends:
            if name in index.modules:
                waiting.append(index.modules[name])
            elif name not in index.builtin:
                raise BadInput(f"module {current.name} depends on {name}, which the kernel package lacks", where=where)
        waiting += [index.modules[name] for name in current.soft if name in index.modules]


def load_order(index: ModuleIndex, names: Sequence[str], where: str) -> list[KernelModule]:
    """``names`` and their dependencies in an order insmod(8) can load them; what is built in is left out.

    Raises:
        BadInput: a name the kernel does not know.
    """
    known = select(index, names, where)
    order: dict[str, KernelModule] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in order or name not in known:
            return
        if name in path:
            raise BadInput(f"modules depend on each other in a circle: {' -> '.join((*path, name))}", where=where)
        for needed in (*known[name].soft, *known[name].depends):
            visit(needed, (*path, name))
        order[name] = known[name]

    for name in names:
        visit(module_name(name), ())
    return list(order.values())
