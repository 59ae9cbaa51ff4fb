"""The change log a finished package carries, newest entry first.

Source: deb-changelog(5). A package that was an RPM upstream carries its entries in the header.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from bedplate.model.errors import BadInput
from bedplate.packages.rpm.reader import RpmPackage

_HEADING = re.compile(r"(?P<name>\S+) \((?P<version>[^()\s]+)\)(?P<targets>(?: [\w.-]+)+);")
_TRAILER = re.compile(r" -- .*?  (?P<date>.+)")
_LIMIT = 64 << 20
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")


@dataclass(frozen=True, slots=True)
class ChangelogEntry:
    """What changed in one version of a source package. ``targets`` are the suites it was uploaded to, ``date`` is in
    seconds since the epoch (0: not readable)."""

    version: str
    targets: tuple[str, ...]
    date: int
    text: str

    @property
    def cves(self) -> tuple[str, ...]:
        """The CVE ids it names, each once, in order."""
        return tuple(dict.fromkeys(_CVE.findall(self.text)))


def debian_changelog(package: RpmPackage) -> tuple[ChangelogEntry, ...]:
    """The entries of the package's own Debian change log; none when it has no such file (it may share another's).

    Raises:
        BadInput: the package is damaged.
    """
    folder = f"/usr/share/doc/{package.nevra.name}/"
    names = (f"{folder}changelog.Debian.gz", f"{folder}changelog.gz")
    found = {entry.path: data for entry, data in package.read(lambda path: path in names)}
    # A native package has one change log, others call upstream's changelog.gz.
    data = next((found[name] for name in names if name in found), b"")
    return tuple(parse_changelog(_unpacked(data, package.path.name).decode(errors="replace")))


def parse_changelog(text: str) -> Iterator[ChangelogEntry]:
    """The entries of a Debian change log; what is none is passed over."""
    heading: re.Match[str] | None = None
    body: list[str] = []
    for line in text.splitlines():
        if match := _HEADING.match(line):
            heading, body = match, []
        elif heading is not None and (match := _TRAILER.match(line)):
            yield ChangelogEntry(
                heading["version"], tuple(heading["targets"].split()), _date(match["date"]), "\n".join(body).strip("\n")
            )
            heading = None
        elif heading is not None:
            body.append(line.rstrip())


def _unpacked(data: bytes, where: str) -> bytes:
    if not data:
        return b""
    unpacker = zlib.decompressobj(31)
    try:
        text = unpacker.decompress(data, _LIMIT)
    except zlib.error as error:
        raise BadInput(f"its change log is damaged ({error})", where=where) from error
    if unpacker.unconsumed_tail:
        raise BadInput(f"its change log is larger than {_LIMIT >> 20} MiB", where=where)
    return text


def _date(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError):
        return 0
