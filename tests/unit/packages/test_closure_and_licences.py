"""Libraries that nobody brings; licences as SPDX."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.debs import Deb

from bedplate.model.errors import Level
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra, SourceRef
from bedplate.packages.closure import unmet_libraries
from bedplate.packages.deb.licence import UNKNOWN, licence_of
from bedplate.packages.importer import ImportedPackage


def _imported(name: str, requires: tuple[str, ...] = (), provides: tuple[str, ...] = ()) -> ImportedPackage:
    evr = Evr(0, "1", "1")
    return ImportedPackage(
        Nevra(name, evr, "x86_64"),
        SourceRef(name, evr),
        Path("x.rpm"),
        "",
        0,
        (),
        (),
        (),
        (),
        requires,
        provides,
        Deb().upstream(),
    )


def test_a_library_that_nobody_brings_is_an_error() -> None:
    libc = _imported("libc6", provides=("libc.so.6()(64bit)", "libc.so.6(GLIBC_2.38)(64bit)"))
    tool = _imported(
        "tool", requires=("libc.so.6(GLIBC_2.38)(64bit)", "libgone.so.1()(64bit)", "rtld(GNU_HASH)", "dpkg")
    )
    findings = unmet_libraries([libc, tool], further=["rtld(GNU_HASH)"])
    assert [(finding.where, finding.level) for finding in findings] == [("tool", Level.ERROR)]
    assert findings[0].cause == "nothing in the set provides libgone.so.1()(64bit)"


@pytest.mark.parametrize(
    ("licences", "expression"),
    [
        (["Expat"], "MIT"),
        (["GPL-2+", "LGPL-2.1+", "GPL-2+"], "GPL-2.0-or-later AND LGPL-2.1-or-later"),
        (["GPL-3", "BSD-3-clause"], "BSD-3-Clause AND GPL-3.0-only"),
        (["GPL-2+ or Artistic"], "Artistic-1.0-Perl AND GPL-2.0-or-later"),
        (["GPL-2+ with OpenSSL exception"], "LicenseRef-Debian-GPL-2-or-later-with-OpenSSL-exception"),
    ],
)
def test_licences_are_spdx_expressions(licences: list[str], expression: str) -> None:
    header = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    text = header + "\n".join(f"Files: *\nLicense: {one}\n text of it\n" for one in licences)
    assert licence_of(text.encode()) == expression


def test_a_free_text_copyright_file_is_referred_to() -> None:
    assert licence_of(b"This package was debianised by hand.") == UNKNOWN
