"""Small packages for tests: a demo spec with every kind of file, and keys that sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pysequoia

from bedplate.model.evr import Evr
from bedplate.model.package import FileEntry, FileFlag, FileKind, Nevra, SourceRef
from bedplate.packages.rpm.spec import Contents, PackageSpec
from bedplate.packages.rpm.writer import WrittenRpm, write_rpm

TIME = 1_700_000_000
ELF64 = b"\x7fELF\x02\x01\x01" + bytes(57)
TOOL = b"#!/bin/sh\necho hello\n" * 40

CONTENT: dict[str, bytes] = {
    "/etc/demo.conf": b"colour = blue\n",
    "/usr/bin/demo": TOOL,
    "/usr/bin/demo-elf": ELF64,
    "/usr/bin/demo-twin": TOOL,
    "/usr/lib/sysusers.d/demo.conf": b'u _demo - "Demo daemon" /var/lib/demo\nm _demo audio\n',
    "/usr/share/demo/empty": b"",
    "/usr/share/doc/demo/README": b"Read me.\n",
    "/usr/share/licenses/demo/COPYING": b"Do as you like.\n",
}


def regular(path: str, data: bytes, mode: int = 0o644, **more: object) -> FileEntry:
    """A regular file entry for ``data``."""
    return FileEntry(path, FileKind.FILE, mode, mtime=TIME, size=len(data), **more)  # type: ignore[arg-type]


def directory(path: str, mode: int = 0o755) -> FileEntry:
    """A directory entry."""
    return FileEntry(path, FileKind.DIRECTORY, mode, mtime=TIME)


def symlink(path: str, target: str) -> FileEntry:
    """A symbolic link entry."""
    return FileEntry(path, FileKind.SYMLINK, 0o777, mtime=TIME, target=target)


DEMO_FILES: tuple[FileEntry, ...] = (
    regular("/etc/demo.conf", CONTENT["/etc/demo.conf"], flags=FileFlag.CONFIG | FileFlag.NOREPLACE),
    regular("/usr/bin/demo", TOOL, 0o755, hardlink="/usr/bin/demo"),
    regular("/usr/bin/demo-twin", TOOL, 0o755, hardlink="/usr/bin/demo"),
    regular("/usr/bin/demo-elf", ELF64, 0o4754, group="_demo", capabilities="cap_net_admin=ep"),
    symlink("/usr/bin/demo-link", "demo"),
    directory("/usr/share/demo"),
    regular("/usr/share/demo/empty", b""),
    regular("/usr/share/doc/demo/README", CONTENT["/usr/share/doc/demo/README"], flags=FileFlag.DOC),
    regular("/usr/share/licenses/demo/COPYING", CONTENT["/usr/share/licenses/demo/COPYING"], flags=FileFlag.LICENSE),
    regular("/usr/lib/sysusers.d/demo.conf", CONTENT["/usr/lib/sysusers.d/demo.conf"]),
    regular("/var/log/demo.log", b"", flags=FileFlag.GHOST),
)


def demo_spec(**changes: object) -> PackageSpec:
    """The demo package, with ``changes`` to its fields."""
    fields: dict[str, object] = {
        "nevra": Nevra("demo", Evr(2, "1.2~rc1", "3"), "x86_64"),
        "source": SourceRef("demo-source", Evr(4, "1.2", "3")),
        "summary": "A demo",
        "description": "Long text,\nin two lines: <é> & more.",
        "license": "MIT",
        "url": "https://example.org/",
        "build_time": TIME,
        "requires": ("(foo >= 1-0 or bar)", "libc6 >= 2.38-0", "/bin/sh"),
        "provides": ("mail-agent", "virtual = 3:4-5"),
        "conflicts": ("old < 1:2",),
        "obsoletes": ("older <= 1",),
        "recommends": ("baz",),
        "suggests": ("quux",),
        "files": DEMO_FILES,
    }
    return PackageSpec(**{**fields, **changes})  # type: ignore[arg-type]


def contents_of(data: Mapping[str, bytes], piece: int = 1 << 16) -> Contents:
    """Contents from a dictionary, in pieces of ``piece`` bytes."""

    def contents(entry: FileEntry) -> Iterable[bytes]:
        whole = data[entry.path]
        return [whole[at : at + piece] for at in range(0, len(whole), piece)]

    return contents


def write_demo(out: Path, **changes: object) -> WrittenRpm:
    """Write the demo package."""
    return write_rpm(demo_spec(**changes), contents_of(CONTENT), out)


@dataclass(frozen=True)
class TestKey:
    """An OpenPGP key that signs, of any algorithm."""

    __test__ = False
    tsk: pysequoia.Tsk

    @classmethod
    def generate(cls, suite: pysequoia.CipherSuite = pysequoia.CipherSuite.Cv25519) -> TestKey:
        """A new key."""
        return cls(
            pysequoia.Tsk.generate(
                user_id="Test <test@example.org>", profile=pysequoia.Profile.RFC4880, cipher_suite=suite
            )
        )

    @property
    def certificate(self) -> bytes:
        """The public key, binary."""
        return bytes(self.tsk.extract_certificate())

    def sign(self, data: bytes) -> bytes:
        """A binary detached signature."""
        return bytes(pysequoia.sign(self.tsk.signer(), data, mode=pysequoia.SignatureMode.DETACHED, armor=False))
