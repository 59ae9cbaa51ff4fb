"""The host's apt sources: which archives this machine already uses (sources.list(5), one-line and deb822 style)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OFF = frozenset(("no", "false", "without", "off", "disable", "0"))
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)$")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One enabled binary archive of the host.

    ``keyring`` is the file name in ``Signed-By``: empty when none is given, "inline" for a key in the source itself.
    ``origin`` is the file it was read from.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str
    origin: str


def read_apt_sources(root: Path = Path("/")) -> list[AptSource]:
    """All enabled ``deb`` sources below ``root``'s etc/apt, in the order apt reads them.

    Only files apt itself would read count (``.list`` and ``.sources``). Files that cannot be read are passed over:
    the sources are a convenience, and a mirror can always be named.
    """
    directory = root / "etc/apt"
    files = [directory / "sources.list"]
    parts = directory / "sources.list.d"
    if parts.is_dir():
        files += sorted(path for path in parts.iterdir() if path.suffix in (".list", ".sources"))
    sources: list[AptSource] = []
    for path in files:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
        sources += parse(text, str(path))
    return sources


def parse_one_line(text: str, origin: str) -> Iterator[AptSource]:
    """Sources of a ``sources.list``: ``deb [options] uri suite component…``; comments and ``deb-src`` are skipped."""
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match is None:
            continue
        keyring = ""
        for option in (match["options"] or "").split():
            key, _, value = option.partition("=")
            if key.rstrip("+").lower() == "signed-by":
                keyring = _keyring(value)
        yield AptSource(match["uri"], match["suite"], tuple(match["components"].split()), keyring, origin)


def parse_deb822(text: str, origin: str) -> Iterator[AptSource]:
    """Sources of a ``.sources`` file: stanzas with Types, URIs, Suites, Components, Signed-By and Enabled."""
    for stanza in _stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").strip().lower() in _OFF:
            continue
        keyring = _keyring(stanza.get("signed-by", ""))
        components = tuple(stanza.get("components", "").split())
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                yield AptSource(uri, suite, components, keyring, origin)


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    last = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue  # a comment may stand between the lines of one field
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            fields[last] = f"{fields.get(last, '')}\n{line.strip()}"
        else:
            name, _, value = line.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()


def _keyring(value: str) -> str:
    value = value.strip()
    if "BEGIN PGP" in value:
        return "inline"
    first = value.split(",")[0].split()
    return first[0].rpartition("/")[2] if first else ""
