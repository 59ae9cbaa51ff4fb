"""The lock: exactly which packages an image is made of. Read and written as sorted, diff-friendly TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any

from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import Location, Nevra, SourceRef

LOCK_VERSION = 1


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package of a lock.

    ``location`` is the upstream file, None for a package made from ``distro/`` alone (``filesystem``,
    ``bedplate-release``): such a package depends on the definition and the public keys, and is made at build time.
    ``rpm_sha256`` is of our unsigned RPM, empty without a location or in a lock of tools (which are not imported).
    ``format`` is the upstream's package format. ``suite`` says which suite it came from, ``why`` who asked for it: the
    track itself ("track") or the name of a package that requires it.
    """

    nevra: Nevra
    source: SourceRef
    location: Location | None
    rpm_sha256: str = ""
    format: str = "deb"
    suite: str = ""
    why: str = ""
    upstream_version: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """A resolved package set. ``definition`` is the digest of the definition it was resolved for, ``indexes`` maps
    each suite to the SHA-256 of its signed index."""

    track: str
    definition: str
    packages: tuple[LockedPackage, ...]
    indexes: dict[str, str] = field(default_factory=dict)

    def by_name(self) -> dict[str, LockedPackage]:
        """Packages keyed by name; a lock never holds two of one name."""
        return {package.nevra.name: package for package in self.packages}


def parse_lock(text: str, where: str) -> Lock:
    """Parse the text of a lock file.

    Raises:
        BadInput: not TOML, of another version, or with an entry that lacks a field; ``where`` names the file.
    """
    remedy = "make the lock again: bedplate lock TRACK"
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not valid TOML ({error})", where=where, remedy=remedy) from error
    if data.get("version") != LOCK_VERSION:
        raise BadInput(
            f"lock version {data.get('version')!r}, this Bedplate reads {LOCK_VERSION}", where=where, remedy=remedy
        )
    entry: dict[str, Any] = {}
    try:
        packages = []
        for entry in data["package"]:
            packages.append(_parse_package(entry))
        return Lock(data["track"], data["definition"], tuple(packages), dict(data.get("indexes", {})))
    except (KeyError, TypeError, ValueError) as error:
        name = entry.get("name", "?") if isinstance(entry, dict) else "?"
        raise BadInput(f"entry {name!r} is incomplete or wrong ({error})", where=where, remedy=remedy) from error


def _parse_package(entry: dict[str, Any]) -> LockedPackage:
    location = None
    if "path" in entry:
        location = Location(entry["upstream"], entry["path"], entry["sha256"], int(entry["size"]))
    source = entry["source"].rpartition(" ")
    return LockedPackage(
        nevra=Nevra(entry["name"], Evr.parse(entry["evr"]), entry["arch"]),
        source=SourceRef(source[0], Evr.parse(source[2])),
        location=location,
        rpm_sha256=entry.get("rpm_sha256", ""),
        format=entry.get("format", "deb"),
        suite=entry.get("suite", ""),
        why=entry.get("why", ""),
        upstream_version=entry.get("upstream_version", ""),
    )


def format_lock(lock: Lock) -> str:
    """The lock as TOML, packages sorted by name, one field a line, so that a diff shows what moved."""
    lines = [
        "# Made by `bedplate lock`; do not edit.",
        f"version = {LOCK_VERSION}",
        f"track = {_quote(lock.track)}",
        f"definition = {_quote(lock.definition)}",
        "",
        "[indexes]",
        *(f"{_quote(suite)} = {_quote(digest)}" for suite, digest in sorted(lock.indexes.items())),
    ]
    for package in sorted(lock.packages, key=lambda p: p.nevra):
        lines += ["", "[[package]]", *_format_package(package)]
    return "\n".join(lines) + "\n"


def _format_package(package: LockedPackage) -> list[str]:
    fields = {
        "name": package.nevra.name,
        "evr": str(package.nevra.evr),
        "arch": package.nevra.arch,
        "source": f"{package.source.name} {package.source.evr}",
        "upstream_version": package.upstream_version,
        "format": package.format,
        "suite": package.suite,
        "why": package.why,
        "rpm_sha256": package.rpm_sha256,
    }
    lines = [f"{key} = {_quote(value)}" for key, value in fields.items() if value]
    if package.location is not None:
        lines += [
            f"upstream = {_quote(package.location.upstream)}",
            f"path = {_quote(package.location.path)}",
            f"sha256 = {_quote(package.location.sha256)}",
            f"size = {package.location.size}",
        ]
    return lines


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
