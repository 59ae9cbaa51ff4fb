"""What changed between two locks, and why each package moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.lock import Lock, LockedPackage
from bedplate.model.relation import Plain, parse_relation, provides_match
from bedplate.resolve.request import TRACK, Solution


class ChangeKind(StrEnum):
    """How a package differs between two locks, in the order they are told."""

    ADDED = "added"
    REMOVED = "removed"
    UPGRADED = "upgraded"
    DOWNGRADED = "downgraded"
    REBUILT = "rebuilt"


_SIGNS = {
    ChangeKind.ADDED: "+",
    ChangeKind.REMOVED: "-",
    ChangeKind.UPGRADED: "^",
    ChangeKind.DOWNGRADED: "v",
    ChangeKind.REBUILT: "~",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One package that differs. EVRs are texts, empty on the side that lacks the package; ``size_change`` is in bytes
    of upstream file; ``why`` is a sentence without a final stop; ``chain`` leads from the track to the package."""

    kind: ChangeKind
    name: str
    old_evr: str
    new_evr: str
    source: str
    suite: str
    size_change: int
    why: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LockDiff:
    """All that differs between two locks: packages by kind and name, suites whose index moved, and the definition."""

    changes: tuple[Change, ...]
    indexes: tuple[str, ...] = ()
    definition_changed: bool = False

    def __bool__(self) -> bool:
        return bool(self.changes or self.indexes or self.definition_changed)

    @property
    def size_change(self) -> int:
        """Bytes of upstream files that the new lock needs more (or, negative, less)."""
        return sum(change.size_change for change in self.changes)

    def lines(self) -> Iterator[str]:
        """The difference as text: a summary, then one line a package."""
        if not self:
            yield "no difference"
            return
        counts = [(kind, sum(1 for change in self.changes if change.kind == kind)) for kind in ChangeKind]
        parts = [f"{count} {kind.value}" for kind, count in counts if count]
        if parts:
            yield f"{', '.join(parts)}; {format_bytes(self.size_change)}"
        if self.definition_changed:
            yield "the definition changed"
        if self.indexes:
            yield f"newer indexes: {', '.join(self.indexes)}"
        width = max((len(change.name) for change in self.changes), default=0)
        for change in self.changes:
            versions = " -> ".join(evr for evr in (change.old_evr, change.new_evr) if evr)
            if change.old_evr == change.new_evr:
                versions = change.new_evr
            size = f" ({format_bytes(change.size_change)})" if change.size_change else ""
            yield f"{_SIGNS[change.kind]} {change.name:<{width}}  {versions}{size}: {change.why}"


