"""A Debian package becomes a draft of ours: its payload under RPM's rules, its scripts set apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bedplate.model.errors import BadInput, Finding, Level
from bedplate.model.globs import matcher
from bedplate.model.package import FileEntry, FileFlag, FileKind, Location, UpstreamPackage
from bedplate.packages import additions, elf, payload_rules
from bedplate.packages.deb.licence import licence_of
from bedplate.packages.deb.mapping import map_version, source_of
from bedplate.packages.deb.reader import DebPackage
from bedplate.packages.draft import Draft, PayloadStore, Recipe
from bedplate.packages.rpm.spec import PackageSpec
from bedplate.packages.scripts.ledger import from_deb

_DOCUMENTATION = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/gtk-doc/")
_LICENCE_NAMES = frozenset({"copyright", "COPYING", "LICENSE", "LICENCE"})
_MODULES = "/usr/lib/modules/"
_DEBUG = "/usr/lib/debug/"


_RELATIONS = (
    "Depends",
    "Pre-Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Replaces",
    "Recommends",
    "Suggests",
    "Enhances",
)


def describe(path: Path, location: Location, suite: str) -> UpstreamPackage:
    """What an index would say of the .deb at ``path``, from its own control data.

    Raises:
        BadInput: the file is damaged or lacks a field.
    """
    package = DebPackage.open(path, where=location.path)
    fields = package.fields
    missing = [key for key in ("Package", "Version", "Architecture") if key not in fields]
    if missing:
        raise BadInput(f"its control data lacks {', '.join(missing)}", where=location.path, remedy="drop the package")
    source_name, source_version = source_of(fields)
    return UpstreamPackage(
        format="deb",
        name=fields["Package"],
        version=fields["Version"],
        arch=fields["Architecture"],
        source_name=source_name,
        source_version=source_version,
        location=location,
        suite=suite,
        essential=fields.get("Essential") == "yes",
        fields={key: (fields[key],) for key in _RELATIONS if key in fields},
    )


def draft(recipe: Recipe, path: Path, store: PayloadStore) -> Draft:
    """Read the .deb at ``path`` into ``store`` and decide what our package will be.

    Raises:
        BadInput: the file is damaged or hostile, or is not the package the index named.
    """
    package = DebPackage.open(path, where=f"{recipe.package.name} {recipe.package.version}")
    _check_identity(recipe, package)
    files: list[FileEntry] = []
    requires: dict[str, None] = dict.fromkeys(recipe.candidate.requires)
    provides: dict[str, None] = dict.fromkeys(recipe.candidate.provides)
    conffiles = frozenset(package.conffiles)
    licence = b""
    dropped = matcher(recipe.facts.drop if recipe.facts else [])
    for entry, data in package.payload():
        files.append(_as_config(entry) if entry.path in conffiles else _flagged(entry))
        if entry.kind is not FileKind.FILE or entry.hardlink:
            continue
        store.put(entry.path, data)
        if elf.is_elf(data) and not _is_excluded(entry.path) and not dropped(entry.path):
            found = elf.dependencies(entry.path, data, executable=bool(entry.mode & 0o111))
            requires.update(dict.fromkeys(found.requires))
            provides.update(dict.fromkeys(found.provides))
        if entry.path == f"/usr/share/doc/{recipe.package.name}/copyright":
            licence = data
    kept, findings = payload_rules.apply(recipe, additions.add(recipe, _with_groups(files), store))
    spec = PackageSpec(
        nevra=recipe.candidate.nevra,
        source=recipe.candidate.source,
        summary=_summary(package.fields),
        description=_description(package.fields),
        license=licence_of(licence),
        url=package.fields.get("Homepage", ""),
        packager=package.fields.get("Maintainer", ""),
        build_time=max((entry.mtime for entry in files), default=0),
        requires=tuple(requires),
        provides=tuple(provides),
        conflicts=recipe.candidate.conflicts,
        obsoletes=recipe.candidate.obsoletes,
        recommends=recipe.candidate.recommends,
        suggests=recipe.candidate.suggests,
        files=kept,
    )
    scripts = from_deb(recipe.package.name, package.scripts, package.control_files).scripts
    return Draft(spec, store.contents, scripts, (*findings, *_missing_conffiles(recipe, package, files)))


def _check_identity(recipe: Recipe, package: DebPackage) -> None:
    said = (recipe.package.name, recipe.package.version, recipe.package.arch)
    found = tuple(package.fields[key] for key in ("Package", "Version", "Architecture"))
    if said != found or map_version(found[1]) != recipe.candidate.nevra.evr:
        raise BadInput(
            f"the file holds {' '.join(found)}, the index names {' '.join(said)}",
            where=package.where,
            remedy="the mirror mixes up its files: use another one",
        )


def _with_groups(files: list[FileEntry]) -> list[FileEntry]:
    """Every member of a link group, the first too, names the group's first path."""
    firsts = {entry.hardlink for entry in files if entry.hardlink}
    return [replace(entry, hardlink=entry.path) if entry.path in firsts else entry for entry in files]


def _as_config(entry: FileEntry) -> FileEntry:
    return replace(entry, flags=entry.flags | FileFlag.CONFIG | FileFlag.NOREPLACE)


def _flagged(entry: FileEntry) -> FileEntry:
    if entry.kind is FileKind.DIRECTORY or not entry.path.startswith(_DOCUMENTATION):
        return entry
    name = entry.path.rpartition("/")[2]
    flag = FileFlag.LICENSE if name in _LICENCE_NAMES else FileFlag.DOC
    return replace(entry, flags=entry.flags | flag)


def _is_excluded(path: str) -> bool:
    return path.startswith(_DEBUG) or (path.startswith(_MODULES) and ".ko" in path)


def _summary(fields: Mapping[str, str]) -> str:
    return fields.get("Description", "").split("\n", 1)[0].strip() or fields["Package"]


def _description(fields: Mapping[str, str]) -> str:
    lines = fields.get("Description", "").split("\n")[1:]
    return "\n".join("" if line.strip() == "." else line for line in lines) or _summary(fields)


def _missing_conffiles(recipe: Recipe, package: DebPackage, files: list[FileEntry]) -> list[Finding]:
    paths = {entry.path for entry in files}
    return [
        Finding(
            id="import.conffile.missing",
            level=Level.INFO,
            cause=f"the conffile {path} is not in the payload",
            where=recipe.package.name,
        )
        for path in package.conffiles
        if path not in paths
    ]
