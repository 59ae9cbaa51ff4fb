"""Control data of a Debian package: the fields, the conffiles, the maintainer scripts.

Sources: deb-control(5), deb-conffiles(5), deb-postinst(5) and its kin.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from bedplate.model.package import Script
from bedplate.packages.deb.container import bad_package

MAINTAINER_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
_VERSION = re.compile(r"([0-9]+:)?[0-9A-Za-z][0-9A-Za-z.+~:-]*\Z")
_NEEDED = ("Package", "Version", "Architecture")


def parse_fields(data: bytes, where: str) -> dict[str, str]:
    """The one stanza of a ``control`` file: field name to value, continuation lines joined by newlines.

    Raises:
        BadInput: not such a stanza, or package, version or architecture missing or malformed.
    """
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise bad_package(where, "its control file is not UTF-8") from error
    fields: dict[str, str] = {}
    last = ""
    for line in lines:
        if line[:1] in (" ", "\t") and last:
            fields[last] += "\n" + line[1:].rstrip()
        elif match := _FIELD.match(line):
            last = match[1]
            if last in fields:
                raise bad_package(where, f"its control file has the field {last} twice")
            fields[last] = match[2].rstrip()
        elif line.strip():
            raise bad_package(where, f"its control file has a malformed line {line[:60]!r}")
    for key in _NEEDED:
        if not fields.get(key):
            raise bad_package(where, f"its control file lacks {key}")
    if not _NAME.match(fields["Package"]):
        raise bad_package(where, f"its name {fields['Package']!r} is not a package name")
    if not _VERSION.match(fields["Version"]):
        raise bad_package(where, f"its version {fields['Version']!r} is not a version")
    return fields


def parse_conffiles(data: bytes, where: str) -> tuple[str, ...]:
    """Paths of a ``conffiles`` file, without those only named to be removed on upgrade."""
    paths = []
    for line in data.decode(errors="replace").splitlines():
        words = line.split()
        if not words or words[0] == "remove-on-upgrade":
            continue
        if not line.startswith("/") or ".." in line.split("/"):
            raise bad_package(where, f"its conffiles name {line!r}")
        paths.append(line.rstrip())
    return tuple(paths)


def parse_script(kind: str, data: bytes) -> Script:
    """A maintainer script. A compiled one (interpreter ``ELF``) is stood for by its digest."""
    if data.startswith(b"\x7fELF"):
        return Script(kind, "ELF", f"sha256:{hashlib.sha256(data).hexdigest()}")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    first = text.split("\n", 1)[0]
    words = first[2:].split() if first.startswith("#!") else []
    return Script(kind, words[0] if words else "", text)


def parse_scripts(files: Mapping[str, bytes]) -> tuple[Script, ...]:
    """The maintainer scripts among the control files, in a fixed order."""
    return tuple(parse_script(kind, files[kind]) for kind in MAINTAINER_SCRIPTS if kind in files)
