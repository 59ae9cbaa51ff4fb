"""Files the distribution owns: ``distro/files/<set>/`` as they lie in the image, with ``<set>.toml`` beside them.

The directory holds files and symbolic links; the manifest gives what a checkout cannot hold: owners, modes other than
0644 and 0755, empty directories, absolute links, and which paths of packages the set takes over.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from bedplate.model.definition.base import Definition
from bedplate.model.definition.facts import Mode
from bedplate.model.digest import identity, sha256
from bedplate.model.errors import BadInput
from bedplate.model.package import FileEntry, FileKind


class SetManifest(Definition):
    """``distro/files/<set>.toml``."""

    description: str
    replaces: list[str] = Field(
        default=[],
        description="Patterns of package paths this set (or nothing) stands in for; no other overlap is allowed",
    )
    modes: dict[str, Mode] = Field(default={}, description="Path -> owner and mode, where not root and 0644 or 0755")
    directories: dict[str, Mode] = Field(default={}, description="Directories that must be there, empty ones too")
    links: dict[str, str] = Field(default={}, description="Symbolic links: path -> target")
    keyrings: dict[str, str] = Field(
        default={}, description="Path -> key role: the role's public OpenPGP keys, the one in use and the next one"
    )
    programs: dict[str, str] = Field(
        default={}, description="Path -> source file in distro/programs: programs of the distribution's own, compiled"
    )


@dataclass(frozen=True)
class OwnedSet:
    """One set, read. ``sources`` maps each file's path in the image to the file on disk."""

    name: str
    files: tuple[FileEntry, ...]
    replaces: tuple[str, ...] = ()
    sources: dict[str, Path] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """How a tree entry names this set."""
        return f"files:{self.name}"

    @property
    def digest(self) -> str:
        """Digest of every path, mode, owner, target and content of the set."""
        rows = [
            [f.path, f.kind.value, f.mode, f.user, f.group, f.size, f.sha256, f.target]
            for f in sorted(self.files, key=lambda f: f.path)
        ]
        return identity([self.name, rows, list(self.replaces)])


KeyringFile = Callable[[str], Path]
ProgramFile = Callable[[str], Path]


def _no_keyring(role: str) -> Path:
    raise BadInput(f"no keyring of the role {role!r} here")


def _no_program(source: str) -> Path:
    raise BadInput(f"no program made of {source!r} here")


def load_sets(
    folder: Path, names: list[str], keyring: KeyringFile = _no_keyring, program: ProgramFile = _no_program
) -> tuple[OwnedSet, ...]:
    """Read the named sets below ``distro/files``; ``keyring`` gives a file with the public keys of a role, ``program``
    the program a source file is compiled to.

    Raises:
        BadInput: a set that does not exist, a manifest with mistakes (all of one file at once), a special file.
    """
    return tuple(load_set(folder, name, keyring, program) for name in names)


def load_set(
    folder: Path, name: str, keyring: KeyringFile = _no_keyring, program: ProgramFile = _no_program
) -> OwnedSet:
    """Read one set; see :func:`load_sets`."""
    root, manifest_path = folder / name, folder / f"{name}.toml"
    if not manifest_path.is_file():
        raise BadInput(
            f"there is no set {name!r}",
            where=str(manifest_path),
            remedy="create it or take it out of the track's files",
        )
    manifest = _manifest(manifest_path)
    sources = dict(_walk(root)) if root.is_dir() else {}
    sources |= {path: keyring(role) for path, role in manifest.keyrings.items()}
    sources |= {path: program(source) for path, source in manifest.programs.items()}
    files = [_entry(path, source, manifest) for path, source in sources.items()]
    files += [
        FileEntry(path, FileKind.DIRECTORY, int(mode.mode, 8), mode.user, mode.group)
        for path, mode in manifest.directories.items()
    ]
    files += [FileEntry(path, FileKind.SYMLINK, 0o777, target=target) for path, target in manifest.links.items()]
    _check(files, manifest, str(manifest_path))
    contents = {f.path: sources[f.path] for f in files if f.kind is FileKind.FILE}
    return OwnedSet(name, tuple(sorted(files, key=lambda f: f.path)), tuple(manifest.replaces), contents)


def _manifest(path: Path) -> SetManifest:
    try:
        return SetManifest.model_validate(tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not valid TOML ({error})", where=str(path)) from error
    except ValidationError as error:
        details = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise BadInput("the set's manifest has mistakes", where=str(path), details=details) from error


def _walk(root: Path) -> list[tuple[str, Path]]:
    found = []
    for directory, folders, names in os.walk(root):
        here = Path(directory)
        links = [name for name in folders if (here / name).is_symlink()]
        found += [("/" + str((here / name).relative_to(root)), here / name) for name in (*names, *links)]
    return sorted(found)


def _entry(path: str, source: Path, manifest: SetManifest) -> FileEntry:
    if source.is_symlink():
        return FileEntry(path, FileKind.SYMLINK, 0o777, target=str(source.readlink()))
    if not source.is_file():
        raise BadInput("only files and symbolic links can be owned", where=str(source), remedy="remove it from the set")
    data = source.read_bytes()
    # Only the executable bit of a checkout means anything: umask and checkout tool decide the rest.
    plain = Mode(mode="0755" if source.stat().st_mode & 0o100 else "0644")
    mode = manifest.modes.get(path, plain)
    return FileEntry(path, FileKind.FILE, int(mode.mode, 8), mode.user, mode.group, size=len(data), sha256=sha256(data))


def _check(files: list[FileEntry], manifest: SetManifest, where: str) -> None:
    problems: list[str] = []
    seen: set[str] = set()
    for entry in files:
        if entry.path in seen:
            problems.append(f"{entry.path}: given twice")
        seen.add(entry.path)
        if not entry.path.startswith("/") or entry.path != os.path.normpath(entry.path):
            problems.append(f"{entry.path}: not an absolute, normal path")
    problems += [f"modes.{path}: the set holds no such file" for path in manifest.modes if path not in seen]
    if problems:
        raise BadInput("the set's manifest has mistakes", where=where, details=problems)
