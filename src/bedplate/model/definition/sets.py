"""``distro/sets/*.toml``: what a repository holds besides the images: packages asked for, in the groups dnf shows."""

from __future__ import annotations

import tomllib

from pydantic import Field, ValidationError

from bedplate.model.definition.base import Definition
from bedplate.model.errors import BadInput


class PackageGroup(Definition):
    """A group of packages, as ``dnf group`` shows it."""

    title: str
    description: str = ""
    packages: list[str]


class Apart(Definition):
    """Packages that cannot be installed beside others of the set. They are resolved by themselves, all else alike."""

    packages: list[str]
    reason: str = Field(min_length=10, description="What they cannot stand beside, and why")


class PackageSet(Definition):
    """The packages asked for; what they require follows."""

    title: str
    groups: dict[str, PackageGroup]
    apart: list[Apart] = []
    exclude: list[str] = Field(default=[], description="Packages that never come in, whoever requires them")
    prefer: list[str] = Field(default=[], description="What to take where a requirement can be met in several ways")
    files: list[str] = Field(
        default=[], description="Sets below distro/files that systems with this repository have: scripts count on them"
    )

    def names(self) -> tuple[str, ...]:
        """Every package asked for that stands beside the others, sorted."""
        return tuple(sorted({name for group in self.groups.values() for name in group.packages}))


def parse_set(text: str, where: str) -> PackageSet:
    """Read one set.

    Raises:
        BadInput: mistakes in it, all of them at once.
    """
    try:
        return PackageSet.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not valid TOML: {error}", where=where) from error
    except ValidationError as error:
        raise BadInput(
            "the package set has mistakes",
            where=where,
            details=[f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()],
            remedy="correct them; the schema is docs/reference/set.schema.json",
        ) from error
