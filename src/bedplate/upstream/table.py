"""A suite's packages as a sequence that makes each package when it is first looked at.

An archive has many thousand packages, a resolution looks at some hundreds of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import overload

from bedplate.model.package import UpstreamPackage


class PackageTable(Sequence[UpstreamPackage]):
    """Packages by position and by name.

    Args:
        names: The name of each package.
        make: Makes the package at a position; called at most once for each.
        provides: Positions of packages by what they provide besides their own name, worked out when first asked for.
        essential: Positions of the packages that the upstream calls essential.
    """

    def __init__(
        self,
        names: Sequence[str],
        make: Callable[[int], UpstreamPackage],
        provides: Callable[[], Mapping[str, Sequence[int]]],
        essential: Sequence[int] = (),
    ) -> None:
        self.names = names
        self._make = make
        self._provides = provides
        self._essential = essential
        self._made: dict[int, UpstreamPackage] = {}

    @overload
    def __getitem__(self, position: int) -> UpstreamPackage: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[UpstreamPackage]: ...
    def __getitem__(self, position: int | slice) -> UpstreamPackage | Sequence[UpstreamPackage]:
        if isinstance(position, slice):
            return [self[at] for at in range(*position.indices(len(self)))]
        at = range(len(self.names))[position]
        package = self._made.get(at)
        if package is None:
            package = self._made[at] = self._make(at)
        return package

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[int]]:
        return positions((name, at) for at, name in enumerate(self.names))

    @cached_property
    def _by_provide(self) -> Mapping[str, Sequence[int]]:
        return self._provides()

    def distinct_names(self) -> Iterable[str]:
        """Every name once."""
        return self._by_name.keys()

    def essential(self) -> list[UpstreamPackage]:
        """The packages the upstream calls essential."""
        return [self[at] for at in self._essential]

    def named(self, name: str) -> list[UpstreamPackage]:
        """All packages called ``name``."""
        return [self[at] for at in self._by_name.get(name, ())]

    def providing(self, name: str) -> list[UpstreamPackage]:
        """All packages that provide ``name`` besides their own name."""
        return [self[at] for at in self._by_provide.get(name, ())]


def positions(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Group positions by key."""
    grouped: dict[str, list[int]] = defaultdict(list)
    for key, at in pairs:
        grouped[key].append(at)
    return dict(grouped)
