"""Licences of Debian copyright files, as SPDX expressions."""

from __future__ import annotations

import pytest

from bedplate.packages.deb.licence import UNKNOWN, licence_of


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
