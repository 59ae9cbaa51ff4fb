"""What a main header says: name, source, dependencies, files, scripts. Pure; every index is checked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from functools import cache

from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileFlag, FileKind, Nevra, Script, SourceRef
from bedplate.packages.rpm.assemble import FILE_BITS, SCRIPTLETS, SOURCE_PROVIDE, TRIGGER_TAGS
from bedplate.packages.rpm.dependency import Dependency
from bedplate.packages.rpm.header import Header
from bedplate.packages.rpm.payload import TYPE_BITS
from bedplate.packages.rpm.spec import check_path
from bedplate.packages.rpm.tags import MAX_FILES, MAX_UNPACKED_BYTES, FileBit, HashAlgorithm, Sense, Tag

DEPENDENCY_TAGS = {
    "requires": (Tag.REQUIRE_NAME, Tag.REQUIRE_FLAGS, Tag.REQUIRE_VERSION),
    "provides": (Tag.PROVIDE_NAME, Tag.PROVIDE_FLAGS, Tag.PROVIDE_VERSION),
    "conflicts": (Tag.CONFLICT_NAME, Tag.CONFLICT_FLAGS, Tag.CONFLICT_VERSION),
    "obsoletes": (Tag.OBSOLETE_NAME, Tag.OBSOLETE_FLAGS, Tag.OBSOLETE_VERSION),
    "recommends": (Tag.RECOMMEND_NAME, Tag.RECOMMEND_FLAGS, Tag.RECOMMEND_VERSION),
    "suggests": (Tag.SUGGEST_NAME, Tag.SUGGEST_FLAGS, Tag.SUGGEST_VERSION),
    "supplements": (Tag.SUPPLEMENT_NAME, Tag.SUPPLEMENT_FLAGS, Tag.SUPPLEMENT_VERSION),
    "enhances": (Tag.ENHANCE_NAME, Tag.ENHANCE_FLAGS, Tag.ENHANCE_VERSION),
}

_KINDS = {bits: kind for kind, bits in TYPE_BITS.items()}
_TYPE_MASK = 0o170000
_SPECIAL = {0o020000: "a character device", 0o060000: "a block device", 0o010000: "a pipe", 0o140000: "a socket"}
_SOURCE_RPM = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<release>[^-]+)\.(?:no)?src\.rpm\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_TRIGGER_SENSES = {
    Sense.TRIGGER_PREIN: "prein",
    Sense.TRIGGER_IN: "in",
    Sense.TRIGGER_UN: "un",
    Sense.TRIGGER_POSTUN: "postun",
}
_REMEDY = "the package is damaged or made to do harm: do not use it"


def read_nevra(header: Header, where: str) -> Nevra:
    """Name, EVR and architecture.

    Raises:
        BadInput: one is missing or holds a character that could not stand in a file name.
    """
    name, version, release, arch = (header.text(tag) for tag in (Tag.NAME, Tag.VERSION, Tag.RELEASE, Tag.ARCH))
    if any(not text or "/" in text or not text.isprintable() or " " in text for text in (name, version, release, arch)):
        raise BadInput("name, version, release or architecture is missing or wrong", where=where, remedy=_REMEDY)
    return Nevra(name, Evr(header.number(Tag.EPOCH, 0) or 0, version, release), arch)


def read_dependencies(header: Header, kind: str, where: str) -> tuple[Dependency, ...]:
    """Dependencies of one ``kind`` (a key of :data:`DEPENDENCY_TAGS`) as they stand, in the header's order."""
    name_tag, flag_tag, version_tag = DEPENDENCY_TAGS[kind]
    names, flags, versions = header.texts(name_tag), header.numbers(flag_tag), header.texts(version_tag)
    if not len(names) == len(flags) == len(versions):
        raise BadInput(f"the lists of {kind} are not of one length", where=where, remedy=_REMEDY)
    return tuple(Dependency(name, Sense(flag), evr) for name, flag, evr in zip(names, flags, versions, strict=True))


def read_source(header: Header, nevra: Nevra, where: str) -> SourceRef:
    """The source package: exact where the package says so, else from SOURCERPM with the binary's epoch.

    Raises:
        BadInput: the header names no source.
    """
    for dependency in read_dependencies(header, "provides", where):
        if dependency.name.startswith(f"{SOURCE_PROVIDE}(") and dependency.evr:
            return SourceRef(dependency.name[len(SOURCE_PROVIDE) + 1 : -1], Evr.parse(dependency.evr))
    match = _SOURCE_RPM.match(header.text(Tag.SOURCE_RPM))
    if match is None:
        raise BadInput(f"source {header.text(Tag.SOURCE_RPM)!r} is not the name of a source package", where=where)
    return SourceRef(match["name"], Evr(nevra.evr.epoch, match["version"], match["release"]))


