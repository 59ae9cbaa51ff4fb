"""What a build leaves: artefacts, their digests and the values that belong to them, kept in ``build.json``."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bedplate.model.digest import canonical_json

RESULT_FILE = "build.json"
RESULT_FORMAT = 1
_PIECE = 1 << 20
_ZEROS = memoryview(bytes(_PIECE))


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file of a finished build: name below the build's directory, hex SHA-256, size in bytes, and its modification
    time (ns) as it was left, by which a later look sees whether it was touched."""

    name: str
    sha256: str
    bytes: int
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build.

    ``seconds`` are of each step; ``pcr11`` maps phase paths to hex values; ``layout`` are the disk's partitions (label,
    start, size in bytes); ``notes`` are the findings that did not stop it, in words. ``formats`` maps each further form
    that was made of the image to the digest of what it was made from.
    """

    directory: Path
    identity: str
    track: str
    version: str
    artefacts: tuple[Artefact, ...]
    root_hash: str
    command_line: str
    pcr11: Mapping[str, str]
    root_bytes: int
    uki_bytes: int
    package_count: int
    layout: tuple[tuple[str, int, int], ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reused: bool = False
    formats: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where the artefact ``name`` lies."""
        return self.directory / name

    def to_json(self) -> dict[str, Any]:
        """Plain data of everything, for ``--json`` and the file beside the artefacts."""
        return {**asdict(self), "directory": str(self.directory), "format": RESULT_FORMAT}


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file. Holes are hashed as the zeros they are, without being read: most of a disk is holes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        descriptor, end = stream.fileno(), path.stat().st_size
        position = 0
        while position < end:
            try:
                data = os.lseek(descriptor, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = end  # nothing but a hole up to the end
            while position < data:
                count = min(len(_ZEROS), data - position)
                digest.update(_ZEROS[:count])
                position += count
            hole = os.lseek(descriptor, position, os.SEEK_HOLE) if position < end else end
            os.lseek(descriptor, position, os.SEEK_SET)
            while position < hole:
                piece = os.read(descriptor, min(_PIECE, hole - position))
                if not piece:
                    return digest.hexdigest()  # cut short meanwhile; what is there has been hashed
                digest.update(piece)
                position += len(piece)
    return digest.hexdigest()


def describe(path: Path, sha256: str = "") -> Artefact:
    """The artefact a finished file is; its digest is computed unless given."""
    status = path.stat()
    return Artefact(path.name, sha256 or file_digest(path), status.st_size, status.st_mtime_ns)


def sync_file(path: Path) -> None:
    """Bring a file's bytes to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and bring it to the disk; for files in a directory that is renamed when it is complete."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_result(result: BuildResult) -> None:
    """Write ``build.json`` into the (not yet renamed) directory of ``result``."""
    write_durably(result.path(RESULT_FILE), canonical_json(result.to_json()) + b"\n")


def write_result_beside(result: BuildResult) -> None:
    """Put a new ``build.json`` in the place of the one in a finished build's directory; a reader sees one or the
    other."""
    new = result.directory / f".{RESULT_FILE}.{os.getpid()}"
    write_durably(new, canonical_json(result.to_json()) + b"\n")
    new.rename(result.path(RESULT_FILE))
    sync_directory(result.directory)


def read_result(directory: Path) -> BuildResult | None:
    """The finished build in ``directory``, None when there is none or it is of another format."""
    try:
        data = json.loads((directory / RESULT_FILE).read_bytes())
        if data.pop("format") != RESULT_FORMAT:
            return None
        data["directory"] = directory
        data["artefacts"] = tuple(Artefact(**artefact) for artefact in data["artefacts"])
        data["layout"] = tuple((str(n), int(s), int(z)) for n, s, z in data["layout"])
        data["notes"] = tuple(data["notes"])
        return BuildResult(**data)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def untouched(result: BuildResult) -> bool:
    """Whether every artefact still has the size and modification time it was left with."""
    for artefact in result.artefacts:
        try:
            status = result.path(artefact.name).stat()
        except OSError:
            return False
        if (status.st_size, status.st_mtime_ns) != (artefact.bytes, artefact.mtime_ns):
            return False
    return True
