"""What the solver is asked, and what it answers: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bedplate.model.package import Candidate, Nevra

TRACK = "track"
"""What stands for the asker itself where a package name would stand (``LockedPackage.why``)."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A package (by name) that must not be chosen, and the file that says so."""

    name: str
    where: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted.

    Args:
        asker: Who asks, for messages: a track's id, or "tools".
        install: RPM dependency strings: ``name``, ``name = evr``, a capability, a rich dependency. Order is of no
            importance.
        where: The file the list stands in.
        exclude: Packages that must not be chosen.
        favour: Versions to keep when they can be kept: the locked ones.
        favour_files: SHA-256 of upstream files to keep when one NEVRA is to be had in two builds.
        prefer: Package names to choose where a requirement can be met in several ways, best first.
        arches: Architectures to choose from, the machine's own first.
        essential: Also install what the upstream marks essential.
        recommends: Also install recommended packages where they fit.
    """

    asker: str
    install: tuple[str, ...]
    where: str = ""
    exclude: tuple[Exclusion, ...] = ()
    favour: tuple[Nevra, ...] = ()
    favour_files: frozenset[str] = frozenset()
    prefer: tuple[str, ...] = ()
    arches: tuple[str, ...] = ("x86_64", "noarch")
    essential: bool = False
    recommends: bool = False


@dataclass(frozen=True, slots=True)
class Why:
    """Who asked for a package: a shortest chain from the track.

    ``by`` is :data:`TRACK` or the name of a package, ``requirement`` what that asks for, ``chain`` the names from the
    package the track lists down to this one, both included.
    """

    by: str
    requirement: str
    chain: tuple[str, ...]

    def __str__(self) -> str:
        return " > ".join(self.chain)


class ChoiceReason(StrEnum):
    """Why one of several ways to meet a requirement was taken."""

    PRESENT = "in the set for another reason"
    PREFERRED = "preferred by the request"
    LOCKED = "locked before"
    FIRST = "the first alternative"
    NAMED = "the package of that name"
    ALPHABET = "first in the alphabet: nothing says which is meant"
    FORCED = "the others cannot be installed"


@dataclass(frozen=True, slots=True)
class Choice:
    """A requirement several packages (by name) could have met, and which did. ``by`` as in :class:`Why`."""

    by: str
    requirement: str
    chosen: str
    others: tuple[str, ...]
    reason: ChoiceReason


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A package that is not at the highest version there is. ``locked`` says whether the request held it there."""

    chosen: Nevra
    best: Nevra
    locked: bool


@dataclass(frozen=True, slots=True)
class Solution:
    """A consistent set of packages, sorted by name, one of each name."""

    packages: tuple[Candidate, ...]
    why: Mapping[str, Why] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    held_back: tuple[HeldBack, ...] = ()

    def by_name(self) -> dict[str, Candidate]:
        """Packages keyed by name."""
        return {package.nevra.name: package for package in self.packages}