def read_scripts(header: Header, where: str) -> tuple[Script, ...]:
    """Every scriptlet and trigger, scriptlets first, in a fixed order of kinds."""
    scripts = []
    for kind, (body, program, _) in SCRIPTLETS.items():
        if body in header or program in header:
            interpreter = " ".join(header.texts(program)) or "/bin/sh"
            scripts.append(Script(kind, interpreter, header.text(body)))
    for prefix, tags in TRIGGER_TAGS.items():
        scripts += _read_triggers(header, prefix, tags, where)
    return tuple(scripts)


def _read_triggers(header: Header, prefix: str, tags: Sequence[Tag], where: str) -> list[Script]:
    body_tag, program_tag, name_tag, version_tag, flag_tag, index_tag = tags[:6]
    bodies, programs, indexes = header.texts(body_tag), header.texts(program_tag), header.numbers(index_tag)
    names, flags, versions = header.texts(name_tag), header.numbers(flag_tag), header.texts(version_tag)
    same = len(names) == len(flags) == len(versions) == len(indexes) and len(bodies) == len(programs)
    if not same or any(index >= len(bodies) for index in indexes):
        raise BadInput("the lists of triggers do not fit one another", where=where, remedy=_REMEDY)
    scripts = []
    for number, (text, program) in enumerate(zip(bodies, programs, strict=True)):
        mine = [position for position, index in enumerate(indexes) if index == number]
        sense = Sense(flags[mine[0]]) if mine else Sense.ANY
        suffix = next((word for bit, word in _TRIGGER_SENSES.items() if sense & bit), "")
        condition = ", ".join(str(Dependency(names[one], Sense(flags[one]), versions[one])) for one in mine)
        scripts.append(Script(prefix + suffix, program, text, condition))
    return scripts


def read_files(header: Header, where: str) -> tuple[FileEntry, ...]:
    """Every path of the package in the header's order.

    Raises:
        BadInput: lists of different lengths, an index out of range, an unsafe path, a device or pipe, a link out of
            the tree, a path below a symbolic link of the same package, sizes beyond :data:`MAX_UNPACKED_BYTES`.
    """
    paths = _read_paths(header, where)
    if not paths:
        return ()
    count = len(paths)
    modes = _column(header, Tag.FILE_MODES, count, where)
    sizes = _column(header, Tag.LONG_FILE_SIZES if Tag.LONG_FILE_SIZES in header else Tag.FILE_SIZES, count, where)
    times = _column(header, Tag.FILE_MTIMES, count, where)
    flags = _column(header, Tag.FILE_FLAGS, count, where)
    digests = _text_column(header, Tag.FILE_DIGESTS, count, where)
    targets = _text_column(header, Tag.FILE_LINKTOS, count, where)
    users = _text_column(header, Tag.FILE_USERNAMES, count, where)
    groups = _text_column(header, Tag.FILE_GROUPNAMES, count, where)
    capabilities = _text_column(header, Tag.FILE_CAPS, count, where, optional=True)
    links = _first_links(header, paths, modes, flags, where)
    if header.number(Tag.FILE_DIGEST_ALGORITHM, HashAlgorithm.MD5) != HashAlgorithm.SHA256 and any(digests):
        raise BadInput("file digests are not SHA-256", where=where, remedy="use a newer build of the package")
    entries = []
    for number, path in enumerate(paths):
        kind = _KINDS.get(modes[number] & _TYPE_MASK)
        if kind is None:
            what = _SPECIAL.get(modes[number] & _TYPE_MASK, "of an unknown kind")
            raise BadInput(f"{path} is {what}; packages may not hold such files", where=where, remedy=_REMEDY)
        is_content = kind is FileKind.FILE and not flags[number] & FileBit.GHOST
        if is_content and not _SHA256.match(digests[number]):
            raise BadInput(f"{path} has no SHA-256 digest", where=where, remedy=_REMEDY)
        entries.append(
            FileEntry(
                path=path,
                kind=kind,
                mode=modes[number] & 0o7777,
                user=users[number] or "root",
                group=groups[number] or "root",
                mtime=times[number],
                size=sizes[number] if is_content else 0,
                sha256=digests[number] if is_content else "",
                target=targets[number] if kind is FileKind.SYMLINK else "",
                hardlink=links.get(path, ""),
                capabilities=capabilities[number],
                flags=_flags(flags[number]),
            )
        )
    _check_tree(entries, where)
    return tuple(entries)


