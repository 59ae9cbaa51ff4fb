"""A foreign RPM becomes a draft of ours: name, relations and files as they are, scriptlets and triggers set apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from bedplate.model.definition.facts import PackageFacts
from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import Candidate, FileEntry, FileKind, Location, Nevra, SourceRef, UpstreamPackage
from bedplate.packages import additions, payload_rules
from bedplate.packages.deb.limits import DEFAULT_LIMITS
from bedplate.packages.deb.paths import ALIASES, canonical
from bedplate.packages.draft import Draft, PayloadStore, Recipe
from bedplate.packages.rpm.dependency import sysusers_provides
from bedplate.packages.rpm.header import Header
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.spec import PackageSpec
from bedplate.packages.rpm.tags import Tag

# What the writer derives from the files anew. rpm itself never asks a package for rpmlib(…).
_DERIVED_REQUIRES = ("rpmlib(", "config(")
_DERIVED_PROVIDES = ("config(", "bedplate-source(")
_OWNERS = ("user(", "group(")
_SYSUSERS = "/usr/lib/sysusers.d/"


def candidate(package: UpstreamPackage, facts: PackageFacts | None) -> Candidate:
    """What the solver may choose: the relations of the index as they are, and what the facts add."""
    fields = package.fields
    added = tuple(facts.provides) if facts is not None else ()
    needed = tuple(facts.requires) if facts is not None else ()
    return Candidate(
        nevra=Nevra(package.name, Evr.parse(package.version), package.arch),
        source=SourceRef(package.source_name, Evr.parse(package.source_version)),
        location=package.location,
        requires=(*(text for text in fields.get("requires", ()) if not text.startswith("rpmlib(")), *needed),
        provides=tuple(dict.fromkeys((*fields.get("provides", ()), *added))),
        conflicts=fields.get("conflicts", ()),
        obsoletes=fields.get("obsoletes", ()),
        recommends=fields.get("recommends", ()),
        suggests=fields.get("suggests", ()),
        files=fields.get("files", ()),
        essential=package.essential,
        format=package.format,
        suite=package.suite,
        upstream_version=package.version,
    )


def describe(path: Path, location: Location, suite: str) -> UpstreamPackage:
    """What an index would say of the RPM at ``path``, from its own header.

    Raises:
        BadInput: the file is damaged.
    """
    package = RpmPackage.open(path)
    kinds = ("requires", "provides", "conflicts", "obsoletes", "recommends", "suggests")
    return UpstreamPackage(
        format="rpm",
        name=package.nevra.name,
        version=str(package.nevra.evr),
        arch=package.nevra.arch,
        source_name=package.source.name,
        source_version=str(package.source.evr),
        location=location,
        suite=suite,
        fields={kind: getattr(package, kind) for kind in kinds},
    )


def draft(recipe: Recipe, path: Path, store: PayloadStore) -> Draft:
    """Read the RPM at ``path`` into ``store`` and decide what our package will be.

    Raises:
        BadInput: the file is damaged or hostile, or is not the package the index named.
    """
    package = RpmPackage.open(path)
    if package.nevra != recipe.candidate.nevra:
        raise BadInput(
            f"the file holds {package.nevra}, the index names {recipe.candidate.nevra}",
            where=path.name,
            remedy="the mirror mixes up its files: use another one",
        )
    files = _canonical(package.files, str(package.nevra))
    derived: set[str] = set()
    for entry, data in package.read(lambda _path: True):
        if entry.hardlink in ("", entry.path):
            store.put(_canonical_path(entry.path, str(package.nevra)), data)
        if entry.path.startswith(_SYSUSERS):
            derived.update(one.name for one in sysusers_provides(data.decode(errors="replace")))
    kept, findings = payload_rules.apply(recipe, additions.add(recipe, files, store))
    # A requirement the definition drops is dropped here too; everything else is as the package says.
    original = candidate(recipe.package, recipe.facts)
    dropped = frozenset(original.requires) - frozenset(recipe.candidate.requires)
    dropped_conflicts = frozenset(original.conflicts) - frozenset(recipe.candidate.conflicts)
    header = package.header
    spec = PackageSpec(
        nevra=package.nevra,
        source=package.source,
        summary=header.text(Tag.SUMMARY) or package.nevra.name,
        description=header.text(Tag.DESCRIPTION),
        license=header.text(Tag.LICENSE),
        url=header.text(Tag.URL),
        vendor=header.text(Tag.VENDOR),
        packager=header.text(Tag.PACKAGER),
        build_time=header.number(Tag.BUILD_TIME, 0) or 0,
        requires=(
            *(text for text in package.requires if not text.startswith(_DERIVED_REQUIRES) and text not in dropped),
            *(text for text in (recipe.facts.requires if recipe.facts is not None else ()) if text not in dropped),
        ),
        provides=(
            *_provides(package, derived),
            *(recipe.facts.provides if recipe.facts is not None else ()),
        ),
        conflicts=tuple(text for text in package.conflicts if text not in dropped_conflicts),
        obsoletes=package.obsoletes,
        recommends=package.recommends,
        suggests=package.suggests,
        supplements=package.dependencies("supplements"),
        enhances=package.dependencies("enhances"),
        files=kept,
        changelog=_changelog(header),
    )
    return Draft(spec, store.contents, package.scripts, findings)


def _canonical(files: tuple[FileEntry, ...], where: str) -> list[FileEntry]:
    return [
        replace(
            entry,
            path=_canonical_path(entry.path, where),
            hardlink=_canonical_path(entry.hardlink, where) if entry.hardlink else "",
        )
        for entry in files
        if not (entry.path[1:] in ALIASES and entry.kind is not FileKind.FILE)
    ]


def _canonical_path(path: str, where: str) -> str:
    return canonical(path[1:], DEFAULT_LIMITS.path, where)


def _provides(package: RpmPackage, derived: Collection[str]) -> Iterator[str]:
    """The package's provides without those the writer makes from its files. A user it provides by word alone keeps its
    name; the sysusers.d line that stands for its version may hold what no version can."""
    for text in package.provides:
        name = text.partition(" ")[0]
        if text.startswith(_OWNERS):
            if name not in derived:
                yield name
        elif not text.startswith(_DERIVED_PROVIDES):
            yield text


def _changelog(header: Header) -> tuple[tuple[int, str, str], ...]:
    times = header.numbers(Tag.CHANGELOG_TIME)
    names, texts = header.texts(Tag.CHANGELOG_NAME), header.texts(Tag.CHANGELOG_TEXT)
    if not len(times) == len(names) == len(texts):
        return ()
    return tuple(zip(times, names, texts, strict=True))
