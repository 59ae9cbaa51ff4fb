"""Looking at a finished image, and checking it: the parts are read where they lie, the engines say what they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from bedplate.compose import pcr
from bedplate.compose.erofs.format import BLOCK
from bedplate.compose.gpt import TYPE_ESP, TYPE_ROOT_X86_64, TYPE_ROOT_X86_64_VERITY
from bedplate.compose.result import file_digest
from bedplate.compose.verity import VeritySuperblock
from bedplate.flows.definition import read_definition
from bedplate.flows.disks import OpenDisk, kind_of, open_disk, unpacked
from bedplate.flows.filesystems import open_file_system
from bedplate.flows.images import FoundImage
from bedplate.flows.inspect_root import root_fact
from bedplate.flows.kernel_names import own_kernel_names
from bedplate.flows.locks import read_lock_file
from bedplate.flows.workspace import Workspace
from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput, Finding, Level
from bedplate.model.owners import OWNERS_NAME, parse_owners
from bedplate.model.pe import PeFile, parse_pe
from bedplate.trust.authenticode import signatures
from bedplate.trust.keys import KeyStore
from bedplate.verify.fat import FatFile
from bedplate.verify.findings import Demands, Purpose, check_image
from bedplate.verify.hashtree import check_tree
from bedplate.verify.inspection import (
    BesideFact,
    Inspection,
    PartitionFact,
    ProfileFact,
    ProgramFact,
    RootFact,
    SectionFact,
    SignatureFact,
    UkiFact,
    VerityFact,
    parse_os_release,
)
from bedplate.verify.policies import check_policies

_TYPES: dict[UUID, str] = {
    TYPE_ESP: "esp",
    TYPE_ROOT_X86_64: "root",
    TYPE_ROOT_X86_64_VERITY: "root-verity",
}
_ROOT_HASH = re.compile(r"(?:^|\s)roothash=(\S*)")

T = TypeVar("T")


@dataclass
class _Attempts:
    """Runs the parts of an inspection. Without ``findings`` the first damaged part ends it; with them it goes on."""

    findings: list[Finding] | None = None

    def part(self, name: str, look: Callable[[], T], otherwise: T) -> T:
        try:
            return look()
        except BadInput as error:
            if self.findings is None:
                raise
            self.findings.append(
                Finding(f"image.{name}.unreadable", Level.ERROR, error.message, error.where, error.remedy)
            )
            return otherwise


def inspect_image(found: FoundImage) -> Inspection:
    """Everything there is to see of an image.

    Raises:
        BadInput: it is no image, or a part of it is cut short or damaged.
    """
    return _inspect(found, _Attempts())


@dataclass(frozen=True)
class Verdict:
    """An image and what its checks found, errors first."""

    inspection: Inspection
    findings: list[Finding] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether there is no error."""
        return all(finding.level is not Level.ERROR for finding in self.findings)


def verify_image(
    workspace: Workspace, found: FoundImage, purpose: Purpose, signers: Collection[str] | None = None
) -> Verdict:
    """Check an image against itself, the files beside it, and the limits of its track in the workspace's definition.

    Args:
        signers: Fingerprints (hex SHA-256) of certificates whose signature is accepted; None: not compared.

    Raises:
        BadInput: it is no image at all, or its partition table is damaged. Other damage is a finding.
    """
    attempts = _Attempts([])
    inspection = _inspect(found, attempts)
    definition = read_definition(workspace)
    track = definition.tracks.get(inspection.track)
    demands = Demands(
        limits=track.limits if track is not None else None,
        boot_packages=track.boot_packages if track is not None else (),
        purpose=purpose,
        signers=signers,
        verity=track.root.verity if track is not None else True,
        made=own_kernel_names(definition.distro.id, track) if track is not None else (),
    )
    return Verdict(inspection, [*(attempts.findings or []), *check_image(inspection, demands)])


def _inspect(found: FoundImage, attempts: _Attempts) -> Inspection:
    path = found.disk
    kind = kind_of(path)
    base = Inspection(str(path), kind, path.stat().st_size)
    beside = attempts.part("beside", lambda: _beside(found), None)
    owners = attempts.part("owners", lambda: _owners(found), None)
    if kind == "uki":
        program = attempts.part("uki", lambda: _uki(path.read_bytes(), path.name), None)
        return replace(base, uki=program)
    if kind == "root":
        with open_file_system(path) as system:
            return replace(base, root=attempts.part("root", lambda: root_fact(system, owners), None))
    if kind == "qcow2":
        with unpacked(path) as plain, open_disk(plain) as disk:
            return replace(_disk(base, disk, owners, attempts), beside=beside)
    with open_disk(path) as disk:
        return replace(_disk(base, disk, owners, attempts), beside=beside)


