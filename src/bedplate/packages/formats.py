"""The package formats an upstream may have, one plug-in each: what the solver sees, and how a file becomes a draft."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bedplate.model.definition.facts import PackageFacts
from bedplate.model.errors import BadInput
from bedplate.model.package import Candidate, Location, UpstreamPackage
from bedplate.packages import import_deb, import_rpm
from bedplate.packages.deb import mapping
from bedplate.packages.draft import Draft, PayloadStore, Recipe


@dataclass(frozen=True, slots=True)
class PackageFormat:
    """One format: ``offers`` names what a line of an index may be required by, ``candidate`` maps the line,
    ``describe`` gives the line a file would have, ``draft`` reads the file."""

    candidate: Callable[[UpstreamPackage, PackageFacts | None], Candidate]
    describe: Callable[[Path, Location, str], UpstreamPackage]
    draft: Callable[[Recipe, Path, PayloadStore], Draft]


FORMATS: dict[str, PackageFormat] = {
    "deb": PackageFormat(mapping.candidate, import_deb.describe, import_deb.draft),
    "rpm": PackageFormat(import_rpm.candidate, import_rpm.describe, import_rpm.draft),
}
"""Plug-ins by the name an :class:`UpstreamPackage` carries in ``format``."""


def format_of(package: UpstreamPackage) -> PackageFormat:
    """The plug-in for a package.

    Raises:
        BadInput: none knows its format.
    """
    found = FORMATS.get(package.format)
    if found is None:
        raise BadInput(
            f"unknown package format {package.format!r}", where=package.name, remedy=f"known: {', '.join(FORMATS)}"
        )
    return found


def candidate(package: UpstreamPackage, facts: PackageFacts | None = None) -> Candidate:
    """What the solver may choose, in RPM's terms.

    Raises:
        BadInput: the package's format is unknown, or something in it cannot be mapped.
    """
    return format_of(package).candidate(package, facts)
