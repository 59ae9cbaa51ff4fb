"""The main header of a package from its spec. Pure: no file is read or written here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from bedplate.model.errors import BadInput
from bedplate.model.package import FileEntry, FileFlag, FileKind
from bedplate.packages.rpm.dependency import (
    Dependency,
    account_provides,
    membership_requires,
    owner_requires,
    parse_all,
    sysusers_provides,
)
from bedplate.packages.rpm.header import Entry, i18n, int16s, int32s, int64s, string, strings
from bedplate.packages.rpm.payload import TYPE_BITS, PayloadDigests
from bedplate.packages.rpm.spec import FileTrigger, PackageSpec
from bedplate.packages.rpm.tags import VERIFY_ALL, VERIFY_GHOST, FileBit, HashAlgorithm, Sense, Tag

SOURCE_PROVIDE = "bedplate-source"
"""``Provides: bedplate-source(NAME) = EVR`` names the exact source, epoch included.

SOURCERPM has no place for an epoch, and advisories match on the source's full EVR. A provide is seen in rpm-md, by dnf
(``dnf repoquery --whatprovides``) and in the installed database, where a tag of our own would not be.
"""

RPM_VERSION = "4.20.1"
LARGE_FILE = 0xFFFFFFFF
"""A file of more bytes than this needs 64-bit sizes (newc and FILESIZES hold 32 bits)."""

_ISA = {"x86_64": "x86-64", "aarch64": "aarch-64", "i686": "x86-32"}
FILE_BITS = {
    FileFlag.CONFIG: FileBit.CONFIG,
    FileFlag.NOREPLACE: FileBit.NOREPLACE,
    FileFlag.GHOST: FileBit.GHOST,
    FileFlag.DOC: FileBit.DOC,
    FileFlag.LICENSE: FileBit.LICENSE,
}
SCRIPTLETS = {
    "%pre": (Tag.PRE, Tag.PRE_PROG, Sense.SCRIPT_PRE),
    "%post": (Tag.POST, Tag.POST_PROG, Sense.SCRIPT_POST),
    "%preun": (Tag.PREUN, Tag.PREUN_PROG, Sense.SCRIPT_PREUN),
    "%postun": (Tag.POSTUN, Tag.POSTUN_PROG, Sense.SCRIPT_POSTUN),
    "%verifyscript": (Tag.VERIFY_SCRIPT, Tag.VERIFY_SCRIPT_PROG, Sense.SCRIPT_VERIFY),
    "%pretrans": (Tag.PRETRANS, Tag.PRETRANS_PROG, Sense.PRETRANS),
    "%posttrans": (Tag.POSTTRANS, Tag.POSTTRANS_PROG, Sense.POSTTRANS),
    "%preuntrans": (Tag.PREUNTRANS, Tag.PREUNTRANS_PROG, Sense.PREUNTRANS),
    "%postuntrans": (Tag.POSTUNTRANS, Tag.POSTUNTRANS_PROG, Sense.POSTUNTRANS),
}
_TRIGGER_SENSES = {"in": Sense.TRIGGER_IN, "un": Sense.TRIGGER_UN, "postun": Sense.TRIGGER_POSTUN}
TRIGGER_TAGS = {
    "%trigger": (
        Tag.TRIGGER_SCRIPTS,
        Tag.TRIGGER_SCRIPT_PROG,
        Tag.TRIGGER_NAME,
        Tag.TRIGGER_VERSION,
        Tag.TRIGGER_FLAGS,
        Tag.TRIGGER_INDEX,
    ),
    "%filetrigger": (
        Tag.FILE_TRIGGER_SCRIPTS,
        Tag.FILE_TRIGGER_SCRIPT_PROG,
        Tag.FILE_TRIGGER_NAME,
        Tag.FILE_TRIGGER_VERSION,
        Tag.FILE_TRIGGER_FLAGS,
        Tag.FILE_TRIGGER_INDEX,
        Tag.FILE_TRIGGER_PRIORITIES,
    ),
    "%transfiletrigger": (
        Tag.TRANS_FILE_TRIGGER_SCRIPTS,
        Tag.TRANS_FILE_TRIGGER_SCRIPT_PROG,
        Tag.TRANS_FILE_TRIGGER_NAME,
        Tag.TRANS_FILE_TRIGGER_VERSION,
        Tag.TRANS_FILE_TRIGGER_FLAGS,
        Tag.TRANS_FILE_TRIGGER_INDEX,
        Tag.TRANS_FILE_TRIGGER_PRIORITIES,
    ),
}
"""Tags of each family of triggers: scripts, interpreters, names, versions, flags, index, and priorities."""
_ACCOUNT_FILES = ("/etc/passwd", "/etc/group")
_SYSUSERS = "/usr/lib/sysusers.d/"
_LINK_SIZE_LIMIT = 4095


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a package in payload order with what follows from them.

    ``first`` and ``last`` give, for each index into ``files``, the index of the first and last link of its group;
    ``links`` the number of names. ``is_large`` says whether some file needs 64-bit sizes.
    """

    files: tuple[FileEntry, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    links: tuple[int, ...]
    is_large: bool


def make_layout(files: tuple[FileEntry, ...]) -> Layout:
    """Group the hard links of ``files`` (sorted by path)."""
    groups: dict[str, list[int]] = {}
    for number, entry in enumerate(files):
        groups.setdefault(entry.hardlink or entry.path, []).append(number)
    members = [groups[entry.hardlink or entry.path] for entry in files]
    return Layout(
        files,
        tuple(group[0] for group in members),
        tuple(group[-1] for group in members),
        tuple(len(group) for group in members),
        any(entry.size > LARGE_FILE for entry in files),
    )


def normalise(entry: FileEntry) -> FileEntry:
    """``entry`` with the size rpm records for its kind: 0 for directories and ghosts, the target's for links."""
    if entry.flags & FileFlag.GHOST:
        return replace(entry, size=0, sha256="")
    if entry.kind is FileKind.SYMLINK:
        target = len(entry.target.encode("utf-8", "surrogateescape"))
        if target > _LINK_SIZE_LIMIT:
            raise BadInput(f"the target of the link {entry.path} is too long")
        return replace(entry, size=target, sha256="")
    return entry if entry.kind is FileKind.FILE else replace(entry, size=0, sha256="")


def names_accounts(entry: FileEntry) -> bool:
    """Whether rpm's generators read users and groups from this file."""
    if entry.kind is not FileKind.FILE or entry.flags & FileFlag.GHOST:
        return False
    return entry.path in _ACCOUNT_FILES or (entry.path.startswith(_SYSUSERS) and entry.path.endswith(".conf"))


def main_entries(
    spec: PackageSpec,
    layout: Layout,
    digests: Mapping[str, str],
    colours: Mapping[str, int],
    payload: PayloadDigests,
    payload_level: int,
    accounts: Mapping[str, str],
) -> dict[int, Entry]:
    """Every entry of the main header.

    Args:
        digests: Hex SHA-256 of each regular file in the payload, by path. Their values do not change the header's
            size, so a header made with placeholders is as long as the final one; likewise ``colours`` and ``payload``.
        accounts: Path and text of each of the package's files that rpm reads users and groups from
            (:func:`names_accounts`).
    """
    nevra = spec.nevra
    entries: dict[int, Entry] = {
        Tag.I18N_TABLE: strings("C"),
        Tag.NAME: string(nevra.name),
        Tag.VERSION: string(nevra.evr.version),
        Tag.RELEASE: string(nevra.evr.release),
        Tag.SUMMARY: i18n(spec.summary),
        Tag.DESCRIPTION: i18n(spec.description),
        Tag.BUILD_TIME: int32s(spec.build_time),
        Tag.BUILD_HOST: string(spec.build_host),
        Tag.LICENSE: string(spec.license),
        Tag.GROUP: i18n(spec.group),
        Tag.OS: string("linux"),
        Tag.ARCH: string(nevra.arch),
        Tag.SOURCE_RPM: string(f"{spec.source.name}-{spec.source.evr.version}-{spec.source.evr.release}.src.rpm"),
        Tag.RPM_VERSION: string(RPM_VERSION),
        Tag.PAYLOAD_FORMAT: string("cpio"),
        Tag.PAYLOAD_COMPRESSOR: string("zstd"),
        Tag.PAYLOAD_FLAGS: string(str(payload_level)),
        Tag.ENCODING: string("utf-8"),
        Tag.PAYLOAD_DIGEST: strings(payload.sha256),
        Tag.PAYLOAD_DIGEST_ALGORITHM: int32s(HashAlgorithm.SHA256),
        Tag.PAYLOAD_DIGEST_ALT: strings(payload.archive_sha256),
    }
    if nevra.evr.epoch:
        entries[Tag.EPOCH] = int32s(nevra.evr.epoch)
    for tag, text in (
        (Tag.URL, spec.url),
        (Tag.VENDOR, spec.vendor),
        (Tag.DISTRIBUTION, spec.distribution),
        (Tag.PACKAGER, spec.packager),
    ):
        if text:
            entries[tag] = string(text)
    if spec.changelog:
        entries[Tag.CHANGELOG_TIME] = int32s(*(time for time, _, _ in spec.changelog))
        entries[Tag.CHANGELOG_NAME] = strings(*(author for _, author, _ in spec.changelog))
        entries[Tag.CHANGELOG_TEXT] = strings(*(text for _, _, text in spec.changelog))
    total = sum(entry.size for number, entry in enumerate(layout.files) if layout.first[number] == number)
    entries |= {Tag.LONG_SIZE: int64s(total)} if total > LARGE_FILE else {Tag.SIZE: int32s(total)}
    if layout.files:
        entries |= _file_entries(layout, digests, colours)
    entries |= _script_entries(spec)
    entries |= _trigger_entries(spec)
    entries |= _dependency_entries(spec, layout, accounts)
    return entries


def _file_entries(layout: Layout, digests: Mapping[str, str], colours: Mapping[str, int]) -> dict[int, Entry]:
    files = layout.files
    split = [entry.path.rpartition("/") for entry in files]
    directories = sorted(
        {parent + "/" for parent, _, _ in split}, key=lambda name: name.encode(errors="surrogateescape")
    )
    position = {name: number for number, name in enumerate(directories)}
    sizes = tuple(entry.size for entry in files)
    entries: dict[int, Entry] = {
        Tag.FILE_MODES: int16s(*(TYPE_BITS[entry.kind] | entry.mode for entry in files)),
        Tag.FILE_RDEVS: int16s(*(0 for _ in files)),
        Tag.FILE_MTIMES: int32s(*(entry.mtime for entry in files)),
        Tag.FILE_DIGESTS: strings(*(digests.get(entry.path, "") for entry in files)),
        Tag.FILE_LINKTOS: strings(*(entry.target for entry in files)),
        Tag.FILE_FLAGS: int32s(*(_file_bits(entry.flags) for entry in files)),
        Tag.FILE_USERNAMES: strings(*(entry.user for entry in files)),
        Tag.FILE_GROUPNAMES: strings(*(entry.group for entry in files)),
        Tag.FILE_VERIFY_FLAGS: int32s(
            *(VERIFY_GHOST if entry.flags & FileFlag.GHOST else VERIFY_ALL for entry in files)
        ),
        Tag.FILE_DEVICES: int32s(*(1 for _ in files)),
        Tag.FILE_INODES: int32s(*(first + 1 for first in layout.first)),
        Tag.FILE_LANGS: strings(*("" for _ in files)),
        Tag.DIR_INDEXES: int32s(*(position[parent + "/"] for parent, _, _ in split)),
        Tag.BASENAMES: strings(*(name for _, _, name in split)),
        Tag.DIRNAMES: strings(*directories),
        Tag.FILE_COLORS: int32s(*(colours.get(entry.path, 0) for entry in files)),
        Tag.FILE_DIGEST_ALGORITHM: int32s(HashAlgorithm.SHA256),
    }
    entries |= {Tag.LONG_FILE_SIZES: int64s(*sizes)} if layout.is_large else {Tag.FILE_SIZES: int32s(*sizes)}
    if any(entry.capabilities for entry in files):
        entries[Tag.FILE_CAPS] = strings(*(entry.capabilities for entry in files))
    return entries


@cache  # flags are few, and their arithmetic is slow
def _file_bits(flags: FileFlag) -> int:
    return sum(bit for flag, bit in FILE_BITS.items() if flags & flag)


def _script_entries(spec: PackageSpec) -> dict[int, Entry]:
    entries: dict[int, Entry] = {}
    for script in spec.scriptlets:
        if script.kind not in SCRIPTLETS:
            raise BadInput(f"scriptlet of unknown kind {script.kind!r}", where=str(spec.nevra))
        body, program, _ = SCRIPTLETS[script.kind]
        if body in entries:
            raise BadInput(f"two scriptlets of kind {script.kind}", where=str(spec.nevra))
        entries[body] = string(script.text)
        words = script.interpreter.split()
        entries[program] = strings(*words) if len(words) > 1 else string(script.interpreter)
    return entries


def _trigger_entries(spec: PackageSpec) -> dict[int, Entry]:
    families: dict[str, list[tuple[FileTrigger, Sense]]] = {}
    for trigger in spec.file_triggers:
        family, word, suffix = trigger.kind.partition("filetrigger")
        if family not in ("%", "%trans") or suffix not in _TRIGGER_SENSES or not trigger.prefixes:
            raise BadInput(f"file trigger of kind {trigger.kind!r} is not valid", where=str(spec.nevra))
        families.setdefault(family + word, []).append((trigger, _TRIGGER_SENSES[suffix]))
    entries: dict[int, Entry] = {}
    for family, triggers in families.items():
        body, program, name, version, flags, index, priorities = TRIGGER_TAGS[family]
        names = [(number, prefix, sense) for number, (one, sense) in enumerate(triggers) for prefix in one.prefixes]
        entries[body] = strings(*(trigger.text for trigger, _ in triggers))
        entries[program] = strings(*(trigger.interpreter for trigger, _ in triggers))
        entries[name] = strings(*(prefix for _, prefix, _ in names))
        entries[version] = strings(*("" for _ in names))
        entries[flags] = int32s(*(sense for _, _, sense in names))
        entries[index] = int32s(*(number for number, _, _ in names))
        entries[priorities] = int32s(*(trigger.priority for trigger, _ in triggers))
    return entries


def _dependency_entries(spec: PackageSpec, layout: Layout, accounts: Mapping[str, str]) -> dict[int, Entry]:
    evr = str(spec.nevra.evr)
    provides = parse_all(spec.provides)
    requires = parse_all(spec.requires)
    provides.add(Dependency(spec.nevra.name, Sense.EQUAL, evr))
    provides.add(Dependency(f"{SOURCE_PROVIDE}({spec.source.name})", Sense.EQUAL, str(spec.source.evr)))
    if spec.nevra.arch in _ISA:
        provides.add(Dependency(f"{spec.nevra.name}({_ISA[spec.nevra.arch]})", Sense.EQUAL, evr))
    if any(entry.flags & FileFlag.CONFIG for entry in layout.files):
        config = Dependency(f"config({spec.nevra.name})", Sense.EQUAL | Sense.CONFIG, evr)
        provides.add(config)
        requires.add(config)
    for path, text in accounts.items():
        if path in _ACCOUNT_FILES:
            provides |= account_provides(text)
        else:
            provides |= sysusers_provides(text)
            requires |= membership_requires(text)
    requires |= owner_requires({entry.user for entry in layout.files}, {entry.group for entry in layout.files})
    requires |= _interpreters(spec)
    others = {
        (Tag.CONFLICT_NAME, Tag.CONFLICT_VERSION, Tag.CONFLICT_FLAGS): parse_all(spec.conflicts),
        (Tag.OBSOLETE_NAME, Tag.OBSOLETE_VERSION, Tag.OBSOLETE_FLAGS): parse_all(spec.obsoletes),
        (Tag.RECOMMEND_NAME, Tag.RECOMMEND_VERSION, Tag.RECOMMEND_FLAGS): parse_all(spec.recommends),
        (Tag.SUGGEST_NAME, Tag.SUGGEST_VERSION, Tag.SUGGEST_FLAGS): parse_all(spec.suggests),
        (Tag.SUPPLEMENT_NAME, Tag.SUPPLEMENT_VERSION, Tag.SUPPLEMENT_FLAGS): parse_all(spec.supplements),
        (Tag.ENHANCE_NAME, Tag.ENHANCE_VERSION, Tag.ENHANCE_FLAGS): parse_all(spec.enhances),
    }
    requires |= _rpmlib(spec, layout, [*provides, *requires, *(one for group in others.values() for one in group)])
    groups = {
        (Tag.PROVIDE_NAME, Tag.PROVIDE_VERSION, Tag.PROVIDE_FLAGS): provides,
        (Tag.REQUIRE_NAME, Tag.REQUIRE_VERSION, Tag.REQUIRE_FLAGS): requires,
        **others,
    }
    entries: dict[int, Entry] = {}
    for (name, version, flags), dependencies in groups.items():
        ordered = sorted(dependencies, key=lambda one: (one.name, one.evr, one.sense))
        if ordered:
            entries[name] = strings(*(one.name for one in ordered))
            entries[version] = strings(*(one.evr for one in ordered))
            entries[flags] = int32s(*(one.sense for one in ordered))
    return entries


def _interpreters(spec: PackageSpec) -> set[Dependency]:
    senses: dict[str, Sense] = {}
    for script in spec.scriptlets:
        program = script.interpreter.split()[0]
        senses[program] = senses.get(program, Sense.INTERP) | SCRIPTLETS[script.kind][2]
    for trigger in spec.file_triggers:
        senses.setdefault(trigger.interpreter.split()[0], Sense.INTERP)
    return {Dependency(program, sense) for program, sense in senses.items() if program.startswith("/")}


def _rpmlib(spec: PackageSpec, layout: Layout, dependencies: Iterable[Dependency]) -> set[Dependency]:
    known = list(dependencies)
    own = f"{spec.nevra.evr.version}-{spec.nevra.evr.release}"
    versions = "".join([own, *(one.evr for one in known if not one.sense & Sense.FIND_PROVIDES)])
    wanted = {
        "PayloadIsZstd": ("5.4.18-1", True),
        "CompressedFileNames": ("3.0.4-1", bool(layout.files)),
        "PayloadFilesHavePrefix": ("4.0-1", bool(layout.files)),
        "FileDigests": ("4.6.0-1", bool(layout.files)),
        "PartialHardlinkSets": ("4.0.4-1", any(count > 1 for count in layout.links)),
        "FileCaps": ("4.6.1-1", any(entry.capabilities for entry in layout.files)),
        "LargeFiles": ("4.12.0-1", layout.is_large),
        "RichDependencies": ("4.12.0-1", any(one.is_rich for one in known)),
        "TildeInVersions": ("4.10.0-1", "~" in versions),
        "CaretInVersions": ("4.15.0-1", "^" in versions),
        "BuiltinLuaScripts": ("4.2.2-1", any(one.interpreter == "<lua>" for one in spec.scriptlets)),
        "ScriptletInterpreterArgs": ("4.0.3-1", any(" " in one.interpreter for one in spec.scriptlets)),
    }
    sense = Sense.RPMLIB | Sense.LESS | Sense.EQUAL
    return {Dependency(f"rpmlib({name})", sense, evr) for name, (evr, needed) in wanted.items() if needed}
