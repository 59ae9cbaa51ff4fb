"""Reading a Debian archive: InRelease → Release table → Packages, each step checked by the one before.

Source: the Debian repository format (wiki.debian.org/DebianRepository/Format) and apt-secure(8).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from bedplate.model.definition.distro import Suite, Upstream
from bedplate.model.errors import BedplateError, TrustError
from bedplate.model.package import Location
from bedplate.upstream import control
from bedplate.upstream.decompress import decompress
from bedplate.upstream.disk import write_atomic
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
from bedplate.upstream.openpgp import VerifiedText, verify_clearsigned
from bedplate.upstream.transport import FileGone, Transport

MAX_RELEASE_BYTES = 16 << 20
MAX_PACKAGES_BYTES = 1 << 30
_PARSED_KEPT_SECONDS = 14 * 24 * 3600
_COMPRESSIONS = ("Packages.xz", "Packages.gz", "Packages")


@dataclass(frozen=True)
class _Release:
    """A verified and timely Release file: its fields, its SHA256 table, its date, and the base it was read from."""

    proof: VerifiedText
    base: str
    date: datetime
    fields: dict[str, str]
    table: dict[str, tuple[str, int]]


def open_suite(upstream: Upstream, suite: Suite, context: IndexContext, transport: Transport) -> VerifiedIndex:
    """Fetch and verify one suite.

    Raises:
        TrustError: a signature, digest, age or name does not hold on any mirror.
        BedplateError: no mirror could be reached.
    """
    root = suite.path or f"dists/{suite.name}"
    keyring = context.keyring(suite)
    where = where_of(upstream, suite)

    def read(base: str) -> _Release:
        url = f"{base}/{root}/InRelease"
        proof = verify_clearsigned(transport.get(url, MAX_RELEASE_BYTES), keyring, url)
        release = _read_release(proof, base, suite, context, url)
        check_not_older_than_seen(context, suite.name, release.date, url)
        return release

    release = first_good_mirror(context, suite, transport, read)
    parts = [
        _read_component(upstream, suite, context, transport, release, root, f"{component}/{arch}")
        for component in upstream.components
        for arch in _index_arches(upstream, release)
    ]
    columns = [[cell for part in parts for cell in part[column]] for column in range(len(parts[0]))]
    table = control.make_table(columns if len(parts) > 1 else parts[0], upstream.id, suite.name, where)
    remember_seen(context, suite.name, release.date, release.proof.sha256, where)
    return VerifiedIndex(upstream.id, suite.name, "deb", release.proof, release.date, table)


def _read_release(proof: VerifiedText, base: str, suite: Suite, context: IndexContext, url: str) -> _Release:
    try:
        fields, table = control.parse_release(proof.data.decode())
        date = _date(fields["Date"])
        valid_until = _date(fields["Valid-Until"]) if "Valid-Until" in fields else None
    except (KeyError, ValueError) as error:
        raise TrustError(f"the Release file lacks or garbles a field ({error})", where=url) from error
    names = {fields.get("Suite"), fields.get("Codename")}
    if suite.name not in names:
        raise TrustError(
            f"this is the index of {' / '.join(sorted(name for name in names if name))}, not of {suite.name}",
            where=url,
            remedy="the mirror answers for another suite: try another mirror",
        )
    check_age(context, suite, date, valid_until, url)
    return _Release(proof, base, date, fields, table)


def _date(text: str) -> datetime:
    # "Sat, 12 Sep 2026 07:55:41 UTC": RFC 5322 but for the zone's name, which is always UTC.
    return parsedate_to_datetime(text.removesuffix("UTC") + "+0000").astimezone(UTC)


def _index_arches(upstream: Upstream, release: _Release) -> list[str]:
    """Directories of a component to read. ``all`` has its own only where the others do not hold it as well."""
    separate = "all" in release.fields.get("Architectures", "").split()
    merged = "Packages" in release.fields.get("No-Support-for-Architecture-all", "").split()
    return [f"binary-{upstream.arch}", *(["binary-all"] if separate and not merged else [])]


def _read_component(
    upstream: Upstream,
    suite: Suite,
    context: IndexContext,
    transport: Transport,
    release: _Release,
    root: str,
    directory: str,
) -> control.Columns:
    where = f"{where_of(upstream, suite)} {directory}"
    name = next((name for name in _COMPRESSIONS if f"{directory}/{name}" in release.table), None)
    if name is None:
        raise TrustError(
            f"the Release file does not list {directory}/Packages",
            where=where,
            remedy="correct `components` and `arch` in distro.toml, or try another mirror",
        )
    digest, size = release.table[f"{directory}/{name}"]
    # Parsed forms are named by the digest that the signed file gives, and hold nothing else.
    cached = context.state / "parsed" / f"{digest}-{upstream.arch}"
    columns = control.load_columns(cached.read_bytes()) if cached.is_file() else None
    if columns is None:
        raw = _fetch(upstream, suite, context, transport, release, f"{root}/{directory}", name, digest, size)
        limit = release.table.get(f"{directory}/Packages", ("", MAX_PACKAGES_BYTES))[1]
        columns = control.parse_packages(decompress(raw, name, limit, where), upstream.arch, where)
        write_atomic(cached, control.dump_columns(columns))
        _prune(cached.parent)
    else:
        os.utime(cached)
    return columns


def _prune(directory: Path) -> None:
    """Remove parsed forms that were not used for a while: every change upstream leaves one behind."""
    limit = time.time() - _PARSED_KEPT_SECONDS
    for path in directory.iterdir():
        with suppress(FileNotFoundError):  # another process may prune too
            if path.stat().st_mtime < limit:
                path.unlink()


def _fetch(
    upstream: Upstream,
    suite: Suite,
    context: IndexContext,
    transport: Transport,
    release: _Release,
    directory: str,
    name: str,
    digest: str,
    size: int,
) -> bytes:
    """The compressed Packages file, from the mirror that gave the Release file, else from the others."""
    paths = [f"{directory}/{name}"]
    if release.fields.get("Acquire-By-Hash") == "yes":
        # By its digest a file can be had also while the mirror is being updated.
        paths.insert(0, f"{directory}/by-hash/SHA256/{digest}")
    bases = dict.fromkeys([release.base, *context.mirrors.index_bases(suite.name)])
    urls = [f"{base}/{path}" for base in bases for path in paths]
    try:
        fetch_file(Location(upstream.id, paths[-1], digest, size), urls, context.store, transport)
    except FileGone as error:
        raise BedplateError(
            "the mirror lists this index but does not have it",
            where=f"{release.base}/{paths[-1]}",
            remedy="it is being updated or is broken: try again later, or another mirror",
        ) from error
    return context.store.read_verified(digest)
