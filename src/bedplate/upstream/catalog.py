"""Several suites seen as one: the newest version of each package, and every version for a lock that names it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from bedplate.model.evr import Evr, debvercmp
from bedplate.model.package import UpstreamPackage
from bedplate.model.relation import parse_relation, plain_parts
from bedplate.upstream.control import relation_names
from bedplate.upstream.index import VerifiedIndex


def compare_versions(one: UpstreamPackage, two: UpstreamPackage) -> int:
    """-1, 0 or 1 in the order of the packages' own format (both of one format)."""
    if one.format == "deb":
        return debvercmp(one.version, two.version)
    return Evr.parse(one.version).compare(Evr.parse(two.version))


_BY_VERSION = cmp_to_key(compare_versions)


@dataclass(frozen=True)
class Catalog:
    """All packages of several verified indexes, of one or more upstreams.

    Where suites hold one version of a package, the index named first gives it: put the base suite before its
    companions, and a preferred upstream before another.
    """

    indexes: tuple[VerifiedIndex, ...]

    def names(self) -> Iterator[str]:
        """Every package name once, in the order of the indexes."""
        return iter(dict.fromkeys(name for index in self.indexes for name in index.packages.distinct_names()))

    def digests(self) -> dict[str, str]:
        """Suite -> SHA-256 of its signed index, as a lock records it."""
        return {index.suite: index.sha256 for index in self.indexes}

    def versions(self, name: str) -> list[UpstreamPackage]:
        """Every version of ``name`` in every suite: by upstream, then highest first, then by index order."""
        found: list[UpstreamPackage] = []
        for upstream in dict.fromkeys(index.upstream for index in self.indexes):
            mine = [p for index in self.indexes if index.upstream == upstream for p in index.packages.named(name)]
            found += sorted(mine, key=_BY_VERSION, reverse=True) if len(mine) > 1 else mine
        return found

    def best(self, name: str) -> list[UpstreamPackage]:
        """The highest version of ``name`` in each upstream; of an rpm upstream, for each architecture."""
        chosen: dict[tuple[str, str], UpstreamPackage] = {}
        for package in self.versions(name):
            # A Debian package may move between "all" and an architecture; multilib RPMs stand side by side.
            arch = package.arch if package.format == "rpm" else ""
            chosen.setdefault((package.location.upstream, arch), package)
        return list(chosen.values())

    def find(self, name: str, version: str, arch: str) -> UpstreamPackage | None:
        """The package of exactly this name, version and architecture, in whichever suite it is."""
        return next((p for p in self.versions(name) if p.version == version and p.arch == arch), None)

    def newest(self) -> tuple[UpstreamPackage, ...]:
        """The highest version of every package. This makes all of them: prefer :meth:`reachable`."""
        return tuple(package for name in self.names() for package in self.best(name))

    def essential(self) -> tuple[UpstreamPackage, ...]:
        """The packages the upstream calls essential, highest versions."""
        names = dict.fromkeys(package.name for index in self.indexes for package in index.packages.essential())
        return tuple(package for name in names for package in self.best(name) if package.essential)

    def providers(self, capability: str) -> list[UpstreamPackage]:
        """Highest versions that are called, or provide, ``capability``; for rpm also those that own it as a path."""
        names = [p.name for index in self.indexes for p in index.packages.providing(capability)]
        return [package for name in dict.fromkeys([capability, *names]) for package in self.best(name)]

    def offering(self, capability: str) -> list[UpstreamPackage]:
        """Every version, in every suite, of what is called or provides ``capability``: what a solver may choose from.

        Only these packages are made; the others of an archive cost nothing.
        """
        found: list[UpstreamPackage] = []
        for index in self.indexes:
            found += index.packages.named(capability)
            found += [p for p in index.packages.providing(capability) if p.name != capability]
        return found

    def reachable(self, roots: Iterable[str], relations: Sequence[str] | None = None) -> tuple[UpstreamPackage, ...]:
        """Every package that a resolution starting from ``roots`` could choose, sorted by name.

        All alternatives and all providers are followed whatever their versions, so the result holds any solution.

        Args:
            roots: Package names or other capabilities.
            relations: Which fields are followed; hard requirements when None.
        """
        found: dict[int, UpstreamPackage] = {}
        seen = set(roots)
        queue = deque(sorted(seen))
        while queue:
            for package in self.providers(queue.popleft()):
                if id(package) in found:
                    continue
                found[id(package)] = package
                for name in mentioned(package, relations):
                    if name not in seen:
                        seen.add(name)
                        queue.append(name)
        return tuple(sorted(found.values(), key=lambda p: (p.name, p.location.upstream, p.arch)))


_HARD = {"deb": ("Depends", "Pre-Depends"), "rpm": ("requires",)}


def mentioned(package: UpstreamPackage, relations: Sequence[str] | None = None) -> list[str]:
    """The names and capabilities in a package's relations (hard requirements when None), whatever their versions."""
    values = [value for name in relations or _HARD[package.format] for value in package.fields.get(name, ())]
    if package.format == "deb":
        return relation_names(values)
    return [part.name for value in values for part in plain_parts(parse_relation(value))]
