"""Write an rpm-md repository: plain metadata that dnf, zypper and libsolv read; same packages, same bytes.

``repodata`` is a symbolic link to a directory named by its content: it changes from one whole state to the next in
one rename, and whoever reads the old one meanwhile still finds it. What a package contributes is cached under its
digest, so a package that did not change is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from xml.sax.saxutils import quoteattr

import pysequoia

from bedplate.model.digest import identity
from bedplate.model.errors import BadInput, BedplateError
from bedplate.packages.atomic import caching, replacing
from bedplate.packages.rpm.metadata import METADATA_VERSION, PackageMetadata, describe
from bedplate.packages.rpm.reader import RpmPackage

_LEVEL = 6
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_COMMON = 'xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"'
_ROOTS = {
    "primary": f"metadata {_COMMON}",
    "filelists": 'filelists xmlns="http://linux.duke.edu/metadata/filelists"',
    "other": 'otherdata xmlns="http://linux.duke.edu/metadata/other"',
}
_KEPT_STATES = 2


class Signer(Protocol):
    """Something that holds an OpenPGP key."""

    def sign(self, data: bytes) -> bytes:
        """A binary detached OpenPGP signature of ``data``."""
        ...


@dataclass(frozen=True, slots=True)
class RepositoryPackage:
    """A package of the repository: where its file lies, its path below the repository, and the hex SHA-256 of the file
    as served (empty: it is read to find out)."""

    path: Path
    location: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Repository:
    """What was written. ``repomd_sha256`` names the state of the whole repository."""

    directory: Path
    repomd_sha256: str
    packages: int
    described: int
    """How many packages had to be read; the others came from the cache."""


def write_repository(
    directory: Path,
    packages: Sequence[RepositoryPackage],
    *,
    revision: int,
    cache: Path,
    signer: Signer | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> Repository:
    """Write ``directory/repodata`` for ``packages``, which lie (or will be served) below ``directory``.

    Args:
        revision: Seconds since the epoch; the repository's revision and the time of its files.
        cache: Directory for what each package contributes; may be shared by processes.
        signer: Signs ``repomd.xml`` into ``repomd.xml.asc``; None leaves it unsigned.
        extra: Further metadata by type, for instance ``{"updateinfo": xml}``.

    Raises:
        BadInput: a package is damaged, a location leads out of the repository, or two packages have one location.
        BedplateError: the directory cannot be written.
    """
    _check_locations(packages)
    described = 0
    parts = []
    for package in packages:
        sha256 = package.sha256 or _file_sha256(package.path)
        metadata, is_new = _describe_cached(package, sha256, cache)
        described += is_new
        parts.append((package.location, metadata))
    parts.sort(key=lambda part: part[0])
    files: dict[str, bytes] = {}
    records = []
    for kind in ("primary", "filelists", "other"):
        body = "".join(getattr(metadata, kind) for _, metadata in parts)
        root = _ROOTS[kind]
        text = f'{_XML}<{root} packages="{len(parts)}">\n{body}</{root.split()[0]}>\n'
        records.append(_record(kind, text.encode(), revision, files))
    records += [_record(kind, data, revision, files) for kind, data in sorted((extra or {}).items())]
    repomd = (
        f'{_XML}<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">\n'
        f"  <revision>{revision}</revision>\n{''.join(records)}</repomd>\n"
    ).encode()
    files["repomd.xml"] = repomd
    if signer is not None:
        armour = pysequoia.armor(signer.sign(repomd), pysequoia.ArmorKind.Signature)
        files["repomd.xml.asc"] = str(armour).encode()
    _publish(directory, files)
    return Repository(directory, hashlib.sha256(repomd).hexdigest(), len(parts), described)


def _check_locations(packages: Sequence[RepositoryPackage]) -> None:
    seen: set[str] = set()
    for package in packages:
        location = PurePosixPath(package.location)
        if location.is_absolute() or ".." in location.parts or str(location) != package.location:
            raise BadInput("a package must lie below its repository", where=package.location)
        if package.location in seen:
            raise BadInput("two packages have one location", where=package.location)
        seen.add(package.location)


def _describe_cached(package: RepositoryPackage, sha256: str, cache: Path) -> tuple[PackageMetadata, bool]:
    key = identity({"sha256": sha256, "location": package.location, "version": METADATA_VERSION})
    entry = cache / key[:2] / f"{key}.json"
    try:
        return PackageMetadata(**json.loads(zlib.decompress(entry.read_bytes()))), False
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, zlib.error):
        # A damaged entry is as good as none.
        entry.unlink(missing_ok=True)
    metadata = describe(RpmPackage.open(package.path), sha256, package.location)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with caching(entry) as stream:
        stream.write(zlib.compress(json.dumps(asdict(metadata)).encode(), 1))
    return metadata, True


def _record(kind: str, data: bytes, revision: int, files: dict[str, bytes]) -> str:
    # zlib's own gzip wrapper: no file name and no time in it.
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    packed = packer.compress(data) + packer.flush()
    digest = hashlib.sha256(packed).hexdigest()
    name = f"{digest}-{kind}.xml.gz"
    files[name] = packed
    return (
        f"  <data type={quoteattr(kind)}>\n"
        f'    <checksum type="sha256">{digest}</checksum>\n'
        f'    <open-checksum type="sha256">{hashlib.sha256(data).hexdigest()}</open-checksum>\n'
        f'    <location href="repodata/{name}"/>\n'
        f"    <timestamp>{revision}</timestamp>\n"
        f"    <size>{len(packed)}</size>\n"
        f"    <open-size>{len(data)}</open-size>\n"
        f"  </data>\n"
    )


def _publish(directory: Path, files: Mapping[str, bytes]) -> None:
    names = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    state = directory / f".repodata-{identity(names)[:32]}"
    link = directory / "repodata"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not state.is_dir():
            _write_state(state, files)
        if not link.is_symlink() and link.is_dir():
            # Written by another tool: give way to ours, which is complete.
            link.rename(Path(tempfile.mkdtemp(prefix=".repodata-old-", dir=directory)) / "repodata")
        fresh = directory / f".repodata.{os.getpid()}.{state.name[-8:]}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(state.name)
        fresh.replace(link)
        _forget_old(directory, state)
    except OSError as error:
        raise BedplateError(
            f"cannot write the repository ({error.strerror})",
            where=str(directory),
            remedy="free some space or give another directory; the repository is as it was",
        ) from error


def _write_state(state: Path, files: Mapping[str, bytes]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=".repodata.", dir=state.parent))
    try:
        for name, data in files.items():
            with replacing(temporary / name) as stream:
                stream.write(data)
        temporary.chmod(0o755)
        try:
            temporary.rename(state)
        except OSError:
            if not state.is_dir():
                raise
            # Another process wrote the same state.
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _forget_old(directory: Path, current: Path) -> None:
    """Keep the current state and the one before it, for those who are reading it."""
    states = sorted(directory.glob(".repodata-*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in [path for path in states if path != current][_KEPT_STATES - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BedplateError(f"cannot read ({error.strerror})", where=str(path)) from error
