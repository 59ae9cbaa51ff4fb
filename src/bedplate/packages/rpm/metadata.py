"""The rpm-md description of one package: its element in primary, filelists and other. Pure, and always the same text.

Source: createrepo_c's output is the reference for rpm-md, there is no written standard.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileFlag, FileKind, Nevra
from bedplate.packages.rpm.dependency import Dependency
from bedplate.packages.rpm.header import Header
from bedplate.packages.rpm.manifest import DEPENDENCY_TAGS, read_dependencies
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.tags import Sense, SigTag, Tag

METADATA_VERSION = 1
"""Changes with the text made here: part of the key under which it is cached."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FLAGS = {
    Sense.LESS: "LT",
    Sense.LESS | Sense.EQUAL: "LE",
    Sense.EQUAL: "EQ",
    Sense.GREATER | Sense.EQUAL: "GE",
    Sense.GREATER: "GT",
}
_COMPARISON = Sense.LESS | Sense.GREATER | Sense.EQUAL
_BEFORE = Sense.PREREQ | Sense.SCRIPT_PRE | Sense.SCRIPT_POST
_MAX_CHANGELOGS = 10


@dataclass(frozen=True, slots=True)
class PackageMetadata:
    """One package's ``<package>`` elements."""

    primary: str
    filelists: str
    other: str


def describe(package: RpmPackage, sha256: str, location: str) -> PackageMetadata:
    """The elements of ``package``.

    Args:
        sha256: Hex SHA-256 of the file as it is served (signed).
        location: Its path below the repository.
    """
    return PackageMetadata(
        _primary(package, sha256, location),
        _short(package, sha256, _files(package.files)),
        _short(package, sha256, _changelogs(package.header)),
    )


def _primary(package: RpmPackage, sha256: str, location: str) -> str:
    header, nevra = package.header, package.nevra
    built = header.number(Tag.BUILD_TIME, 0)
    installed = header.number(Tag.LONG_SIZE) or header.number(Tag.SIZE, 0)
    archive = package.signature.number(SigTag.LONG_PAYLOAD_SIZE) or package.signature.number(SigTag.PAYLOAD_SIZE, 0)
    start, end = package.header_range
    lines = [
        '<package type="rpm">',
        f"  <name>{_text(nevra.name)}</name>",
        f"  <arch>{_text(nevra.arch)}</arch>",
        f"  {_version(nevra)}",
        f'  <checksum type="sha256" pkgid="YES">{sha256}</checksum>',
        f"  <summary>{_text(header.text(Tag.SUMMARY))}</summary>",
        f"  <description>{_text(header.text(Tag.DESCRIPTION))}</description>",
        f"  <packager>{_text(header.text(Tag.PACKAGER))}</packager>",
        f"  <url>{_text(header.text(Tag.URL))}</url>",
        # A file's own time would differ from one build of the repository to the next.
        f'  <time file="{built}" build="{built}"/>',
        f'  <size package="{package.size}" installed="{installed}" archive="{archive}"/>',
        f"  <location href={_attribute(location)}/>",
        "  <format>",
        f"    <rpm:license>{_text(header.text(Tag.LICENSE))}</rpm:license>",
        f"    <rpm:vendor>{_text(header.text(Tag.VENDOR))}</rpm:vendor>",
        f"    <rpm:group>{_text(header.text(Tag.GROUP))}</rpm:group>",
        f"    <rpm:buildhost>{_text(header.text(Tag.BUILD_HOST))}</rpm:buildhost>",
        f"    <rpm:sourcerpm>{_text(header.text(Tag.SOURCE_RPM))}</rpm:sourcerpm>",
        f'    <rpm:header-range start="{start}" end="{end}"/>',
    ]
    for kind in DEPENDENCY_TAGS:
        lines += _dependencies(package, kind)
    lines += _files(tuple(entry for entry in package.files if _is_primary(entry.path)), "    ")
    return "\n".join([*lines, "  </format>", "</package>", ""])


def _dependencies(package: RpmPackage, kind: str) -> list[str]:
    found: dict[str, Sense] = {}
    entries: dict[str, Dependency] = {}
    for one in read_dependencies(package.header, kind, package.path.name):
        if not one.sense & Sense.RPMLIB:
            found[str(one)] = found.get(str(one), Sense.ANY) | one.sense
            entries[str(one)] = one
    if not entries:
        return []
    lines = [f"    <rpm:{kind}>"]
    for text, one in sorted(entries.items()):
        before = ' pre="1"' if kind == "requires" and found[text] & _BEFORE else ""
        lines.append(f"      <rpm:entry name={_attribute(one.name)}{_relation(one)}{before}/>")
    return [*lines, f"    </rpm:{kind}>"]


def _relation(dependency: Dependency) -> str:
    flags = _FLAGS.get(dependency.sense & _COMPARISON)
    if not flags or not dependency.evr:
        return ""
    evr = Evr.parse(dependency.evr)
    release = f" rel={_attribute(evr.release)}" if evr.release else ""
    return f' flags="{flags}" epoch="{evr.epoch}" ver={_attribute(evr.version)}{release}'


def _files(files: tuple[FileEntry, ...], indent: str = "  ") -> list[str]:
    lines = []
    for entry in files:
        kind = ""
        if entry.kind is FileKind.DIRECTORY:
            kind = ' type="dir"'
        elif entry.flags & FileFlag.GHOST:
            kind = ' type="ghost"'
        lines.append(f"{indent}<file{kind}>{_text(entry.path)}</file>")
    return lines


def _is_primary(path: str) -> bool:
    # What solvers may need without the whole file list.
    return path.startswith("/etc/") or "bin/" in path or path == "/usr/lib/sendmail"


def _changelogs(header: Header) -> list[str]:
    times, authors, texts = (
        header.numbers(Tag.CHANGELOG_TIME),
        header.texts(Tag.CHANGELOG_NAME),
        header.texts(Tag.CHANGELOG_TEXT),
    )
    newest = list(zip(times, authors, texts, strict=False))[:_MAX_CHANGELOGS]
    return [
        f'  <changelog author={_attribute(author)} date="{time}">{_text(text)}</changelog>'
        for time, author, text in reversed(newest)
    ]


def _short(package: RpmPackage, sha256: str, lines: list[str]) -> str:
    nevra = package.nevra
    head = f'<package pkgid="{sha256}" name={_attribute(nevra.name)} arch={_attribute(nevra.arch)}>'
    return "\n".join([head, f"  {_version(nevra)}", *lines, "</package>", ""])


def _version(nevra: Nevra) -> str:
    evr = nevra.evr
    return f'<version epoch="{evr.epoch}" ver={_attribute(evr.version)} rel={_attribute(evr.release)}/>'


def _clean(convert: Callable[[str], str], text: str) -> str:
    # Bytes that are not UTF-8 and control characters have no place in XML.
    return convert(_FORBIDDEN.sub("?", text))


def _text(text: str) -> str:
    return _clean(escape, text)


def _attribute(text: str) -> str:
    return _clean(quoteattr, text)
