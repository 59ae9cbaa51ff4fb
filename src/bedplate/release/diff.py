"""What changes from one release to another, for the person who decides whether to go. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bedplate.model.evr import Evr
from bedplate.model.release import ArtefactKind, Release
from bedplate.model.version import compare_versions

# Lists of facts of which every addition deserves a look.
_WATCHED = {
    "setid": "set-id files",
    "capabilities": "files with capabilities",
    "world_writable": "world-writable paths",
    "interpreters": "interpreters",
    "listening": "listening sockets",
}


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that differs: ``old`` and ``new`` are EVRs, empty where it is not there. ``kind`` is added, removed,
    upgraded or downgraded; ``cves`` those its source's change is said to fix."""

    name: str
    kind: str
    old: str
    new: str
    source: str
    cves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListChange:
    """A list of facts that differs: ``what`` in words."""

    what: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseDiff:
    """The whole difference. ``sizes`` maps artefact kinds to bytes before and after; ``must_know`` are sentences for
    the operator, the most important first."""

    track: str
    old: str
    new: str
    packages: tuple[PackageChange, ...]
    lists: tuple[ListChange, ...]
    kernel: tuple[str, str]
    sizes: Mapping[str, tuple[int, int]]
    must_know: tuple[str, ...]
    cves_known: bool = field(default=False)

    @property
    def cves(self) -> tuple[str, ...]:
        """All CVEs that are said to be fixed."""
        return tuple(sorted({cve for change in self.packages for cve in change.cves}))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "cves": list(self.cves)}

    def lines(self) -> Iterator[str]:
        """The difference as text."""
        yield f"{self.track} {self.old} -> {self.new}"
        for sentence in self.must_know:
            yield f"! {sentence}"
        if self.kernel[0] != self.kernel[1]:
            yield f"kernel {self.kernel[0]} -> {self.kernel[1]}"
        for kind in ("added", "removed", "upgraded", "downgraded"):
            changes = [change for change in self.packages if change.kind == kind]
            if changes:
                yield f"{len(changes)} packages {kind}"
                yield from (_package_line(change) for change in changes)
        if not self.packages:
            yield "the same packages"
        for change in self.lists:
            yield change.what
            yield from (f"  + {one}" for one in change.added)
            yield from (f"  - {one}" for one in change.removed)
        for kind, (before, after) in self.sizes.items():
            if before != after:
                yield f"size of {kind:8} {before:>12} -> {after:>12} ({after - before:+} bytes)"
        if self.cves:
            yield f"fixes {', '.join(self.cves)}"
        elif not self.cves_known:
            yield "CVEs: not known (give a list with --cves)"


def _package_line(change: PackageChange) -> str:
    versions = " -> ".join(filter(None, (change.old, change.new)))
    return f"  {change.name} {versions}" + (f"  fixes {', '.join(change.cves)}" if change.cves else "")


def diff_releases(
    old: Release,
    old_facts: Mapping[str, Any],
    new: Release,
    new_facts: Mapping[str, Any],
    cves: Mapping[str, Sequence[str]] | None = None,
) -> ReleaseDiff:
    """Compare two releases of one track.

    Args:
        old_facts: The release's facts, see ``bedplate.flows.release_facts``.
        cves: CVE -> source packages whose newer version fixes it, where somebody knows.
    """
    fixing: dict[str, list[str]] = {}
    for cve, sources in sorted((cves or {}).items()):
        for source in sources:
            fixing.setdefault(source, []).append(cve)
    sizes = {
        kind.value: (_size(old, kind), _size(new, kind))
        for kind in (ArtefactKind.ROOT, ArtefactKind.VERITY, ArtefactKind.UKI, ArtefactKind.DISK)
        if _size(old, kind) or _size(new, kind)
    }
    return ReleaseDiff(
        track=new.track,
        old=old.version,
        new=new.version,
        packages=tuple(_packages(old_facts.get("packages", {}), new_facts.get("packages", {}), fixing)),
        lists=tuple(_lists(old, old_facts, new, new_facts)),
        kernel=(old.kernel, new.kernel),
        sizes=sizes,
        must_know=tuple(_must_know(old, old_facts, new, new_facts)),
        cves_known=cves is not None and bool(cves),
    )


def _packages(
    old: Mapping[str, Any], new: Mapping[str, Any], fixing: Mapping[str, Sequence[str]]
) -> Iterator[PackageChange]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, {}), new.get(name, {})
        one, two = str(before.get("evr", "")), str(after.get("evr", ""))
        if one == two:
            continue
        source = str(after.get("source") or before.get("source", ""))
        if not one or not two:
            kind = "added" if two else "removed"
        else:
            kind = "upgraded" if Evr.parse(one) < Evr.parse(two) else "downgraded"
        fixed = tuple(fixing.get(source, ())) if kind == "upgraded" else ()
        yield PackageChange(name, kind, one, two, source, fixed)


def _lists(
    old: Release, old_facts: Mapping[str, Any], new: Release, new_facts: Mapping[str, Any]
) -> Iterator[ListChange]:
    rows = [(what, old_facts.get(key, []), new_facts.get(key, [])) for key, what in _WATCHED.items()]
    rows.append(("kernel command line", _options(old), _options(new)))
    for what, before, after in rows:
        added, removed = sorted(set(after) - set(before)), sorted(set(before) - set(after))
        if added or removed:
            yield ListChange(what, tuple(added), tuple(removed))


def _must_know(old: Release, old_facts: Mapping[str, Any], new: Release, new_facts: Mapping[str, Any]) -> Iterator[str]:
    if compare_versions(new.version, old.version) < 0:
        yield f"{new.version} is older than {old.version}: nodes never go back by themselves"
    if new.floor and compare_versions(old.version, new.floor) < 0:
        yield f"nodes below {new.floor} go to {new.floor} first, {old.version} among them"
    elif new.floor:
        yield f"nodes below {new.floor} go to {new.floor} first"
    if new.reboot:
        yield "nodes reboot into it"
    for role in sorted(old.signers.keys() | new.signers.keys()):
        before, after = old.signers.get(role), new.signers.get(role)
        if before is not None and after is not None and before.fingerprint != after.fingerprint:
            yield f"signed by another {role} key ({before.fingerprint[:16]} -> {after.fingerprint[:16]})"
    if new.development:
        yield "signed with development keys: it cannot go to a channel that takes release keys alone"
    if old_facts.get("slots") != new_facts.get("slots"):
        yield "sizes of the partitions changed; installed machines keep theirs"
    if new.notes:
        yield new.notes


def _options(release: Release) -> list[str]:
    return [option for option in release.command_line.split() if not option.startswith("roothash=")]


def _size(release: Release, kind: ArtefactKind) -> int:
    return next((artefact.size for artefact in release.artefacts if artefact.kind == kind), 0)