def _disk(base: Inspection, disk: OpenDisk, owners: Mapping[str, str] | None, attempts: _Attempts) -> Inspection:
    no_files: list[FatFile] = []
    files = attempts.part("esp", lambda: disk.esp_files, no_files)
    loaders = [
        attempts.part("loader", lambda file=file: _program(disk.program(file), file.path)[0], None)  # type: ignore[misc]
        for file in (disk.loaders() if files else [])
    ]
    ukis = [
        attempts.part("uki", lambda file=file: _uki(disk.program(file), file.path), None)  # type: ignore[misc]
        for file in (disk.ukis() if files else [])
    ]
    uki = _booted(disk, [one for one in ukis if one is not None])
    root_hash = uki.root_hash if uki is not None else ""
    root, verity = disk.root(root_hash), disk.verity(root_hash)
    verity_fact: VerityFact | None = None
    seen_root: RootFact | None = None
    if root is not None and verity is not None:
        verity_fact = attempts.part("verity", lambda: _verity(disk, root_hash), None)
    if root is not None:

        def look() -> RootFact:
            with open_file_system(disk.path, root.start, root.size) as system:
                return root_fact(system, owners)

        seen_root = attempts.part("root", look, None)
    used: dict[int, int | None] = {}
    if files:
        esp = disk.first(TYPE_ESP)
        used[esp.start if esp else 0] = sum(file.size for file in files)
    if root is not None and seen_root is not None:
        used[root.start] = seen_root.bytes
    if verity is not None and verity_fact is not None:
        used[verity.start] = verity_fact.bytes
    partitions = tuple(
        PartitionFact(
            part.label,
            _TYPES.get(part.type, str(part.type)),
            str(part.uuid),
            part.start,
            part.size,
            disk.is_empty(part),
            used.get(part.start),
        )
        for part in disk.layout.partitions
    )
    return replace(
        base,
        partitions=partitions,
        disk_uuid=str(disk.layout.uuid),
        esp_files=tuple((file.path, file.size) for file in files if not file.directory),
        loaders=tuple(one for one in loaders if one is not None),
        uki=uki,
        verity=verity_fact,
        root=seen_root,
    )


def _booted(disk: OpenDisk, ukis: list[UkiFact]) -> UkiFact | None:
    """The UKI whose root lies on the disk; the last one by name where several or none do."""
    uuids = {part.uuid.hex for part in disk.layout.partitions}
    fitting = [uki for uki in ukis if uki.root_hash[:32] in uuids]
    chosen = fitting or ukis
    return chosen[-1] if chosen else None


def _program(data: bytes, where: str) -> tuple[ProgramFact, PeFile]:
    program = parse_pe(data, where)
    marks = tuple(
        SignatureFact(one.subject, one.fingerprint, "development" if one.development else "release", one.problem)
        for one in signatures(program)
    )
    return ProgramFact(where, len(data), sha256(data), sha256(program.unsigned()), marks), program


def _uki(data: bytes, where: str) -> UkiFact:
    fact, program = _program(data, where)
    sections: dict[str, bytes] = {}
    profiles: list[dict[str, bytes]] = []
    listed = []
    for section in program.sections:
        content = data[section.offset : section.offset + section.size]
        if section.name == ".profile":
            profiles.append({})
        here = profiles[-1] if profiles else sections
        if section.name in here:
            raise BadInput(f"section {section.name} is there twice", where=where, remedy="build the image again")
        here[section.name] = content
        listed.append(SectionFact(section.name, section.size, sha256(content)))
    if ".linux" not in sections:
        raise BadInput("an EFI program without a kernel, not a unified kernel image", where=where)
    values = pcr.expected({**sections, **profiles[0]} if profiles else sections)
    more = []
    for number, own in enumerate(profiles[1:], 1):
        profile = _profile(own, number)
        more.append(profile)
        expected = pcr.expected({**sections, **own})
        values.update((f"{phase}@{profile.id}", value) for phase, value in expected.items())
    policies = {phase: pcr.policy_digest(bytes.fromhex(value)) for phase, value in values.items()}
    command_line = program.text(".cmdline")
    named = _ROOT_HASH.findall(" ".join([command_line, *(one.command_line for one in more)]))
    if len(set(named)) > 1 or len(_ROOT_HASH.findall(command_line)) > 1:
        raise BadInput("the command line names two root hashes", where=where, remedy="build the image again")
    return UkiFact(
        program=fact,
        sections=tuple(listed),
        command_line=command_line,
        os_release=parse_os_release(program.text(".osrel")),
        kernel_version=program.text(".uname"),
        root_hash=named[0] if named else "",
        pcr=check_policies(sections.get(".pcrsig"), sections.get(".pcrpkey"), values, policies),
        profiles=tuple(more),
    )


