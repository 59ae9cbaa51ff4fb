"""Advisories as updateinfo.xml, which ``dnf updateinfo`` and ``dnf upgrade --security`` read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedplate.model.advisory import AdvisedPackage, Advisory
from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra, SourceRef
from bedplate.toolchain.createrepo import createrepo_c

_CVE_PAGE = "https://www.cve.org/CVERecord?id="
_SEPARATOR = "\n\nThis rests on: "


def write_updateinfo(advisories: Iterable[Advisory], issuer: str, product: str) -> bytes:
    """The advisories, sorted by id.

    Args:
        issuer: Who says so.
        product: What the packages belong to: the distribution's name and stream.
    """
    document = createrepo_c().UpdateInfo()
    for advisory in sorted(advisories, key=lambda one: one.id):
        document.append(_record(advisory, issuer, product))
    text: str = document.xml_dump()
    return text.encode()


def read_updateinfo(data: bytes) -> list[Advisory]:
    """What :func:`write_updateinfo` wrote.

    Raises:
        BadInput: it is not updateinfo.
    """
    cr = createrepo_c()
    with tempfile.NamedTemporaryFile(suffix=".xml") as stream:
        stream.write(data)
        stream.flush()
        try:
            document = cr.UpdateInfo(stream.name)
        except cr.CreaterepoCError as error:
            raise BadInput(
                f"the repository's updateinfo cannot be read ({error})", where=Path(stream.name).name
            ) from error
        return [_advisory(record) for record in document.updates]


def merged_advisories(
    before: Iterable[Advisory], fresh: Iterable[Advisory], names: Iterable[str]
) -> tuple[Advisory, ...]:
    """The advisories of a new state: what was said once stays said, in its newest form, as long as the repository holds
    a package of one of its names."""
    held = set(names)
    by_id = {advisory.id: advisory for advisory in [*before, *fresh]}
    kept = (one for one in by_id.values() if any(package.nevra.name in held for package in one.packages))
    return tuple(sorted(kept, key=lambda one: one.id))


def _record(advisory: Advisory, issuer: str, product: str) -> Any:
    cr = createrepo_c()
    record = cr.UpdateRecord()
    record.fromstr, record.status, record.type, record.version = issuer, "final", "security", "1"
    record.id, record.title, record.release = advisory.id, advisory.title, product
    issued = datetime.fromtimestamp(advisory.issued, UTC).replace(tzinfo=None)
    record.issued_date = record.updated_date = issued
    if advisory.severity:
        record.severity = advisory.severity
    record.summary = advisory.title
    record.description = advisory.description + (_SEPARATOR + advisory.rests_on if advisory.rests_on else "")
    for cve in advisory.cves:
        reference = cr.UpdateReference()
        reference.href, reference.id, reference.type, reference.title = _CVE_PAGE + cve, cve, "cve", cve
        record.append_reference(reference)
    collection = cr.UpdateCollection()
    collection.shortname = collection.name = product
    for package in sorted(advisory.packages, key=lambda one: one.nevra):
        collection.append(_package(package))
    record.append_collection(collection)
    return record


def _package(package: AdvisedPackage) -> Any:
    one, nevra, source = createrepo_c().UpdateCollectionPackage(), package.nevra, package.source
    one.name, one.arch, one.filename = nevra.name, nevra.arch, nevra.filename
    one.epoch, one.version, one.release = str(nevra.evr.epoch), nevra.evr.version, nevra.evr.release
    one.src = f"{source.name}-{source.evr}.src.rpm"
    one.reboot_suggested = package.reboot
    return one


def _advisory(record: Any) -> Advisory:
    description, _, rests_on = (record.description or "").partition(_SEPARATOR)
    issued: datetime = record.issued_date
    return Advisory(
        id=record.id,
        title=record.title or "",
        issued=int(issued.replace(tzinfo=UTC).timestamp()),
        packages=tuple(_advised(one) for collection in record.collections for one in collection.packages),
        cves=tuple(reference.id for reference in record.references if reference.type == "cve"),
        severity=record.severity or "",
        description=description,
        rests_on=rests_on,
    )


def _advised(one: Any) -> AdvisedPackage:
    name, version, release = one.src.removesuffix(".src.rpm").rsplit("-", 2)
    nevra = Nevra(one.name, Evr(int(one.epoch or 0), one.version, one.release), one.arch)
    return AdvisedPackage(nevra, SourceRef(name, Evr.parse(f"{version}-{release}")), bool(one.reboot_suggested))
