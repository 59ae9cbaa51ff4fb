"""Opening the definition's upstreams: mirrors found, indexes verified, packages seen as candidates."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bedplate.flows.cache import content_store, part
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.distro import Upstream
from bedplate.model.definition.facts import DroppedRequirement
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.dropped import drop_requirements, rules_of
from bedplate.model.errors import BedplateError
from bedplate.model.package import Candidate, UpstreamPackage
from bedplate.model.progress import Task
from bedplate.model.relation import relation_names
from bedplate.packages.formats import candidate
from bedplate.upstream.apt_sources import read_apt_sources
from bedplate.upstream.archive import open_index
from bedplate.upstream.catalog import Catalog
from bedplate.upstream.index import IndexContext, VerifiedIndex
from bedplate.upstream.mirrors import Mirrors, find_mirrors


@dataclass(frozen=True)
class Offer:
    """What the upstreams offer to a request: the packages it can reach, and the candidates made from them.

    ``indexes`` maps each suite to the SHA-256 of its signed index; ``names`` are all names the upstreams have, so that
    a mistyped one can be likened to them.
    """

    packages: Mapping[str, UpstreamPackage]
    candidates: Sequence[Candidate]
    indexes: Mapping[str, str]
    names: Sequence[str]

    def package_of(self, chosen: Candidate) -> UpstreamPackage:
        """The index line a candidate was made from."""
        if chosen.location is None:
            raise BedplateError(f"{chosen.nevra} comes from the definition, not from an upstream")
        return self.packages[chosen.location.sha256]


def all_drop_rules(definition: DefinitionSet) -> tuple[DroppedRequirement, ...]:
    """The relations the definition leaves out: the general rules and those of single packages."""
    return (*definition.drop_rules, *rules_of(definition.facts.values()))


def find_all_mirrors(workspace: Workspace, definition: DefinitionSet) -> dict[str, Mirrors]:
    """The mirrors of every upstream, by its id; what the user said comes before what the host's apt says."""
    apt = read_apt_sources()
    return {
        upstream.id: find_mirrors(upstream, workspace.mirrors, os.environ, apt)
        for upstream in definition.distro.upstreams
    }


def open_indexes(workspace: Workspace, definition: DefinitionSet) -> tuple[VerifiedIndex, ...]:
    """The verified indexes of all suites of all upstreams.

    Raises:
        TrustError: a signature, digest, age or name does not hold.
        BedplateError: a mirror cannot be found or reached.
    """
    mirrors = find_all_mirrors(workspace, definition)
    return tuple(
        index
        for upstream in definition.distro.upstreams
        for index in open_index(upstream, _context(workspace, upstream, mirrors[upstream.id]))
    )


def _context(workspace: Workspace, upstream: Upstream, mirrors: Mirrors) -> IndexContext:
    return IndexContext(
        mirrors=mirrors,
        keys=workspace.distro / "keys",
        store=content_store(workspace),
        state=part(workspace, "indexes"),
        progress=workspace.progress,
    )


def open_offer(workspace: Workspace, definition: DefinitionSet, wanted: Iterable[str]) -> Offer:
    """Open every upstream and give what a request for ``wanted`` (RPM dependency strings) can reach."""
    catalog = Catalog(open_indexes(workspace, definition))
    with workspace.progress.task("find what can be needed") as task:
        reached = _reachable(catalog, definition, wanted, task)
    files = {package.location.sha256: package for package, _ in reached}
    suites = {index.suite: index.sha256 for index in catalog.indexes}
    return Offer(files, [found for _, found in reached], suites, tuple(catalog.names()))


def _reachable(
    catalog: Catalog, definition: DefinitionSet, wanted: Iterable[str], task: Task
) -> list[tuple[UpstreamPackage, Candidate]]:
    """Packages that requirements lead to, from ``wanted`` on, with their candidates; rules of the definition applied.

    Only these are mapped: an archive holds tens of thousands that no request comes near.
    """
    rules = all_drop_rules(definition)
    added: dict[str, list[str]] = {}
    for fact in definition.facts.values():
        for name in (name for text in fact.provides for name in relation_names(text)):
            added.setdefault(name, []).append(fact.name)
    found: dict[str, tuple[UpstreamPackage, Candidate]] = {}
    names = {name for text in wanted for name in relation_names(text)}
    seen: set[str] = set()
    while names:
        seen |= names
        sought = sorted({*names, *(owner for name in names for owner in added.get(name, ()))})
        offered = {one.location.sha256: one for name in sought for one in catalog.offering(name)}
        fresh = [one for digest, one in offered.items() if digest not in found]
        kept, _ = drop_requirements([candidate(one, definition.facts.get(one.name)) for one in fresh], rules)
        found.update((one.location.sha256, (one, mapped)) for one, mapped in zip(fresh, kept, strict=True))
        task.advance(len(fresh))
        # The distribution's own packages require upstream's as well.
        required = [text for name in names if name in definition.own for text in definition.own[name].requires]
        required += [text for one in kept for text in one.requires]
        names = {name for text in required for name in relation_names(text)} - seen
    return sorted(found.values(), key=lambda pair: (pair[0].name, pair[0].version, pair[0].location.sha256))
