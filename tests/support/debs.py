"""Debian packages made in the test, well-formed and hostile, without any Debian tool."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from bedplate.model.package import Location, UpstreamPackage

TIME = 1_700_000_000
RELATIONS = ("Depends", "Pre-Depends", "Breaks", "Conflicts", "Provides", "Recommends", "Suggests")
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor(level=1).compress,
}


@dataclass(frozen=True)
class Item:
    """One member of a payload, written as given, however wrong."""

    name: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    target: str = ""
    user: str = "root"
    group: str = "root"


def file(name: str, data: bytes = b"", mode: int = 0o644, **more: str) -> Item:
    """A regular file."""
    return Item(name, data, mode=mode, **more)  # type: ignore[arg-type]


def folder(name: str, mode: int = 0o755) -> Item:
    """A directory."""
    return Item(name, kind=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Item:
    """A symbolic link."""
    return Item(name, kind=tarfile.SYMTYPE, mode=0o777, target=target)


def hard(name: str, target: str) -> Item:
    """A hard link."""
    return Item(name, kind=tarfile.LNKTYPE, target=target)


def tar(items: Iterable[Item]) -> bytes:
    """A tar archive of ``items`` in GNU format, as dpkg-deb writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.mode, info.linkname, info.mtime = item.kind, item.mode, item.target, TIME
            info.uname, info.gname, info.size = item.user, item.group, len(item.data)
            archive.addfile(info, io.BytesIO(item.data))
    return out.getvalue()


def ar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An ar archive."""
    parts = [b"!<arch>\n"]
    for name, data in members:
        header = f"{name:<16}{TIME:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode()
        parts += [header, data, b"\n" * (len(data) & 1)]
    return b"".join(parts)


@dataclass(frozen=True)
class Deb:
    """A package to write. ``control`` adds to or replaces control fields, ``control_files`` are scripts and so on."""

    name: str = "demo"
    version: str = "1.2-3"
    arch: str = "amd64"
    control: Mapping[str, str] | None = None
    control_files: Mapping[str, bytes] | None = None
    items: tuple[Item, ...] = ()
    compression: str = ".xz"
    installed_kib: int = 100

    def fields(self) -> dict[str, str]:
        """The control fields."""
        return {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.arch,
            "Maintainer": "A Person <person@example.org>",
            "Installed-Size": str(self.installed_kib),
            "Description": "a demo\n It shows things.\n .\n And more.",
            **(self.control or {}),
        }

    def bytes(self) -> bytes:
        """The .deb."""
        stanza = "".join(f"{key}: {value}\n" for key, value in self.fields().items()).encode()
        files = {"control": stanza, **(self.control_files or {})}
        control = tar([folder("./"), *(file(f"./{name}", data, 0o755) for name, data in files.items())])
        compress = COMPRESSORS[self.compression]
        return ar(
            [
                ("debian-binary", b"2.0\n"),
                (f"control.tar{self.compression}", compress(control)),
                (f"data.tar{self.compression}", compress(tar([folder("./"), *self.items]))),
            ]
        )

    def write(self, directory: Path) -> tuple[UpstreamPackage, Path]:
        """The file, and the line an index would have of it."""
        data = self.bytes()
        path = directory / f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"
        path.write_bytes(data)
        return self.upstream(data), path

    def upstream(self, data: bytes = b"") -> UpstreamPackage:
        """The line an index would have of the package."""
        fields = self.fields()
        source, _, version = fields.get("Source", self.name).partition(" ")
        return UpstreamPackage(
            format="deb",
            name=self.name,
            version=self.version,
            arch=self.arch,
            source_name=source,
            source_version=version.strip("()") or self.version,
            location=Location("test", f"pool/{self.name}.deb", hashlib.sha256(data).hexdigest(), len(data)),
            suite="test",
            fields={key: (fields[key],) for key in RELATIONS if key in fields},
        )

    def having(self, *items: Item) -> Deb:
        """The same package with this payload."""
        return replace(self, items=items)
