"""The licences a Debian copyright file names, as an SPDX expression.

Sources: DEP-5 (machine-readable copyright files), the SPDX licence list and expression syntax.
"""

from __future__ import annotations

import re

UNKNOWN = "LicenseRef-Debian-copyright-file"
"""Stands for "read the package's copyright file"."""

_HEADER = re.compile(rb"^Format:\s*\S*(?:copyright-format|dep5)", re.IGNORECASE)
_FIELD = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
_SPLIT = re.compile(r"\s+(?:and/or|and|or)\s+|\s*,\s*(?:and\s+|or\s+)?|\s*\|\s*", re.IGNORECASE)
_FORBIDDEN = re.compile(r"[^A-Za-z0-9.-]+")
_GNU = re.compile(r"(AGPL|LGPL|GPL|GFDL)-?v?([0-9](?:\.[0-9])?)(?:\.0)*(\+|-or-later|-only)?\Z", re.IGNORECASE)
_KNOWN = {
    "apache-2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-2.0": "Artistic-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "bsl-1.0": "BSL-1.0",
    "cc0-1.0": "CC0-1.0",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "mit": "MIT",
    "isc": "ISC",
    "mpl-2.0": "MPL-2.0",
    "openssl": "OpenSSL",
    "public-domain": "LicenseRef-public-domain",
    "unicode": "Unicode-3.0",
    "zlib": "Zlib",
    "0bsd": "0BSD",
    "psf-2": "PSF-2.0",
}


def licence_of(copyright_file: bytes) -> str:
    """An SPDX expression of every licence the file names, all joined by ``AND``: what must be kept is the sum.

    Debian's short names become SPDX identifiers where they mean the same, ``LicenseRef-Debian-…`` otherwise. A file
    that is not machine-readable gives :data:`UNKNOWN`.
    """
    if not _HEADER.match(copyright_file.lstrip()):
        return UNKNOWN
    text = copyright_file.decode(errors="replace")
    names = {name for match in _FIELD.finditer(text) for name in _SPLIT.split(match[1]) if name}
    found = sorted({_identifier(name) for name in names} - {""})
    return " AND ".join(found) or UNKNOWN


def _identifier(name: str) -> str:
    base = re.split(r"\s+with\s+", name.strip(), flags=re.IGNORECASE)[0].strip("() ")
    match = _GNU.match(base)
    if match and base == name.strip():
        family, version, suffix = match[1].upper(), match[2], match[3] or ""
        version = version if "." in version else f"{version}.0"
        return f"{family}-{version}-{'or-later' if suffix in ('+', '-or-later') else 'only'}"
    if base == name.strip() and base.lower() in _KNOWN:
        return _KNOWN[base.lower()]
    cleaned = _FORBIDDEN.sub("-", name.strip().replace("+", "-or-later")).strip("-")
    return f"LicenseRef-Debian-{cleaned}" if cleaned else ""
