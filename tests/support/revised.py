"""Packages of a repository in a later version: the same header, a higher release, and whatever files a test changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileKind
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.spec import PackageSpec
from bedplate.packages.rpm.tags import Tag
from bedplate.packages.rpm.writer import write_rpm

_KINDS = ("requires", "provides", "conflicts", "obsoletes", "recommends", "suggests")


def revised(source: Path, suffix: str, out: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """The package at ``source`` with ``suffix`` behind its release, as ``out``/NEVRA.rpm.

    Args:
        files: Path -> new content, for files it has and files it gets.
    """
    package = RpmPackage.open(source)
    old = package.nevra
    nevra = replace(old, evr=Evr(old.evr.epoch, old.evr.version, old.evr.release + suffix))
    changed = dict(files or {})
    contents = {entry.path: data for entry, data in package.read(lambda _: True)} | changed
    entries = [
        replace(entry, size=len(contents[entry.path]), sha256="") if entry.path in changed else entry
        for entry in package.files
    ]
    known = {entry.path for entry in entries}
    entries += [
        FileEntry(path, FileKind.FILE, 0o644, mtime=0, size=len(data))
        for path, data in changed.items()
        if path not in known
    ]
    before, own = f" = {old.evr}", (f"{old.name} ", f"{old.name}(", f"config({old.name})", "bedplate-source(")
    relations = {
        kind: tuple(
            # What asked for its very own version takes any from that on; what it is by itself the writer says.
            text.replace(before, f" = {nevra.evr}" if kind == "provides" else f" >= {old.evr}")
            for text in package.dependencies(kind)
            if not (text.endswith(before) and text.startswith(own))
        )
        for kind in _KINDS
    }
    header = package.header
    spec = PackageSpec(
        nevra=nevra,
        source=package.source,
        summary=header.text(Tag.SUMMARY),
        description=header.text(Tag.DESCRIPTION),
        license=header.text(Tag.LICENSE),
        files=tuple(entries),
        **relations,
    )
    path = out / f"{nevra}.rpm"
    write_rpm(spec, lambda entry: [contents[entry.path]], path)
    return path
