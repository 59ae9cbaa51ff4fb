"""A Debian package in RPM's terms: versions, relations, architecture, source.

The rules keep both orders alike; :mod:`bedplate.packages.gate` proves that for every index it is given.
Sources: deb-version(7), deb-control(5), rpm-version(7), rpm-dependencies(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from bedplate.model.definition.facts import PackageFacts
from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr, split_deb_version
from bedplate.model.package import Candidate, Nevra, SourceRef, UpstreamPackage
from bedplate.packages.deb.relations import Atom, parse_field

ARCHITECTURES: Mapping[str, str] = {"all": "noarch", "amd64": "x86_64", "arm64": "aarch64"}
_COMPARISONS = {"<<": "<", "<=": "<=", "=": "=", ">=": ">=", ">>": ">"}
_RPM_VERSION = re.compile(r"[A-Za-z0-9._+~^]+\Z")
_NATIVE_RELEASE = "0"
_BUILD_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)+)\+([0-9]{1,3})\Z")
_BUILD = r"\1^\2"


@lru_cache(maxsize=262_144)
def map_version(text: str) -> Evr:
    """``[epoch:]upstream[-revision]`` as an EVR that sorts alike.

    A native version gets release ``0``: Debian orders an absent revision like ``0`` too. ``-`` within the upstream
    version becomes ``.``. ``+~`` becomes ``+``: Debian sorts ``1+~2`` after ``1``, rpm would sort it before.

    Bounds that end in punctuation (``<< 1.2+``, ``<< 1.2.``, ``<< 1.2-.``, ``<= 1.2-z``: "after every 1.2-…") are
    nothing to rpm, which skips punctuation. ``^`` says the same in its order: after ``1.2`` with any release, before
    ``1.2`` with anything more. So a build number (Java's ``21.0.13+9``) becomes ``21.0.13^9``: before ``21.0.13.1+2``.

    Raises:
        BadInput: a character RPM does not allow.
    """
    epoch, upstream, revision = split_deb_version(text)
    if revision and not revision[0].isdigit() and revision[0] != "~":
        upstream, revision = upstream + "+", ""  # sorts after all numbered revisions, before any other version
    if revision:
        upstream = _BUILD_NUMBER.sub(_BUILD, upstream)
    version = _map_end(upstream.replace("-", ".")).replace("+~", "+")
    release = _map_end(revision).replace("+~", "+") or _NATIVE_RELEASE
    if not _RPM_VERSION.match(version) or not _RPM_VERSION.match(release):
        raise BadInput(
            f"the version {text!r} cannot be written as an RPM version",
            remedy="leave the package out, or report it: the mapping needs a new rule",
        )
    return Evr(epoch, version, release)


def map_bound(op: str, text: str) -> Evr:
    """The version of a relation. A bound may leave the revision out: a build number is one there too. Equality cannot,
    and means a native version then."""
    evr = map_version(text)
    if op == "=":
        return evr
    return Evr(evr.epoch, _BUILD_NUMBER.sub(_BUILD, evr.version), evr.release)


def _map_end(part: str) -> str:
    body = part.removesuffix("~") if part.endswith(("+~", ".~")) else part
    if body.endswith("+"):
        return body.rstrip("+") + "^"
    # Debian sorts "1." after "1+x" but not after "1.0"; rpm does so with "1.0~".
    return body.rstrip(".") + ".0~" if body.endswith(".") else part


def map_architecture(text: str) -> str:
    """RPM's name of a Debian architecture.

    Raises:
        BadInput: one this distribution is not made for.
    """
    if text not in ARCHITECTURES:
        raise BadInput(f"architecture {text!r} is not supported", remedy=f"known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[text]


def map_atom(atom: Atom) -> str:
    """One relation as an RPM dependency string, its release always written."""
    # A foreign architecture's package is another package; nothing here provides that name.
    name = atom.name if atom.arch in ("", "any", "native", "all", "amd64") else f"{atom.name}({atom.arch})"
    if not atom.op:
        return name
    return f"{name} {_COMPARISONS[atom.op]} {map_bound(atom.op, atom.version)}"


@lru_cache(maxsize=262_144)
def map_field(text: str) -> tuple[str, ...]:
    """A relationship field as RPM dependency strings; alternatives become ``(a or b)``."""
    found: dict[str, None] = {}
    for clause in parse_field(text):
        alternatives = list(dict.fromkeys(map_atom(atom) for atom in clause))
        found["(" + " or ".join(alternatives) + ")" if len(alternatives) > 1 else alternatives[0]] = None
    return tuple(found)


def _map_fields(fields: Mapping[str, tuple[str, ...]], *names: str) -> tuple[str, ...]:
    return _unique(entry for name in names for text in fields.get(name, ()) for entry in map_field(text))


def _unique(entries: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entries))


def source_of(fields: Mapping[str, str]) -> tuple[str, str]:
    """Source name and version of a binary's control fields: ``Source: name (version)`` where they differ from its own.

    A binary rebuilt without a source change (``+b1``) names the version it was built from there.
    """
    name, _, rest = fields.get("Source", "").partition(" ")
    version = rest.strip().removeprefix("(").removesuffix(")").strip()
    return name or fields["Package"], version or fields["Version"]


def candidate(package: UpstreamPackage, facts: PackageFacts | None) -> Candidate:
    """What the solver may choose, made from a line of a verified index and what ``distro/`` knows of the package.

    Raises:
        BadInput: a version or relation that cannot be mapped; it names the package.
    """
    try:
        evr = map_version(package.version)
        nevra = Nevra(package.name, evr, map_architecture(package.arch))
        own = f"{package.name} = {evr}"
        return Candidate(
            nevra=nevra,
            source=SourceRef(package.source_name, map_version(package.source_version)),
            location=package.location,
            requires=_unique(
                (
                    *_map_fields(package.fields, "Pre-Depends", "Depends"),
                    *(facts.requires if facts is not None else ()),
                )
            ),
            provides=_unique(
                (own, *_map_fields(package.fields, "Provides"), *(facts.provides if facts is not None else ()))
            ),
            # "Conflicts: x" with "Provides: x" means "no other x"; rpm and libsolv both leave the package itself out.
            conflicts=_map_fields(package.fields, "Conflicts", "Breaks"),
            recommends=_map_fields(package.fields, "Recommends"),
            suggests=_map_fields(package.fields, "Suggests"),
            essential=package.essential,
            format=package.format,
            suite=package.suite,
            upstream_version=package.version,
        )
    except BadInput as error:
        if error.where:
            raise
        raise BadInput(error.message, where=f"{package.name} {package.version}", remedy=error.remedy) from error
