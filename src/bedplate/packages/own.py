"""Packages made from the definition alone: ``filesystem``, ``bedplate-release`` and what else ``distro/own`` names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bedplate.model.definition.distro import Distro
from bedplate.model.definition.facts import Alternative, Ids
from bedplate.model.definition.own import OwnFile, OwnPackage
from bedplate.model.digest import identity
from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import Candidate, FileEntry, FileFlag, FileKind, Nevra, SourceRef
from bedplate.packages.accounts import sysusers_lines
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.spec import FileTrigger, PackageSpec
from bedplate.packages.rpm.writer import WRITER_VERSION, write_rpm

ARCHITECTURE = "noarch"
LICENCE = "MIT"
_MACRO = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True, slots=True)
class OwnContext:
    """What own packages are made from besides their own definition. ``keys`` maps a role to its public key's bytes,
    ``keyrings`` to those of all its keys, in use and announced; ``alternatives`` are those of all packages."""

    distro: Distro
    ids: Ids
    keys: Mapping[str, bytes]
    alternatives: Sequence[Alternative] = ()
    keyrings: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuiltPackage:
    """One own package: our unsigned RPM at ``path``; ``rpm_sha256`` and ``size`` are of that file."""

    nevra: Nevra
    source: SourceRef
    path: Path
    rpm_sha256: str
    size: int


def nevra_of(package: OwnPackage, distro: Distro) -> Nevra:
    """Name, the distribution's version, the package's release."""
    return Nevra(package.name, Evr(0, distro.version, package.release), ARCHITECTURE)


def candidate(package: OwnPackage, distro: Distro) -> Candidate:
    """What the solver may choose. It has no location: nothing needs to be downloaded."""
    nevra = nevra_of(package, distro)
    return Candidate(
        nevra=nevra,
        source=SourceRef(package.name, nevra.evr),
        location=None,
        requires=tuple(_fill_all(package.requires, package, distro)),
        provides=(f"{package.name} = {nevra.evr}", *_fill_all(package.provides, package, distro)),
        conflicts=tuple(_fill_all(package.conflicts, package, distro)),
        obsoletes=tuple(_fill_all(package.obsoletes, package, distro)),
        format="own",
        suite=distro.stream,
        upstream_version=str(nevra.evr),
    )


def build(package: OwnPackage, context: OwnContext, cache_dir: Path) -> BuiltPackage:
    """Write the RPM of an own package, or find it in the cache.

    Raises:
        BadInput: the definition names an unknown key, macro or owner, or two things at one path.
        BedplateError: the cache cannot be written.
    """
    distro = context.distro
    contents = dict(_contents(package, context))
    spec = PackageSpec(
        nevra=nevra_of(package, distro),
        source=SourceRef(package.name, nevra_of(package, distro).evr),
        summary=package.summary,
        description=package.description.strip(),
        license=LICENCE,
        url=distro.home_url,
        vendor=distro.name,
        build_time=distro.source_date_epoch,
        requires=tuple(_fill_all(package.requires, package, distro)),
        provides=tuple(_fill_all(package.provides, package, distro)),
        conflicts=tuple(_fill_all(package.conflicts, package, distro)),
        obsoletes=tuple(_fill_all(package.obsoletes, package, distro)),
        files=_entries(package, contents, context),
        file_triggers=tuple(
            FileTrigger(trigger.kind, trigger.interpreter, trigger.script, tuple(trigger.prefixes), trigger.priority)
            for trigger in package.triggers
        ),
    )
    target = cache_dir / f"{spec.nevra.name}-{_key(spec)[:32]}.rpm"
    if target.is_file():
        found = RpmPackage.open(target)
        return BuiltPackage(spec.nevra, spec.source, target, found.digest, found.size)
    cache_dir.mkdir(parents=True, exist_ok=True)
    written = write_rpm(spec, lambda entry: (contents[entry.path],), target)
    return BuiltPackage(spec.nevra, spec.source, target, written.sha256, written.size)


def sysusers(ids: Ids) -> str:
    """Every user and group of ``ids`` with its frozen id, as sysusers.d(5)."""
    return "\n".join(["# Every user and group of the distribution. The numbers are frozen.", *sysusers_lines(ids), ""])


def alternatives_table(alternatives: Iterable[Alternative]) -> str:
    """One line for each target of each link: link, priority, target; the highest priority of a link first."""
    rows = sorted({(one.link, -one.priority, one.target) for one in alternatives})
    lines = ["# Links that packages offer a target for: link, priority, target."]
    return "\n".join([*lines, *(f"{link} {-priority} {target}" for link, priority, target in rows)]) + "\n"


def owned_directories(packages: Iterable[OwnPackage]) -> frozenset[str]:
    """The directories of ``filesystem``, which no imported package owns."""
    return frozenset(path for package in packages if package.name == "filesystem" for path in package.directories)


def _contents(package: OwnPackage, context: OwnContext) -> Iterator[tuple[str, bytes]]:
    for path, file in package.files.items():
        yield path, _content(path, file, package, context)


def _content(path: str, file: OwnFile, package: OwnPackage, context: OwnContext) -> bytes:
    if file.make == "sysusers":
        return sysusers(context.ids).encode()
    if file.make == "alternatives":
        return alternatives_table(context.alternatives).encode()
    if file.make in ("key", "keyring"):
        known = context.keys if file.make == "key" else context.keyrings
        if file.key not in known:
            raise BadInput(
                f"no public key of the role {file.key!r}",
                where=f"own/{package.name}.toml: files.{path}",
                remedy="create it: bedplate keys create",
            )
        return known[file.key]
    if file.verbatim:
        return file.content.encode()
    return _fill(file.content.lstrip("\n"), package, context.distro).encode()


def _entries(package: OwnPackage, contents: Mapping[str, bytes], context: OwnContext) -> tuple[FileEntry, ...]:
    mtime = context.distro.source_date_epoch
    entries = [
        FileEntry(path, FileKind.DIRECTORY, int(mode.mode, 8), mode.user, mode.group, mtime)
        for path, mode in package.directories.items()
    ]
    entries += [
        FileEntry(path, FileKind.SYMLINK, 0o777, mtime=mtime, target=target) for path, target in package.links.items()
    ]
    for path, file in package.files.items():
        data = contents[path]
        flags = FileFlag.CONFIG | FileFlag.NOREPLACE if file.config else FileFlag.NONE
        digest = hashlib.sha256(data).hexdigest()
        mode = int(file.mode.mode, 8)
        entries.append(
            FileEntry(path, FileKind.FILE, mode, file.mode.user, file.mode.group, mtime, len(data), digest, flags=flags)
        )
    groups = {*context.ids.groups, *(name for name, user in context.ids.users.items() if not user.group)}
    unknown = [
        f"{entry.path}: {entry.user}:{entry.group}"
        for entry in entries
        if entry.user not in context.ids.users or entry.group not in groups
    ]
    if unknown:
        raise BadInput(
            "files belong to users or groups that have no frozen id",
            where=f"own/{package.name}.toml",
            details=unknown,
            remedy="add them to distro/ids.toml",
        )
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _fill_all(texts: Iterable[str], package: OwnPackage, distro: Distro) -> Iterator[str]:
    for text in texts:
        yield _fill(text, package, distro)


def _fill(text: str, package: OwnPackage, distro: Distro) -> str:
    values = {
        "ID": distro.id,
        "NAME": distro.name,
        "VERSION": distro.version,
        "STREAM": distro.stream,
        "HOME_URL": distro.home_url,
    }

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise BadInput(
                f"unknown macro {match[0]}",
                where=f"own/{package.name}.toml",
                remedy=f"known: {', '.join(f'@{name}@' for name in values)}",
            )
        return values[match[1]]

    return _MACRO.sub(value, text)


def _key(spec: PackageSpec) -> str:
    return identity([WRITER_VERSION, repr(spec)])
