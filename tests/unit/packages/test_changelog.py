"""Change logs and the advisories written from them."""

from __future__ import annotations

from bedplate.model.advisory import AdvisedPackage, Advisory
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra, SourceRef
from bedplate.packages.changelog import parse_changelog
from bedplate.packages.updateinfo import merged_advisories, read_updateinfo, write_updateinfo

TEXT = """\
curl (8.14.1-2+deb13u2) trixie-security; urgency=high

  * Import fix for CVE-2026-0001 and CVE-2026-0002
    (CVE-2026-0001 needs both patches)

 -- Someone <someone@example.org>  Mon, 02 Nov 2026 10:00:00 +0100

curl (8.14.1-2+deb13u1) trixie trixie-updates; urgency=medium

  * A crash.

 -- Someone <someone@example.org>  not a date

a line that belongs to nothing
"""


def advisory(identity: str, name: str = "curl", release: str = "2+deb13u2", **more: object) -> Advisory:
    evr = Evr(1, "8.14.1", release)
    package = AdvisedPackage(Nevra(name, evr, "x86_64"), SourceRef("curl", evr), True)
    return Advisory(identity, f"curl {evr}", 1_700_000_000, (package,), **more)  # type: ignore[arg-type]


def test_entries_are_read_with_their_targets_and_each_cve_once() -> None:
    first, second = parse_changelog(TEXT)
    assert (first.version, first.targets, first.date) == ("8.14.1-2+deb13u2", ("trixie-security",), 1793610000)
    assert first.cves == ("CVE-2026-0001", "CVE-2026-0002")
    assert (second.targets, second.date, second.cves) == (("trixie", "trixie-updates"), 0, ())


def test_what_is_written_is_read_again() -> None:
    told = [
        advisory(
            "B-2026:a-1-1", cves=("CVE-2026-1",), description="  * <fix> & more", rests_on="a word", severity="Low"
        ),
        advisory("B-2026:b-1-1"),
    ]
    data = write_updateinfo(reversed(told), "bedplate", "Bedplate 1")
    assert data == write_updateinfo(told, "bedplate", "Bedplate 1")
    assert read_updateinfo(data) == told


def test_what_was_said_stays_said_while_a_package_of_that_name_is_held() -> None:
    before = [advisory("B-1", severity="Low"), advisory("B-2", "gone"), advisory("B-3")]
    fresh = [advisory("B-1", severity="High")]
    merged = merged_advisories(before, fresh, ["curl"])
    assert [(one.id, one.severity) for one in merged] == [("B-1", "High"), ("B-3", "")]
