"""What looking at a finished image gives: values for people, for programs, and for the checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bedplate.verify.contents import Contents
from bedplate.verify.policies import PcrPolicies

EMPTY_LABEL = "_empty"


@dataclass(frozen=True, slots=True)
class PartitionFact:
    """One partition. ``type`` is its name where it is known, else its UUID; sizes are in bytes. ``empty`` says that no
    byte of it is set; ``used`` is what its content takes, None where nothing says."""

    label: str
    type: str
    uuid: str
    start: int
    size: int
    empty: bool
    used: int | None = None


@dataclass(frozen=True, slots=True)
class SignatureFact:
    """One Secure Boot signature. ``mark`` is ``development`` or ``release``, as the certificate says of itself;
    ``problem`` is empty when the signature is good for the bytes. ``fingerprint`` is the certificate's SHA-256."""

    subject: str
    fingerprint: str
    mark: str
    problem: str = ""

    @property
    def valid(self) -> bool:
        """Whether the signature is good for the bytes and the certificate in it."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class ProgramFact:
    """An EFI program on the ESP. ``unsigned_sha256`` is of the program as if it had never been signed."""

    path: str
    size: int
    sha256: str
    unsigned_sha256: str
    signatures: tuple[SignatureFact, ...]


@dataclass(frozen=True, slots=True)
class SectionFact:
    """A section of a unified kernel image."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ProfileFact:
    """A further entry of a unified kernel image: its command line is the whole one, empty where it has none of its
    own."""

    id: str
    title: str
    command_line: str


@dataclass(frozen=True, slots=True)
class UkiFact:
    """A unified kernel image. ``root_hash`` is the one in its command line, empty without one. ``command_line`` is that
    of the first entry, ``profiles`` are the others; phases of theirs end with ``@ID`` in ``pcr``."""

    program: ProgramFact
    sections: tuple[SectionFact, ...]
    command_line: str
    os_release: Mapping[str, str]
    kernel_version: str
    root_hash: str
    pcr: PcrPolicies
    profiles: tuple[ProfileFact, ...] = ()

    def section_bytes(self, name: str) -> int:
        """Size of a section, 0 without it."""
        return sum(section.size for section in self.sections if section.name == name)


@dataclass(frozen=True, slots=True)
class VerityFact:
    """The hash data of the root. ``root_hash`` is recomputed from the root's data, ``stored_root_hash`` from the stored
    tree. ``damaged_data`` and ``damaged_tree`` count blocks of 4096 bytes that do not have the digest stored for them,
    ``first_damaged`` names the first of the root's."""

    bytes: int
    uuid: str
    salt: str
    data_blocks: int
    root_hash: str
    stored_root_hash: str
    damaged_data: int = 0
    damaged_tree: int = 0
    first_damaged: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PackageFact:
    """A package of the image: EVR and architecture, and name and EVR of its source package."""

    name: str
    evr: str
    arch: str
    source: str
    source_evr: str = ""


@dataclass(frozen=True, slots=True)
class RootFact:
    """The root file system. ``bytes`` is the size of its image. ``packages_problem`` says why the list of packages
    cannot be read, empty when it can."""

    bytes: int
    uuid: str
    os_release: Mapping[str, str]
    packages: tuple[PackageFact, ...]
    contents: Contents
    packages_problem: str = ""


@dataclass(frozen=True, slots=True)
class BesideFact:
    """What lies beside the image: names of packages and their EVR by the lock, the manifest's word on the image.

    ``artefacts`` maps the manifest's roles to SHA-256; ``differing`` names artefact files that are not what it says.
    """

    locked: Mapping[str, str] | None = None
    track: str = ""
    version: str = ""
    root_hash: str = ""
    expected_pcr11: tuple[str, ...] = ()
    artefacts: Mapping[str, str] = field(default_factory=dict)
    differing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """A finished image: a ``disk``, or only a ``uki`` or a ``root``. What it does not have is None or empty."""

    image: str
    kind: str
    size: int
    partitions: tuple[PartitionFact, ...] = ()
    disk_uuid: str = ""
    esp_files: tuple[tuple[str, int], ...] = ()
    loaders: tuple[ProgramFact, ...] = ()
    uki: UkiFact | None = None
    verity: VerityFact | None = None
    root: RootFact | None = None
    beside: BesideFact | None = None

    @property
    def os_release(self) -> Mapping[str, str]:
        """os-release of the UKI, else of the root; that of a UKI which belongs to no single image comes last."""
        if self.uki is not None and ("BUILD_ID" in self.uki.os_release or self.root is None):
            return self.uki.os_release
        return self.root.os_release if self.root is not None else {}

    @property
    def track(self) -> str:
        """The track the image says it is of."""
        return self.os_release.get("VARIANT_ID", "")

    @property
    def version(self) -> str:
        """The image's version."""
        return self.os_release.get("IMAGE_VERSION", "")

    @property
    def root_hash(self) -> str:
        """The root hash in the UKI's command line, empty without one."""
        return self.uki.root_hash if self.uki is not None else ""

    def to_json(self) -> dict[str, Any]:
        """Plain data: the short fields other programs build on first, then everything in full."""
        contents = self.root.contents if self.root is not None else None
        body = asdict(self)
        root, uki = body["root"], body["uki"]
        packages = root.pop("packages") if root is not None else []
        return {
            "image": self.image,
            "kind": self.kind,
            "size": self.size,
            "track": self.track,
            "version": self.version,
            "os_release": dict(self.os_release),
            "root_hash": self.root_hash,
            "command_line": self.uki.command_line if self.uki is not None else "",
            "root_bytes": self.root.bytes if self.root is not None else 0,
            "uki_bytes": self.uki.program.size if self.uki is not None else 0,
            "initrd_bytes": self.uki.section_bytes(".initrd") if self.uki is not None else 0,
            "kernel_bytes": self.uki.section_bytes(".linux") if self.uki is not None else 0,
            "verity_bytes": self.verity.bytes if self.verity is not None else 0,
            "packages": packages,
            "setid": [entry.path for entry in contents.setid] if contents else [],
            "capabilities": [entry.path for entry in contents.capabilities] if contents else [],
            "world_writable": list(contents.world_writable) if contents else [],
            "interpreters": [entry.path for entry in contents.interpreters] if contents else [],
            "unowned": len(contents.unowned) if contents and contents.unowned is not None else None,
            "expected_pcr11": [phase.value for phase in self.uki.pcr.phases] if self.uki is not None else [],
            "development": self.development,
            "disk_uuid": self.disk_uuid,
            "partitions": body["partitions"],
            "esp_files": [{"path": path, "size": size} for path, size in self.esp_files],
            "loaders": body["loaders"],
            "uki": uki,
            "verity": body["verity"],
            "root": root,
            "beside": body["beside"],
        }

    @property
    def development(self) -> bool | None:
        """Whether any program is signed with a development mark; None when nothing is signed."""
        programs = [*self.loaders, *([self.uki.program] if self.uki is not None else [])]
        marks = {signature.mark for program in programs for signature in program.signatures}
        return "development" in marks if marks else None


def parse_os_release(text: str) -> dict[str, str]:
    """The fields of an os-release file (os-release(5)); lines that are none are passed over."""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or not name.replace("_", "").isalnum():
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            quote, value = value[0], value[1:-1]
            if quote == '"':
                for escaped in '"$`\\':
                    value = value.replace("\\" + escaped, escaped)
        fields[name] = value
    return fields
