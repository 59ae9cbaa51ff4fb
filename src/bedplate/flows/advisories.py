"""Advisories for packages on their way into the repository, from whatever knows of security fixes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from time import gmtime

from bedplate.flows.cache import part
from bedplate.flows.workspace import Workspace
from bedplate.model.advisory import AdvisedPackage, Advisory
from bedplate.model.definition.distro import AdvisoryPolicy
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra, SourceRef
from bedplate.packages.atomic import caching
from bedplate.packages.changelog import ChangelogEntry, debian_changelog
from bedplate.packages.deb.mapping import map_version
from bedplate.packages.importer import ImportedPackage
from bedplate.packages.rpm.reader import RpmPackage

# How an update within a stable release is numbered; a rebuild without a change of the source adds its own number.
_STABLE_UPDATE = re.compile(r"[+~]deb[0-9]+u[0-9]+")
_REBUILD = re.compile(r"\+b[0-9]+$")
_DESCRIBED = 2000
_RESTS_ON = (
    "upstream published this version in its security suite ({suite}); the CVE ids are those that the change log of "
    "this version names. A change log is no proof that a fix is complete, and nobody rated the severity here."
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package an advisory may be about: our unsigned RPM with its digest, and the suite upstream has it in."""

    nevra: Nevra
    source: SourceRef
    suite: str
    path: Path
    rpm_sha256: str


AdvisorySource = Callable[[Workspace, DefinitionSet, Sequence[Candidate]], list[Advisory]]
"""Something that knows of fixes: gives the advisories that concern some of the packages."""


def advisories_for(
    workspace: Workspace, definition: DefinitionSet, imported: Sequence[ImportedPackage]
) -> list[Advisory]:
    """What all sources say about ``imported``; of the same id the later source's word counts."""
    candidates = [Candidate(one.nevra, one.source, one.upstream.suite, one.path, one.rpm_sha256) for one in imported]
    found = [advisory for source in SOURCES for advisory in source(workspace, definition, candidates)]
    return list({advisory.id: advisory for advisory in found}.values())


def from_security_suites(
    workspace: Workspace, definition: DefinitionSet, candidates: Sequence[Candidate]
) -> list[Advisory]:
    """One advisory for each version that upstream published in a security suite: of every source package the version
    at hand, and the ones it supersedes within the release, as its change log tells."""
    policy = definition.distro.advisories
    by_source: dict[SourceRef, list[Candidate]] = {}
    for one in candidates:
        by_source.setdefault(one.source, []).append(one)
    found: list[Advisory] = []
    stable = frozenset(suite.name for upstream in definition.distro.upstreams for suite in upstream.suites)
    for source, members in sorted(by_source.items(), key=lambda item: str(item[0])):
        is_published = any(one.suite in policy.suites for one in members)
        if is_published or any(_STABLE_UPDATE.search(str(one.nevra.evr)) for one in members):
            entries = _entries(workspace, source, members)
            found += of_source(policy, stable, source, members, entries, is_published)
    return found


SOURCES: tuple[AdvisorySource, ...] = (from_security_suites,)
"""Plug-ins, the least certain first."""


def of_source(
    policy: AdvisoryPolicy,
    stable: frozenset[str],
    source: SourceRef,
    members: Sequence[Candidate],
    entries: Sequence[ChangelogEntry],
    is_published: bool,
) -> list[Advisory]:
    """The advisories of one source package.

    Args:
        stable: Every suite of the release.
        members: Its packages at hand.
        entries: Its change log from the version at hand on, newest first.
        is_published: Whether upstream has the version at hand in a security suite.
    """
    found = []
    for entry in entries:
        evr = map_version(entry.version)
        is_current = evr == source.evr
        if not is_current and not stable.intersection(entry.targets):
            break  # the release's own version, or a version of another release that was taken as it is
        suite = next((name for name in entry.targets if name in policy.suites), policy.suites[0] if is_current else "")
        if not suite or (is_current and not is_published and suite not in entry.targets):
            continue
        packages = [
            AdvisedPackage(
                one.nevra if is_current else Nevra(one.nevra.name, evr, one.nevra.arch), SourceRef(source.name, evr)
            )
            for one in members
            # What is numbered apart from its source cannot be numbered back.
            if is_current or _same_but_for_rebuilds(one.nevra.evr, source.evr)
        ]
        if packages:
            found.append(_advisory(policy, source.name, evr, entry, suite, packages))
    return found


def _advisory(
    policy: AdvisoryPolicy, name: str, evr: Evr, entry: ChangelogEntry, suite: str, packages: Sequence[AdvisedPackage]
) -> Advisory:
    needs_reboot = any(fnmatchcase(name, pattern) for pattern in policy.reboot)
    return Advisory(
        id=f"{policy.prefix}-{gmtime(entry.date).tm_year}:{name}-{evr.version}-{evr.release}",
        title=f"{name} {evr}",
        issued=entry.date,
        packages=tuple(AdvisedPackage(one.nevra, one.source, needs_reboot) for one in packages),
        cves=entry.cves,
        description=_shortened(entry.text),
        rests_on=_RESTS_ON.format(suite=suite),
    )


def _shortened(text: str) -> str:
    """A kernel's change log has thousands of lines: whole lines, as many as are of use in an advisory."""
    return text if len(text) <= _DESCRIBED else text[: text.rfind("\n", 0, _DESCRIBED)] + "\n  …"


def _same_but_for_rebuilds(binary: Evr, source: Evr) -> bool:
    return (binary.epoch, binary.version, _REBUILD.sub("", binary.release)) == (
        source.epoch,
        source.version,
        source.release,
    )


def _entries(workspace: Workspace, source: SourceRef, members: Sequence[Candidate]) -> tuple[ChangelogEntry, ...]:
    """The entries from the version at hand on, from whichever of its packages carries the change log."""
    for one in sorted(members, key=lambda member: member.path.stat().st_size):
        entries = _cached(part(workspace, "descriptions") / "changelogs", one)
        at = next((at for at, entry in enumerate(entries) if map_version(entry.version) == source.evr), None)
        if at is not None:
            return entries[at:]
    return ()


def _cached(folder: Path, one: Candidate) -> tuple[ChangelogEntry, ...]:
    """Kept by the package's digest."""
    record = folder / f"{one.rpm_sha256}.json"
    try:
        return tuple(
            ChangelogEntry(**{**entry, "targets": tuple(entry["targets"])}) for entry in json.loads(record.read_text())
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        pass  # not there, or damaged: read again
    entries = debian_changelog(RpmPackage.open(one.path))
    folder.mkdir(parents=True, exist_ok=True)
    with caching(record) as stream:
        stream.write(json.dumps([asdict(entry) for entry in entries]).encode())
    return entries
