"""Everything a build depends on, as one value with one digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from bedplate.compose.owned import OwnedSet
from bedplate.model.definition.distro import Distro
from bedplate.model.definition.facts import Ids, PackageFacts
from bedplate.model.definition.track import Track
from bedplate.model.digest import identity, sha256
from bedplate.model.package import PackageContent


@dataclass(frozen=True, slots=True)
class BootKeys:
    """What a build signs with: public parts that go into the image, and where the private ones are used.

    ``pcr_sign`` signs PCR policies (RSA PKCS#1 v1.5, SHA-256). ``sign_efi`` takes an unsigned EFI program's path and
    writes the signed one to the second path.
    """

    pcr_public_key: bytes
    boot_certificate: bytes
    pcr_sign: Callable[[bytes], bytes]
    sign_efi: Callable[[Path, Path], None]

    @property
    def public(self) -> list[str]:
        """Digests of the public parts."""
        return [sha256(self.pcr_public_key), sha256(self.boot_certificate)]


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """What one image is made from.

    ``packages`` are all locked packages, those of ``track.boot_packages`` too. ``version`` is the image's version.
    ``tools`` is the identity of the tools tree. ``package_database`` gives the database of the root's packages for a
    track that has one; it takes the paths of those packages that are not in the tree.
    """

    distro: Distro
    track: Track
    ids: Ids
    facts: Mapping[str, PackageFacts]
    sets: Sequence[OwnedSet]
    packages: Sequence[PackageContent]
    version: str
    keys: BootKeys
    tools: str
    package_database: Callable[[Sequence[str]], bytes] | None = None

    @property
    def identity(self) -> str:
        """Hex digest of everything the image's bytes depend on."""
        names = {package.nevra.name for package in self.packages}
        return identity(
            [
                "build",
                code_digest(),
                self.distro.model_dump(mode="json"),
                self.track.model_dump(mode="json"),
                self.ids.model_dump(mode="json"),
                [self.facts[name].model_dump(mode="json") for name in sorted(names & set(self.facts))],
                [owned.digest for owned in self.sets],
                sorted([str(package.nevra), package.digest] for package in self.packages),
                self.version,
                self.keys.public,
                self.tools,
            ]
        )


_NOT_THE_IMAGE = ("formats",)


@cache
def code_digest() -> str:
    """Digest of the compose engine's own files: another program may make other bytes. What gives a finished image
    another form counts by its own revisions."""
    rows: list[list[str]] = []

    def walk(folder: resources.abc.Traversable, prefix: str) -> None:
        for item in sorted(folder.iterdir(), key=lambda i: i.name):
            if item.is_dir() and prefix + item.name not in _NOT_THE_IMAGE and item.name != "__pycache__":
                walk(item, f"{prefix}{item.name}/")
            elif item.name.endswith((".py", ".sh")):
                rows.append([prefix + item.name, sha256(item.read_bytes())])

    walk(resources.files("bedplate.compose"), "")
    return identity(rows)
