"""A Debian binary package, opened: control data at once, payload as one bounded pass.

Everything in the file is hostile until read: names, sizes, links and kinds are checked here and nowhere else, and
nothing is ever unpacked to disk. Sources: deb(5), deb-control(5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bedplate.model.package import FileEntry, FileKind, Script
from bedplate.packages.deb import control, paths
from bedplate.packages.deb.container import Member, MemberStream, bad_package, read_members
from bedplate.packages.deb.limits import DEFAULT_LIMITS, Limits
from bedplate.packages.deb.tar import TarMember, TarReader


@dataclass(frozen=True)
class DebPackage:
    """One .deb.

    ``fields`` are the control fields as written. ``control_files`` holds every control member's bytes by name
    (``triggers``, ``shlibs`` …). ``conffiles`` are canonical paths, ``scripts`` the maintainer scripts.
    """

    path: Path
    where: str
    fields: Mapping[str, str]
    conffiles: tuple[str, ...]
    scripts: tuple[Script, ...]
    control_files: Mapping[str, bytes]
    limits: Limits
    _data: Member

    @classmethod
    def open(cls, path: Path, *, where: str = "", limits: Limits = DEFAULT_LIMITS) -> DebPackage:
        """Read the container and the control data of the file at ``path``.

        Args:
            where: What errors call the package; the file's name when empty.

        Raises:
            BadInput: anything that is not a well-formed package; it names the package and the reason.
        """
        where = where or path.name
        with path.open("rb") as stream:
            control_member, data = read_members(stream, path.stat().st_size, where)
            tar = MemberStream(stream, control_member, limit=limits.control, memory=limits.decoder_memory, where=where)
            files = dict(_control_files(TarReader(tar, limits, where), limits, where))
        if "control" not in files:
            raise bad_package(where, "it has no control file")
        conffiles = control.parse_conffiles(files.get("conffiles", b""), where)
        return cls(
            path=path,
            where=where,
            fields=control.parse_fields(files["control"], where),
            conffiles=tuple(paths.canonical(name[1:], limits.path, where) for name in conffiles),
            scripts=control.parse_scripts(files),
            control_files=files,
            limits=limits,
            _data=data,
        )

    @property
    def installed_kib(self) -> int:
        """``Installed-Size`` in KiB, 0 when the package does not say."""
        text = self.fields.get("Installed-Size", "")
        return int(text) if text.isdigit() else 0

    def payload(self) -> Iterator[tuple[FileEntry, bytes]]:
        """Yield every path but the root with its content, in the package's own order, decompressing once.

        Paths are canonical; a hard link after the first has ``hardlink`` set to the first link's path, that path's
        ``sha256`` and ``size``, and no content of its own. Aliases of the merged /usr packaged as links (``/bin``)
        are left out: ``filesystem`` owns them.

        Raises:
            BadInput: hostile or damaged content, named with the package and the path.
        """
        with self.path.open("rb") as stream:
            tar = MemberStream(
                stream,
                self._data,
                limit=self.limits.payload_for(self.installed_kib),
                memory=self.limits.decoder_memory,
                where=self.where,
            )
            yield from _Payload(self.where, self.limits).entries(TarReader(tar, self.limits, self.where))


def _control_files(reader: TarReader, limits: Limits, where: str) -> Iterator[tuple[str, bytes]]:
    seen = set()
    for member in reader:
        name = paths.canonical(member.name, limits.path, where)
        if member.kind == "directory" and name == "/":
            continue
        if member.kind != "file" or name.count("/") != 1 or name in seen:
            raise bad_package(where, f"its control data holds {member.name!r}")
        if len(member.data) > limits.control_file:
            raise bad_package(where, f"its control file {member.name!r} is too large")
        seen.add(name)
        yield name[1:], member.data


class _Payload:
    """Turns archive members into entries, holding what has been seen so far."""

    def __init__(self, where: str, limits: Limits) -> None:
        self._where = where
        self._limits = limits
        self._seen: dict[str, FileEntry] = {}

    def entries(self, reader: TarReader) -> Iterator[tuple[FileEntry, bytes]]:
        for member in reader:
            path = paths.canonical(member.name, self._limits.path, self._where)
            if path == "/" or self._is_alias(path, member):
                continue
            entry = self._entry(path, member)
            if entry is not None:
                self._seen[path] = entry
                yield entry, member.data

    def _is_alias(self, path: str, member: TarMember) -> bool:
        expected = paths.ALIASES.get(path[1:])
        if expected is None:
            return False
        if member.kind == "symlink":
            if member.target.strip("/") != expected:
                raise self._bad(f"{path} links to {member.target!r}, not to {expected!r}")
            return True
        if member.kind != "directory":
            raise self._bad(f"{path} is neither a directory nor the link to {expected}")
        return True

    def _entry(self, path: str, member: TarMember) -> FileEntry | None:
        if path in self._seen:
            if member.kind == "directory" and self._seen[path].kind is FileKind.DIRECTORY:
                return None  # one directory under two names, /lib/x and /usr/lib/x
            raise self._bad(f"it has {path} twice")
        self._check_parents(path)
        if member.kind == "hardlink":
            return self._hardlink(path, member)
        mode = 0o777 if member.kind == "symlink" else member.mode
        if member.kind == "symlink":
            paths.check_link(path, member.target, self._where)
        is_file = member.kind == "file"
        return FileEntry(
            path=path,
            kind=FileKind(member.kind),
            mode=mode,
            user=member.user,
            group=member.group,
            mtime=member.mtime,
            size=len(member.data) if is_file else 0,
            sha256=hashlib.sha256(member.data).hexdigest() if is_file else "",
            target=member.target if member.kind == "symlink" else "",
        )

    def _hardlink(self, path: str, member: TarMember) -> FileEntry:
        target = paths.canonical(member.target, self._limits.path, self._where)
        first = self._seen.get(target)
        if first is None or first.kind is not FileKind.FILE:
            raise self._bad(f"the hard link {path} -> {member.target} names no earlier file of the package")
        return FileEntry(
            path=path,
            kind=FileKind.FILE,
            mode=first.mode,
            user=first.user,
            group=first.group,
            mtime=first.mtime,
            size=first.size,
            sha256=first.sha256,
            hardlink=first.hardlink or first.path,
        )

    def _check_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while parent:
            found = self._seen.get(parent)
            if found is not None:
                if found.kind is not FileKind.DIRECTORY:
                    raise self._bad(f"{path} lies below {parent}, which is no directory")
                return  # its own parents were checked when it came
            parent = parent.rpartition("/")[0]

    def _bad(self, reason: str) -> Exception:
        return bad_package(self._where, reason)