def _profile(own: Mapping[str, bytes], number: int) -> ProfileFact:
    said = parse_os_release(own[".profile"].rstrip(b"\0").decode(errors="replace"))
    line = own.get(".cmdline", b"").rstrip(b"\0 \n").decode(errors="replace")
    return ProfileFact(said.get("ID", str(number)), said.get("TITLE", ""), line)


def _verity(disk: OpenDisk, root_hash: str) -> VerityFact:
    root, verity = disk.root(root_hash), disk.verity(root_hash)
    where = f"{disk.path}: verity partition"
    remedy = "build or fetch the image again"
    if root is None or verity is None:
        raise BadInput("no root or no verity partition", where=str(disk.path), remedy=remedy)
    try:
        superblock = VeritySuperblock.unpack(disk.read(verity, 0, 512))
    except BadInput as error:
        raise BadInput(error.message, where=where, remedy=remedy) from error
    if (superblock.algorithm, superblock.data_block_bytes, superblock.hash_block_bytes) != ("sha256", BLOCK, BLOCK):
        raise BadInput("only sha256 over blocks of 4096 bytes is known", where=where, remedy=remedy)
    if not 0 < superblock.data_blocks <= root.size // BLOCK:
        raise BadInput(
            f"the superblock speaks of {superblock.data_blocks} blocks, the root partition has {root.size // BLOCK}",
            where=where,
            remedy=remedy,
        )
    try:
        tree = check_tree(
            lambda at, length: disk.read(root, at, length),
            superblock.data_blocks,
            lambda at, length: disk.read(verity, at, length),
            bytes.fromhex(superblock.salt),
        )
    except ValueError as error:
        raise BadInput(str(error), where=where, remedy=remedy) from error
    return VerityFact(
        bytes=tree.hash_bytes,
        uuid=str(superblock.uuid),
        salt=superblock.salt,
        data_blocks=superblock.data_blocks,
        root_hash=tree.root_hash,
        stored_root_hash=tree.stored_root_hash,
        damaged_data=tree.bad_data_count,
        damaged_tree=tree.bad_tree_count,
        first_damaged=tree.bad_data,
    )


def _owners(found: FoundImage) -> dict[str, str] | None:
    path = found.disk.parent / OWNERS_NAME
    if found.build is None or not path.is_file():
        return None
    return {"/": "package:filesystem", **parse_owners(path.read_bytes(), str(path))}


def _beside(found: FoundImage) -> BesideFact | None:
    build = found.build
    if build is None and found.lock is None:
        return None
    locked = None
    if found.lock is not None:
        locked = {name: str(package.nevra.evr) for name, package in read_lock_file(found.lock).by_name().items()}
    if build is None:
        return BesideFact(locked)
    differing = []
    for artefact in build.artefacts:
        path = build.path(artefact.name)
        if path.is_file() and (path.stat().st_size != artefact.bytes or file_digest(path) != artefact.sha256):
            differing.append(artefact.name)
    return BesideFact(
        locked=locked,
        track=build.track,
        version=build.version,
        root_hash=build.root_hash,
        expected_pcr11=tuple(build.pcr11.values()),
        artefacts={artefact.name: artefact.sha256 for artefact in build.artefacts},
        differing=tuple(differing),
    )


def trusted_signers(workspace: Workspace, certificates: Sequence[Path]) -> set[str] | None:
    """Fingerprints of the certificates (PEM files) given, else of all boot keys of the workspace; None without any.

    Raises:
        BadInput: a file is not a certificate.
    """
    found = set()
    for path in certificates:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"not a certificate ({error})", where=str(path), remedy="name a PEM file") from error
        found.add(certificate.fingerprint(hashes.SHA256()).hex())
    if not certificates and workspace.keys.is_dir():
        store = KeyStore(workspace.keys)
        found = {info.fingerprint for info in store.list() if info.role == "boot"}
    return found or None
