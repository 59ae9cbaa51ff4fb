"""The proof that mapping Debian versions to RPM's changed no answer, for every index and every import.

Two orders must agree: (a) on all versions there are of one name, and (b) on every constraint against every version it
can really be tested with. What an imported package says must hold; a hit elsewhere is reported and stops nothing.

One difference is rpm's own: a provide without a version answers every versioned relation there, none in Debian. A
conflict with an old version thereby hits what merely stands in for the package: a rule that drops the conflict is the
remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from bedplate.model.definition.facts import DroppedRequirement
from bedplate.model.dropped import drops_conflict
from bedplate.model.errors import BadInput, Finding, Level
from bedplate.model.evr import debvercmp
from bedplate.model.package import UpstreamPackage
from bedplate.packages.deb.mapping import map_bound, map_version
from bedplate.packages.deb.relations import parse_field

REQUIRING = ("Pre-Depends", "Depends")
CONFLICTING = ("Conflicts", "Breaks")
WISHING = ("Recommends", "Suggests")
_REMEDY = "leave the package out, or add drop_conflicts to its facts, or give the mapping a rule for this case"
_PROVIDE = re.compile(r"\s*([^\s(:,]+)(?::[a-z0-9]+)?\s*(?:\(\s*=\s*([^\s)]+)\s*\))?")
_OPERATORS: Mapping[str, Callable[[int], bool]] = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}


@dataclass(slots=True)
class Available:
    """Versions there are, by name: of packages, and of provides ("" for a provide without a version).

    ``bare`` holds the packages that provide a name without a version.
    """

    packages: dict[str, set[str]] = field(default_factory=dict)
    provided: dict[str, set[str]] = field(default_factory=dict)
    bare: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, packages: Iterable[UpstreamPackage], names: Collection[str] | None = None) -> Available:
        """Collect the versions of an index; of ``names`` only when given. Other formats are passed over."""
        found = cls()
        for package in packages:
            if package.format != "deb":
                continue
            if names is None or package.name in names:
                found.packages.setdefault(package.name, set()).add(package.version)
            for text in package.fields.get("Provides", ()):
                for clause in text.split(","):
                    match = _PROVIDE.match(clause)
                    # Providing one's own name adds nothing to the package itself.
                    if match and match[1] != package.name and (names is None or match[1] in names):
                        found.provided.setdefault(match[1], set()).add(match[2] or "")
                        if not match[2]:
                            found.bare.setdefault(match[1], set()).add(package.name)
        return found

    def versions(self, name: str) -> set[str]:
        """Every version a relation on ``name`` can meet."""
        return self.packages.get(name, set()) | self.provided.get(name, set())


@dataclass(frozen=True, slots=True)
class GateReport:
    """How many version pairs and (constraint, version) pairs were compared, and what differed."""

    pairs: int
    constraints: int
    findings: tuple[Finding, ...]

    @property
    def stopping(self) -> tuple[Finding, ...]:
        """Findings on imported packages: an import must not go on with them."""
        return tuple(finding for finding in self.findings if finding.level is Level.ERROR)

    def require(self) -> None:
        """Stop when an imported package's order or relation changed its meaning.

        Raises:
            BadInput: it lists every such finding.
        """
        if self.stopping:
            raise BadInput(
                f"{len(self.stopping)} version relations would change their meaning as RPM relations",
                remedy=_REMEDY,
                details=[f"{finding.where}: {finding.cause}" for finding in self.stopping],
            )


@dataclass(frozen=True, slots=True)
class _Constraint:
    name: str
    op: str
    version: str


def check_index(index: Sequence[UpstreamPackage]) -> GateReport:
    """Compare every version pair and every relation of a whole index; differences are warnings."""
    available = Available.of(index)
    return _check(index, frozenset(), available, ())


def check_import(
    imported: Sequence[UpstreamPackage], index: Iterable[UpstreamPackage], dropped: Sequence[DroppedRequirement]
) -> GateReport:
    """Compare the versions and relations of the packages to import with all the index offers.

    Conflicts that a rule of ``dropped`` takes out are not compared. A difference in a recommendation is a warning.
    """
    chosen = [package for package in imported if package.format == "deb"]
    names = {package.name for package in chosen}
    for package in chosen:
        names.update(constraint.name for constraint, _ in _constraints(package, dropped))
    return _check(chosen, frozenset(package.name for package in chosen), Available.of(index, names), dropped)


def _check(
    packages: Sequence[UpstreamPackage],
    imported: frozenset[str],
    available: Available,
    dropped: Sequence[DroppedRequirement],
) -> GateReport:
    findings, pairs = _check_orders(packages, imported, available)
    more, constraints = _check_relations(packages, imported, available, dropped)
    return GateReport(pairs, constraints, (*findings, *more))


def _check_orders(
    packages: Iterable[UpstreamPackage], imported: frozenset[str], available: Available
) -> tuple[list[Finding], int]:
    findings, pairs = [], 0
    for name in sorted({package.name for package in packages if package.format == "deb"}):
        for one, two in combinations(sorted(available.packages.get(name, ())), 2):
            pairs += 1
            if debvercmp(one, two) != map_version(one).compare(map_version(two)):
                findings.append(
                    Finding(
                        id="import.order.changed",
                        level=Level.ERROR if name in imported else Level.WARNING,
                        cause=f"versions {one} and {two} sort differently as RPM versions",
                        where=name,
                        remedy=_REMEDY,
                    )
                )
    return findings, pairs


def _constraints(package: UpstreamPackage, dropped: Sequence[DroppedRequirement]) -> Iterator[tuple[_Constraint, bool]]:
    """Versioned relations of a package, and whether they bind (a wish does not)."""
    for key in (*REQUIRING, *CONFLICTING, *WISHING):
        for text in package.fields.get(key, ()):
            for clause in parse_field(text):
                for atom in clause:
                    is_dropped = key in CONFLICTING and drops_conflict(dropped, package.name, atom.name)
                    if atom.op and not is_dropped:
                        yield _Constraint(atom.name, atom.op, atom.version), key not in WISHING


def _check_relations(
    packages: Iterable[UpstreamPackage],
    imported: frozenset[str],
    available: Available,
    dropped: Sequence[DroppedRequirement],
) -> tuple[list[Finding], int]:
    asked: dict[_Constraint, dict[str, bool]] = {}
    own: set[tuple[_Constraint, str]] = set()
    for package in packages:
        if package.format == "deb":
            for constraint, binding in _constraints(package, dropped):
                # A package never conflicts with itself: what only it provides cannot be hit by its own conflict.
                if available.bare.get(constraint.name) == {package.name}:
                    own.add((constraint, package.name))
                by = asked.setdefault(constraint, {})
                by[package.name] = by.get(package.name, False) or binding
    findings, compared = [], 0
    for constraint, by in asked.items():
        for existing in sorted(available.versions(constraint.name)):
            compared += 1
            cause = _difference(constraint, existing)
            if cause:
                findings += [
                    _finding(package, cause, binding and package in imported)
                    for package, binding in by.items()
                    if existing or (constraint, package) not in own
                ]
    return sorted(findings, key=lambda finding: (finding.where, finding.cause)), compared


def _difference(constraint: _Constraint, existing: str) -> str:
    said = f"{constraint.name} ({constraint.op} {constraint.version})"
    if not existing:
        return f"{said} would be met by a provide of {constraint.name} without a version"
    holds = _OPERATORS[constraint.op]
    before = holds(debvercmp(existing, constraint.version))
    after = holds(map_version(existing).compare(map_bound(constraint.op, constraint.version)))
    return "" if before == after else f"{said} is {before} for {existing}, but {after} as an RPM relation"


def _finding(package: str, cause: str, stops: bool) -> Finding:
    return Finding(
        id="import.relation.changed",
        level=Level.ERROR if stops else Level.WARNING,
        cause=cause,
        where=package,
        remedy=_REMEDY,
    )
