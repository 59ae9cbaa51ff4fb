"""Reading an rpm-md repository: repomd.xml and its signature → primary and filelists, each checked by digest.

Source: the metadata as createrepo_c(8) writes it. XML is parsed by expat and by createrepo_c, and only without a
document type declaration, so that there are no entities to expand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from bedplate.model.definition.distro import Suite, Upstream
from bedplate.model.errors import BedplateError, TrustError
from bedplate.model.package import Location, UpstreamPackage
from bedplate.toolchain.createrepo import createrepo_c
from bedplate.upstream.decompress import decompress
from bedplate.upstream.disk import disk_errors
from bedplate.upstream.download import fetch_file
from bedplate.upstream.index import (
    IndexContext,
    VerifiedIndex,
    check_age,
    check_not_older_than_seen,
    first_good_mirror,
    remember_seen,
    where_of,
)
from bedplate.upstream.openpgp import VerifiedText, verify_detached
from bedplate.upstream.table import PackageTable, positions
from bedplate.upstream.transport import FileGone, Transport

MAX_REPOMD_BYTES = 4 << 20
MAX_INDEX_BYTES = 2 << 30
_REPO = "{http://linux.duke.edu/metadata/repo}"
_OPERATORS = {"LT": "<", "LE": "<=", "EQ": "=", "GE": ">=", "GT": ">"}
_RELATIONS = (
    "requires",
    "provides",
    "conflicts",
    "obsoletes",
    "recommends",
    "suggests",
    "supplements",
    "enhances",
)
_SOURCE = re.compile(r"^(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm$")
_ENCODING = re.compile(rb"""^<\?xml[^>]*\sencoding\s*=\s*["']([^"']+)""")


@dataclass(frozen=True, slots=True)
class _Part:
    """One file that repomd.xml names: path below the repository, digest, sizes packed and open (0: not said)."""

    path: str
    sha256: str
    size: int
    open_size: int


@dataclass(frozen=True)
class _Repomd:
    proof: VerifiedText
    base: str
    date: datetime
    parts: dict[str, _Part]


def open_suite(upstream: Upstream, suite: Suite, context: IndexContext, transport: Transport) -> VerifiedIndex:
    """Fetch and verify one repository. ``suite.path`` is its root below the mirror.

    Raises:
        TrustError: a signature, digest or age does not hold on any mirror, or the metadata is not sound.
        BedplateError: no mirror could be reached.
    """
    prefix = f"{suite.path.strip('/')}/" if suite.path else ""
    keyring = context.keyring(suite)
    where = where_of(upstream, suite)

    def read(base: str) -> _Repomd:
        url = f"{base}/{prefix}repodata/repomd.xml"
        data = transport.get(url, MAX_REPOMD_BYTES)
        try:
            signature = transport.get(f"{url}.asc", MAX_REPOMD_BYTES)
        except FileGone as error:
            raise TrustError(
                "the repository is not signed (there is no repomd.xml.asc)",
                where=url,
                remedy="use a mirror of a repository whose metadata is signed",
            ) from error
        proof = verify_detached(data, signature, keyring, url)
        repomd = _read_repomd(proof, base, url)
        check_age(context, suite, repomd.date, None, url)
        check_not_older_than_seen(context, suite.name, repomd.date, url)
        return repomd

    repomd = first_good_mirror(context, suite, transport, read)
    primary = _fetch(upstream, suite, context, transport, repomd, prefix, "primary")
    lists = b""
    if upstream.file_lists == "all":
        lists = _fetch(upstream, suite, context, transport, repomd, prefix, "filelists")
    packages = _parse(primary, lists, upstream, suite, prefix, context, where)
    remember_seen(context, suite.name, repomd.date, repomd.proof.sha256, where)
    return VerifiedIndex(upstream.id, suite.name, "rpm", repomd.proof, repomd.date, _table(packages))


def _table(packages: list[UpstreamPackage]) -> PackageTable:
    def provides() -> dict[str, list[int]]:
        return positions(
            (name, at)
            for at, package in enumerate(packages)
            for name in dict.fromkeys(
                [*(text.split(" ", 1)[0] for text in package.fields["provides"]), *package.fields["files"]]
            )
            if name != package.name
        )

    return PackageTable([package.name for package in packages], packages.__getitem__, provides)


def _read_repomd(proof: VerifiedText, base: str, url: str) -> _Repomd:
    _check_xml(proof.data, url)
    try:
        root = ElementTree.fromstring(proof.data)
        parts = {entry.attrib["type"]: _read_part(entry) for entry in root.iter(f"{_REPO}data")}
        times = [float(stamp.text or "") for stamp in root.iter(f"{_REPO}timestamp")]
        date = datetime.fromtimestamp(max(times), UTC)
    except (ElementTree.ParseError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise TrustError(f"repomd.xml is not sound ({error})", where=url, remedy="try another mirror") from error
    return _Repomd(proof, base, date, parts)


def _read_part(entry: ElementTree.Element) -> _Part:
    checksum, location = entry.find(f"{_REPO}checksum"), entry.find(f"{_REPO}location")
    if checksum is None or location is None:
        raise ValueError(f"{entry.attrib['type']} lacks a checksum or a location")
    if checksum.attrib["type"] != "sha256":
        # Of types this reader does not use a weaker digest is no harm; of the others it is refused when asked for.
        return _Part(location.attrib["href"], "", 0, 0)
    _check_path(location.attrib["href"])
    size, open_size = entry.findtext(f"{_REPO}size"), entry.findtext(f"{_REPO}open-size")
    return _Part(location.attrib["href"], (checksum.text or "").strip(), int(size or 0), int(open_size or 0))


def _check_path(path: str) -> None:
    if path.startswith("/") or "://" in path or ".." in path.split("/"):
        raise ValueError(f"a path leaves the repository: {path!r}")


def _check_xml(data: bytes, where: str) -> None:
    encoding = _ENCODING.match(data[:200])
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data[:4]:
        raise TrustError("XML with a document type or entities is not read", where=where)
    if encoding is not None and encoding[1].lower() not in (b"utf-8", b"us-ascii"):
        raise TrustError(f"XML in {encoding[1].decode(errors='replace')} is not read", where=where)


def _fetch(
    upstream: Upstream,
    suite: Suite,
    context: IndexContext,
    transport: Transport,
    repomd: _Repomd,
    prefix: str,
    kind: str,
) -> bytes:
    """One index file, checked and decompressed."""
    where = f"{where_of(upstream, suite)} {kind}"
    part = repomd.parts.get(kind)
    if part is None or len(part.sha256) != 64:
        raise TrustError(f"repomd.xml names no {kind} index with a SHA-256", where=where)
    bases = dict.fromkeys([repomd.base, *context.mirrors.index_bases(suite.name)])
    location = Location(upstream.id, prefix + part.path, part.sha256, part.size)
    try:
        fetch_file(location, [f"{base}/{location.path}" for base in bases], context.store, transport)
    except FileGone as error:
        raise BedplateError(
            "the repository lists this index but does not have it",
            where=f"{repomd.base}/{location.path}",
            remedy="it is being updated or is broken: try again later, or another mirror",
        ) from error
    raw = context.store.read_verified(part.sha256)
    data = decompress(raw, part.path, min(part.open_size or MAX_INDEX_BYTES, MAX_INDEX_BYTES), where)
    _check_xml(data, where)
    return data


def _parse(
    primary: bytes, lists: bytes, upstream: Upstream, suite: Suite, prefix: str, context: IndexContext, where: str
) -> list[UpstreamPackage]:
    """The packages of the wanted architectures."""
    library = createrepo_c()
    arches = {upstream.arch, "noarch", *upstream.extra_arches}
    with disk_errors(context.store.root):
        context.store.partial.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=context.store.partial, prefix="rpmmd-") as directory:
            try:
                return [
                    _package(found, upstream, suite, prefix)
                    for found in _iterate(Path(directory), primary, lists)
                    if found.arch in arches
                ]
            except (library.CreaterepoCError, ValueError) as error:
                raise TrustError(f"the index is not sound ({error})", where=where) from error


def _iterate(directory: Path, primary: bytes, lists: bytes) -> list[Any]:
    """Packages as createrepo_c parses them, from files of already bounded size."""
    library = createrepo_c()
    first, second = directory / "primary.xml", directory / "filelists.xml"
    first.write_bytes(primary)
    found: dict[str, Any] = {}

    def add(package: Any) -> bool:
        found[package.pkgId] = package
        return True

    library.xml_parse_primary(str(first), pkgcb=add, do_files=not lists)
    if lists:
        second.write_bytes(lists)
        library.xml_parse_filelists(str(second), newpkgcb=lambda digest, _name, _arch: found.get(digest))
    return list(found.values())


def _package(found: Any, upstream: Upstream, suite: Suite, prefix: str) -> UpstreamPackage:
    if found.checksum_type != "sha256" or len(found.pkgId) != 64:
        raise ValueError(f"{found.name} has no SHA-256")
    if found.location_base:
        raise ValueError(f"{found.name} lies outside the repository ({found.location_base})")
    _check_path(found.location_href)
    evr = _evr(found.epoch, found.version, found.release)
    source = _SOURCE.match(found.rpm_sourcerpm or "")
    fields = {name: _relations(getattr(found, name)) for name in _RELATIONS}
    # What scriptlets need must be there before the package is: rpm's RPMSENSE_PREREQ.
    fields["requires_pre"] = _relations(relation for relation in found.requires if relation[5])
    fields["files"] = tuple(sorted({_join(folder, name) for _, folder, name, *_ in found.files}))
    fields["ghosts"] = tuple(sorted(_join(folder, name) for kind, folder, name, *_ in found.files if kind == "ghost"))
    return UpstreamPackage(
        format="rpm",
        name=found.name,
        version=evr,
        arch=found.arch,
        source_name=source[1] if source else found.name,
        # A source file's name has no epoch; a package's epoch is its spec's, so it is the source's too.
        source_version=_with_epoch(found.epoch, source[2]) if source else evr,
        location=Location(upstream.id, prefix + found.location_href, found.pkgId, found.size_package),
        suite=suite.name,
        fields=fields,
    )


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _evr(epoch: str | None, version: str | None, release: str | None) -> str:
    return _with_epoch(epoch, f"{version or ''}-{release}" if release else version or "")


def _with_epoch(epoch: str | None, text: str) -> str:
    return f"{epoch}:{text}" if epoch and epoch != "0" else text


def _relations(relations: Iterable[tuple[Any, ...]]) -> tuple[str, ...]:
    """Relations as strings: name, or name, operator and EVR. A rich one is all name."""
    texts = []
    for name, flags, epoch, version, release, *_ in relations:
        operator = _OPERATORS.get(flags or "")
        texts.append(f"{name} {operator} {_evr(epoch, version, release)}" if operator else name)
    return tuple(dict.fromkeys(texts))
