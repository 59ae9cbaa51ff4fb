"""The same package made by rpmbuild: staged files and a generated spec."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bedplate.model.package import FileEntry, FileFlag, FileKind
from bedplate.packages.rpm.spec import PackageSpec
from bedplate.toolchain.run import Toolbox

_WORDS = {
    FileFlag.NOREPLACE: "%config(noreplace)",
    FileFlag.CONFIG: "%config",
    FileFlag.GHOST: "%ghost",
    FileFlag.DOC: "%doc",
    FileFlag.LICENSE: "%license",
}
_RELATIONS = ("requires", "provides", "conflicts", "obsoletes", "recommends", "suggests")


def stage(root: Path, entries: Sequence[FileEntry], contents: dict[str, bytes]) -> None:
    """Lay the files of a package out below ``root`` with their modes, times and links."""
    for entry in entries:
        target = root / entry.path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind is FileKind.DIRECTORY:
            target.mkdir(exist_ok=True)
        elif entry.kind is FileKind.SYMLINK:
            target.symlink_to(entry.target)
        elif entry.hardlink not in ("", entry.path):
            target.hardlink_to(root / entry.hardlink[1:])
        else:
            target.write_bytes(contents.get(entry.path, b""))
    for entry in reversed(entries):
        target = root / entry.path[1:]
        if entry.kind is not FileKind.SYMLINK:
            target.chmod(entry.mode)
        os.utime(target, (entry.mtime, entry.mtime), follow_symlinks=False)


def build(
    toolbox: Toolbox,
    spec: PackageSpec,
    contents: dict[str, bytes],
    work: Path,
    payload: str = "w3.zstdio",
    more: str = "",
) -> Path:
    """Have rpmbuild make the package of ``spec``; its ELF and script generators are off.

    ``payload`` is rpmbuild's payload setting, ``more`` further sections of the spec file.
    """
    root = work / "root"
    root.mkdir(parents=True)
    stage(root, sorted(spec.files, key=lambda entry: entry.path), contents)
    spec_file = work / "package.spec"
    spec_file.write_text(_spec_text(spec) + more)
    defines = {
        "_topdir": work / "top",
        "_binary_payload": payload,
        "debug_package": "%{nil}",
        "__os_install_post": "%{nil}",
        "__spec_install_pre": "%{nil}",
        "_build_id_links": "none",
        "__elf_provides": "%{nil}",
        "__elf_requires": "%{nil}",
        "__script_requires": "%{nil}",
        "_buildhost": spec.build_host,
        "use_source_date_epoch_as_buildtime": "1",
        "optflags": "%{nil}",
    }
    options = [text for name, value in defines.items() for text in ("--define", f"{name} {value}")]
    toolbox.run("rpmbuild", "-bb", "--noclean", *options, "--buildroot", root, spec_file, cwd=work)
    return next((work / "top").rglob("*.rpm"))


def _spec_text(spec: PackageSpec) -> str:
    nevra = spec.nevra
    lines = [
        f"Name: {nevra.name}",
        f"Epoch: {nevra.evr.epoch}" if nevra.evr.epoch else "",
        f"Version: {nevra.evr.version}",
        f"Release: {nevra.evr.release}",
        f"Summary: {spec.summary}",
        f"License: {spec.license}",
        f"URL: {spec.url}" if spec.url else "",
        "BuildArch: noarch" if nevra.arch == "noarch" else "",
        *(f"{kind.capitalize()}: {text}" for kind in _RELATIONS for text in getattr(spec, kind)),
        "%description",
        spec.description,
        "%files",
        *(_file_line(entry) for entry in spec.files),
    ]
    return "\n".join(lines) + "\n"


def _file_line(entry: FileEntry) -> str:
    words = [word for flag, word in _WORDS.items() if entry.flags & flag]
    if "%config(noreplace)" in words:
        words.remove("%config")
    if entry.kind is FileKind.DIRECTORY:
        words.append("%dir")
    if entry.kind is not FileKind.SYMLINK:
        words.append(f"%attr({entry.mode:o},{entry.user},{entry.group})")
    if entry.capabilities:
        words.append(f"%caps({entry.capabilities})")
    return f'{" ".join(words)} "{entry.path}"'