def _read_paths(header: Header, where: str) -> list[str]:
    names, indexes, directories = (
        header.texts(Tag.BASENAMES),
        header.numbers(Tag.DIR_INDEXES),
        header.texts(Tag.DIRNAMES),
    )
    if len(names) != len(indexes) or any(index >= len(directories) for index in indexes):
        raise BadInput("the lists of files do not fit one another", where=where, remedy=_REMEDY)
    if len(names) > MAX_FILES:
        raise BadInput(f"{len(names)} files, more than the {MAX_FILES} allowed", where=where)
    paths = [directories[index] + name for name, index in zip(names, indexes, strict=True)]
    for path, name in zip(paths, names, strict=True):
        if "/" in name:
            raise BadInput(f"unsafe file name {name!r}", where=where, remedy=_REMEDY)
        check_path(path, where)
    if len(set(paths)) != len(paths):
        raise BadInput("two files have one path", where=where, remedy=_REMEDY)
    return paths


def _column(header: Header, tag: Tag, count: int, where: str) -> tuple[int, ...]:
    values = header.numbers(tag)
    if len(values) != count:
        raise BadInput(f"the list {tag.name} does not have one value for each file", where=where, remedy=_REMEDY)
    return values


def _text_column(header: Header, tag: Tag, count: int, where: str, optional: bool = False) -> tuple[str, ...]:
    if optional and tag not in header:
        return ("",) * count
    values = header.texts(tag)
    if len(values) != count:
        raise BadInput(f"the list {tag.name} does not have one value for each file", where=where, remedy=_REMEDY)
    return values


def _first_links(
    header: Header, paths: Sequence[str], modes: Sequence[int], flags: Sequence[int], where: str
) -> dict[str, str]:
    """Path to first path, for every regular file that shares its inode with another."""
    count = len(paths)
    inodes = _column(header, Tag.FILE_INODES, count, where)
    devices = _column(header, Tag.FILE_DEVICES, count, where) if Tag.FILE_DEVICES in header else (1,) * count
    groups: dict[tuple[int, int], list[str]] = {}
    for number, path in enumerate(paths):
        if modes[number] & _TYPE_MASK == TYPE_BITS[FileKind.FILE] and not flags[number] & FileBit.GHOST:
            groups.setdefault((devices[number], inodes[number]), []).append(path)
    return {path: group[0] for group in groups.values() if len(group) > 1 for path in group}


@cache
def _flags(bits: int) -> FileFlag:
    result = FileFlag.NONE
    for flag, bit in FILE_BITS.items():
        if bits & bit:
            result |= flag
    return result


def _check_tree(entries: Sequence[FileEntry], where: str) -> None:
    by_path = {entry.path: entry for entry in entries}
    checked: set[str] = set()
    total = 0
    for entry in entries:
        if entry.kind is FileKind.SYMLINK:
            _check_target(entry, where)
        first = by_path[entry.hardlink] if entry.hardlink else entry
        if (first.size, first.sha256) != (entry.size, entry.sha256):
            raise BadInput(f"hard links {first.path} and {entry.path} differ in content", where=where, remedy=_REMEDY)
        total += entry.size if first is entry else 0
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in checked:
            above = by_path.get(parent)
            if above is not None and above.kind is not FileKind.DIRECTORY:
                raise BadInput(
                    f"{entry.path} lies below {above.path}, which is no directory", where=where, remedy=_REMEDY
                )
            checked.add(parent)
            parent = parent.rpartition("/")[0]
    if total > MAX_UNPACKED_BYTES:
        raise BadInput(
            f"the files come to {total} bytes, more than the {MAX_UNPACKED_BYTES} allowed", where=where, remedy=_REMEDY
        )


def _check_target(entry: FileEntry, where: str) -> None:
    depth = entry.path.count("/") - 1
    target = posixpath.normpath(entry.target) if entry.target else ""
    climbs = 0 if target.startswith("/") else target.split("/").count("..")
    if not target or "\0" in target or climbs > depth:
        raise BadInput(f"the link {entry.path} -> {entry.target} leads out of the tree", where=where, remedy=_REMEDY)
