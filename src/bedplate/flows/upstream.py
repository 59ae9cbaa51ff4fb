"""Opening the definition's upstreams: mirrors found, indexes verified, packages seen as candidates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bedplate.flows.cache import content_store, part
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.distro import Upstream
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.dropped import drop_requirements, rules_of
from bedplate.model.package import Candidate, UpstreamPackage
from bedplate.packages.formats import candidate
from bedplate.upstream.apt_sources import read_apt_sources
from bedplate.upstream.archive import open_index
from bedplate.upstream.index import IndexContext, VerifiedIndex
from bedplate.upstream.mirrors import Mirrors, find_mirrors


@dataclass(frozen=True)
class Offer:
    """Everything the upstreams offer: verified packages and, in the same order, the candidates made from them.

    ``indexes`` maps each suite to the SHA-256 of its signed index.
    """

    packages: Sequence[UpstreamPackage]
    candidates: Sequence[Candidate]
    indexes: Mapping[str, str]

    def package_of(self, chosen: Candidate) -> UpstreamPackage:
        """The index line a candidate was made from."""
        return self._by_file[_file_key(chosen)]

    @property
    def _by_file(self) -> dict[tuple[str, str], UpstreamPackage]:
        return {(p.location.upstream, p.location.sha256): p for p in self.packages}


def _file_key(chosen: Candidate) -> tuple[str, str]:
    assert chosen.location is not None  # every candidate of an upstream has one
    return chosen.location.upstream, chosen.location.sha256


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


def candidates_of(packages: Sequence[UpstreamPackage], definition: DefinitionSet) -> list[Candidate]:
    """The packages in RPM's terms, without what the definition's rules drop; same order."""
    mapped = [candidate(package, definition.facts.get(package.name)) for package in packages]
    kept, _ = drop_requirements(mapped, [*definition.drop_rules, *rules_of(definition.facts.values())])
    return kept


def open_offer(workspace: Workspace, definition: DefinitionSet) -> Offer:
    """Open every upstream and map what it offers."""
    indexes = open_indexes(workspace, definition)
    packages = [package for index in indexes for package in index.packages]
    with workspace.progress.task("map the index", None):
        candidates = candidates_of(packages, definition)
    return Offer(packages, candidates, {index.suite: index.sha256 for index in indexes})
