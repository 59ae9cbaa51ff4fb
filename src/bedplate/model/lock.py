"""The lock: exactly which packages an image is made of. Read and written as sorted, diff-friendly TOML."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import Location, Nevra, SourceRef

LOCK_VERSION = 1

_REMEDY = "make the lock again: bedplate lock TRACK"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_EVR = re.compile(r"(?:[0-9]+:)?[^\s:/-]+-[^\s:/-]+")
_SOURCE = re.compile(_NAME.pattern + " " + _EVR.pattern)
_ARCH = re.compile(r"[a-z0-9_]+")
_TEXT = re.compile(r".*", re.DOTALL)
_PATH = re.compile(r"(?!/)(?!(?:.*/)?\.\.(?:/|$)).+")
_REQUIRED = {"name": _NAME, "evr": _EVR, "arch": _ARCH, "source": _SOURCE}
_OPTIONAL = {
    "rpm_sha256": _SHA256,
    "format": re.compile("deb|rpm|own"),
    "suite": _TEXT,
    "why": _TEXT,
    "upstream_version": _TEXT,
}
_LOCATION = {"upstream": _NAME, "path": _PATH, "sha256": _SHA256}


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

    @property
    def names(self) -> list[str]:
        """The names of the locked packages."""
        return [package.nevra.name for package in self.packages]

    def by_name(self) -> dict[str, LockedPackage]:
        """Packages keyed by name; a lock never holds two of one name."""
        return {package.nevra.name: package for package in self.packages}


def parse_lock(text: str, where: str) -> Lock:
    """Parse the text of a lock file.

    Raises:
        BadInput: not TOML, of another version, or with entries that lack a field or hold a wrong one; every mistake is
            a line of the details. ``where`` names the file.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not valid TOML ({error})", where=where, remedy=_REMEDY) from error
    if data.get("version") != LOCK_VERSION:
        raise BadInput(
            f"lock version {data.get('version')!r}, this Bedplate reads {LOCK_VERSION}", where=where, remedy=_REMEDY
        )
    mistakes = _head_mistakes(data)
    packages: dict[str, LockedPackage] = {}
    entries = data.get("package", [])
    for number, entry in enumerate(entries if isinstance(entries, list) else [], 1):
        name = entry.get("name", "?") if isinstance(entry, dict) else "?"
        label = f"package {number} ({name})"
        wrong = _entry_mistakes(entry)
        if name in packages:
            wrong.append("is in the lock twice")
        mistakes += [f"{label}: {mistake}" for mistake in wrong]
        if not wrong:
            packages[name] = _parse_package(entry)
    if mistakes:
        count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise BadInput(f"the lock has {count}", where=where, remedy=_REMEDY, details=mistakes)
    return Lock(data["track"], data["definition"], tuple(packages.values()), dict(data.get("indexes", {})))


def _head_mistakes(data: dict[str, Any]) -> list[str]:
    mistakes = [
        f"{key}: missing or not a text" for key in ("track", "definition") if not isinstance(data.get(key), str)
    ]
    if not isinstance(data.get("package", []), list):
        mistakes.append("package: not a list of entries")
    indexes = data.get("indexes", {})
    if not isinstance(indexes, dict) or not all(isinstance(value, str) for value in indexes.values()):
        mistakes.append("indexes: not a table of digests")
    unknown = data.keys() - {"version", "track", "definition", "indexes", "package"}
    return mistakes + [f"{key}: unknown key" for key in sorted(unknown)]


def _entry_mistakes(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["not a table"]
    located = bool(entry.keys() & {*_LOCATION, "size"})
    required = _REQUIRED | _LOCATION if located else _REQUIRED
    mistakes = []
    for key, pattern in (*required.items(), *_OPTIONAL.items()):
        value = entry.get(key)
        if value is None:
            if key in required:
                mistakes.append(f"{key} is missing")
        elif not isinstance(value, str) or not pattern.fullmatch(value):
            mistakes.append(f"{key} is wrong: {value!r}")
    size = entry.get("size")
    if located and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        mistakes.append("size is missing" if size is None else f"size is wrong: {size!r}")
    unknown = entry.keys() - {*required, *_OPTIONAL, "size"}
    return mistakes + [f"unknown key {key!r}" for key in sorted(unknown)]


def _parse_package(entry: dict[str, Any]) -> LockedPackage:
    location = None
    if "path" in entry:
        location = Location(entry["upstream"], entry["path"], entry["sha256"], entry["size"])
    source, _, source_evr = entry["source"].partition(" ")
    return LockedPackage(
        nevra=Nevra(entry["name"], Evr.parse(entry["evr"]), entry["arch"]),
        source=SourceRef(source, Evr.parse(source_evr)),
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
    """A TOML basic string: JSON's escapes are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