def format_bytes(amount: int) -> str:
    """A difference in bytes for people, signed, in powers of 1000: ``+1.2 MB``."""
    size = float(abs(amount))
    sign = "-" if amount < 0 else "+"
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{sign}{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{sign}{size:.1f} {unit}"
        size /= 1000
    return f"{sign}{size:.1f} GB"


def diff_locks(old: Lock, new: Lock, *, solution: Solution | None = None, updated: Iterable[str] = ()) -> LockDiff:
    """Compare two locks.

    Args:
        solution: What ``new`` was made from, when at hand: its requirements tell what forced a version to move.
        updated: Names (of packages or sources) the user asked to move.
    """
    teller = _Teller(old, new, solution, frozenset(updated))
    changes = [change for name in sorted(teller.names()) if (change := teller.change(name)) is not None]
    order = list(ChangeKind)
    changes.sort(key=lambda change: (order.index(change.kind), change.name))
    suites = old.indexes.keys() | new.indexes.keys()
    return LockDiff(
        changes=tuple(changes),
        indexes=tuple(sorted(suite for suite in suites if old.indexes.get(suite) != new.indexes.get(suite))),
        definition_changed=old.definition != new.definition,
    )


class _Teller:
    def __init__(self, old: Lock, new: Lock, solution: Solution | None, updated: frozenset[str]) -> None:
        self._old, self._new = old.by_name(), new.by_name()
        self._solution = solution
        self._updated = updated

    def names(self) -> Iterable[str]:
        return self._old.keys() | self._new.keys()

    def change(self, name: str) -> Change | None:
        before, after = self._old.get(name), self._new.get(name)
        if before is None and after is not None:
            return self._make(ChangeKind.ADDED, before, after, self._why_added(after), self._new)
        if after is None and before is not None:
            return self._make(ChangeKind.REMOVED, before, after, self._why_removed(before), self._old)
        if before is None or after is None or _same(before, after):
            return None
        order = before.nevra.evr.compare(after.nevra.evr)
        if order == 0 and before.nevra.arch == after.nevra.arch:
            return self._make(ChangeKind.REBUILT, before, after, _why_rebuilt(before, after), self._new)
        kind = ChangeKind.DOWNGRADED if order > 0 else ChangeKind.UPGRADED
        return self._make(kind, before, after, self._why_moved(before, after, kind), self._new)

    def _make(
        self,
        kind: ChangeKind,
        before: LockedPackage | None,
        after: LockedPackage | None,
        why: str,
        lock: dict[str, LockedPackage],
    ) -> Change:
        shown = after or before
        assert shown is not None, "a change has at least one side"
        return Change(
            kind=kind,
            name=shown.nevra.name,
            old_evr=str(before.nevra.evr) if before else "",
            new_evr=str(after.nevra.evr) if after else "",
            source=shown.source.name,
            suite=shown.suite,
            size_change=_size(after) - _size(before),
            why=why,
            chain=_chain(shown.nevra.name, lock),
        )

    def _why_added(self, after: LockedPackage) -> str:
        if after.why == TRACK:
            return "the definition asks for it"
        requirement = ""
        if self._solution is not None:
            requirement = self._solution.why[after.nevra.name].requirement
        wanted = f"requires {requirement}" if requirement and requirement != after.nevra.name else "requires it"
        status = "newly locked " if after.why not in self._old else ""
        return f"{status}{after.why} {wanted} ({' > '.join(_chain(after.nevra.name, self._new))})"

    def _why_removed(self, before: LockedPackage) -> str:
        if before.why == TRACK:
            return "the definition no longer asks for it, and nothing requires it"
        if before.why not in self._new:
            return f"{before.why}, which required it, is gone too"
        evr = self._new[before.why].nevra.evr
        return f"{before.why} {evr} no longer requires it, nor does anything else"

    def _why_moved(self, before: LockedPackage, after: LockedPackage, kind: ChangeKind) -> str:
        name = after.nevra.name
        if name in self._updated or (after.source.name in self._updated and kind is ChangeKind.UPGRADED):
            return "asked to move"
        forced = list(self._forcing(before))
        if forced:
            return "; ".join(forced[:2]) + (f"; and {len(forced) - 2} more" if len(forced) > 2 else "")
        if kind is ChangeKind.DOWNGRADED:
            return f"{before.nevra.evr} is not to be had any more, or does not fit the others"
        place = f" in {after.suite}" if after.suite else " upstream"
        return f"newer{place} ({' > '.join(_chain(name, self._new))})"

    def _forcing(self, before: LockedPackage) -> Iterator[str]:
        """Requirements of the new solution that the old version does not meet."""
        held = Plain(before.nevra.name, "=", str(before.nevra.evr))
        for package in self._solution.packages if self._solution is not None else ():
            for text in package.requires:
                relation = parse_relation(text)
                if isinstance(relation, Plain) and relation.name == held.name and not provides_match(held, relation):
                    yield f"{package.nevra.name} {package.nevra.evr} requires {text}"


def _same(before: LockedPackage, after: LockedPackage) -> bool:
    return before.nevra == after.nevra and before.rpm_sha256 == after.rpm_sha256 and _digest(before) == _digest(after)


def _why_rebuilt(before: LockedPackage, after: LockedPackage) -> str:
    if _digest(before) != _digest(after):
        return "the upstream file has other bytes under the same version"
    return "the same upstream file, imported with other facts or by another importer"


def _digest(package: LockedPackage) -> str:
    return package.location.sha256 if package.location else ""


def _size(package: LockedPackage | None) -> int:
    return package.location.size if package is not None and package.location is not None else 0


def _chain(name: str, lock: dict[str, LockedPackage]) -> tuple[str, ...]:
    """Names from the package the track lists down to ``name``; each is visited once, for a lock may be edited."""
    chain = [name]
    while (package := lock.get(chain[0])) is not None and package.why not in (TRACK, "", *chain):
        chain.insert(0, package.why)
    return tuple(chain)
