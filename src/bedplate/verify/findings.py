"""The checks of a finished image: what was found held against what it must be. Pure.

Every check is a small function that yields findings; ids are stable. An image that was not wholly there (a UKI alone, a
root alone) is checked as far as it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from bedplate.model.definition.track import Limits
from bedplate.model.errors import Finding, Level
from bedplate.verify.inspection import EMPTY_LABEL, Inspection, ProgramFact

_MIB = 1 << 20
_REBUILD = "build the image again, and do not use this one"


class Purpose(Enum):
    """What an image is checked for."""

    DEVELOPMENT = "a development image may be signed with development keys"
    RELEASE = "a release may not"


@dataclass(frozen=True, slots=True)
class Demands:
    """What an image is held against.

    ``limits`` are its track's, None when the definition has no such track. ``boot_packages`` are locked with the track
    but not in its root. ``signers`` are fingerprints (hex SHA-256 of the certificate) of the keys that may sign, None
    when the caller has none to compare with. ``verity`` says that the root must be verified block by block; a root hash
    that is named must hold in any case. ``made`` are packages that the build itself made beside those of the lock.
    """

    limits: Limits | None
    boot_packages: Collection[str] = ()
    purpose: Purpose = Purpose.DEVELOPMENT
    signers: Collection[str] | None = None
    verity: bool = True
    made: Collection[str] = ()


Check = Callable[[Inspection, Demands], Iterator[Finding]]


def check_image(image: Inspection, demands: Demands) -> list[Finding]:
    """All findings of an image, errors first."""
    order = list(Level)
    found = [finding for check in CHECKS for finding in check(image, demands)]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _root_hash(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if image.uki is None:
        return
    if not demands.verity and not image.root_hash:
        return
    where = image.uki.program.path
    if len(image.root_hash) != 64 or not set(image.root_hash) <= set("0123456789abcdef"):
        cause = f"roothash={image.root_hash} is not one" if image.root_hash else "the command line names no root hash"
        yield Finding("image.roothash.missing", Level.ERROR, cause, where, _REBUILD)
        return
    if image.kind != "disk":
        return
    wanted = {"root": image.root_hash[:32], "verity": image.root_hash[-32:]}
    for what, half in wanted.items():
        kind = "root" if what == "root" else "root-verity"
        uuids = [part.uuid.replace("-", "") for part in image.partitions if part.type == kind]
        if half not in uuids:
            cause = f"no {what} partition has the UUID that the root hash asks for ({half})"
            yield Finding("image.roothash.partition", Level.ERROR, cause, where, _REBUILD)


def _verity(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if image.kind != "disk":
        return
    verity = image.verity
    if verity is None:
        if not demands.verity and not image.root_hash:
            return
        yield Finding("image.verity.missing", Level.ERROR, "the disk has no verity data", image.image, _REBUILD)
        return
    if verity.damaged_data:
        blocks = ", ".join(map(str, verity.first_damaged))
        cause = f"{verity.damaged_data} blocks of the root are not what the hash tree says: {blocks}"
        yield Finding("image.verity.data", Level.ERROR, cause, "root partition", _REBUILD)
    if verity.damaged_tree:
        cause = f"{verity.damaged_tree} blocks of the hash tree contradict the ones above them"
        yield Finding("image.verity.tree", Level.ERROR, cause, "verity partition", _REBUILD)
    if not image.root_hash:
        return
    if verity.stored_root_hash != image.root_hash:
        cause = f"the hash tree leads to {verity.stored_root_hash}, the UKI names {image.root_hash}"
        yield Finding("image.verity.roothash", Level.ERROR, cause, "verity partition", _REBUILD)
    if verity.root_hash != image.root_hash:
        cause = f"the root's data have the root hash {verity.root_hash}, the UKI names {image.root_hash}"
        yield Finding("image.verity.mismatch", Level.ERROR, cause, "root partition", _REBUILD)


def _signatures(image: Inspection, demands: Demands) -> Iterator[Finding]:
    programs = [*image.loaders, *([image.uki.program] if image.uki is not None else [])]
    for program in programs:
        yield from _program_signatures(program, demands)
    if image.kind == "disk" and not image.loaders:
        yield Finding("image.loader.missing", Level.ERROR, "the ESP has no boot loader", "EFI/BOOT", _REBUILD)
    if image.kind == "disk" and image.uki is None:
        yield Finding("image.uki.missing", Level.ERROR, "the ESP has no unified kernel image", "EFI/Linux", _REBUILD)


def _program_signatures(program: ProgramFact, demands: Demands) -> Iterator[Finding]:
    if not program.signatures:
        remedy = "sign it, or firmware with Secure Boot refuses it"
        yield Finding("image.signature.missing", Level.ERROR, "not signed", program.path, remedy)
    for signature in program.signatures:
        if not signature.valid:
            cause = f"a signature does not hold: {signature.problem}"
            yield Finding("image.signature.invalid", Level.ERROR, cause, program.path, _REBUILD)
            continue
        if signature.mark == "development":
            level = Level.ERROR if demands.purpose is Purpose.RELEASE else Level.WARNING
            cause = f"signed by a development key: {signature.subject}"
            remedy = "never publish it; a release is signed by a key made with: bedplate keys create boot --release"
            yield Finding("image.signature.development", level, cause, program.path, remedy)
        who = f"{signature.subject}, certificate {signature.fingerprint}"
        if demands.signers is None:
            cause = f"nothing to compare the signer with: {who}"
            remedy = "name the certificate you trust with --certificate"
            yield Finding("image.signature.signer", Level.UNKNOWN, cause, program.path, remedy)
        elif signature.fingerprint not in demands.signers:
            cause = f"signed by someone else: {who}"
            remedy = "compare with: bedplate keys list; or name the certificate you trust with --certificate"
            yield Finding("image.signature.foreign", Level.ERROR, cause, program.path, remedy)


def _pcr(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if image.uki is None:
        return
    where, pcr = image.uki.program.path, image.uki.pcr
    if not pcr.present:
        cause = "no signed PCR policy: secrets cannot be bound to this image's signer"
        yield Finding("image.pcr.missing", Level.ERROR, cause, where, _REBUILD)
        return
    if pcr.problem:
        yield Finding("image.pcr.signature", Level.ERROR, pcr.problem, where, _REBUILD)
    lacking = [phase.phase or "(start)" for phase in pcr.phases if not phase.signed]
    if lacking:
        cause = f"no signature for PCR 11 in phase {', '.join(lacking)}"
        yield Finding("image.pcr.mismatch", Level.ERROR, cause, where, _REBUILD)
    if pcr.foreign:
        cause = f"{pcr.foreign} signed policies are for values this image does not lead to"
        yield Finding("image.pcr.foreign", Level.WARNING, cause, where, _REBUILD)


def _identity(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if image.uki is None or image.root is None:
        return
    # A kernel image that came as a package belongs to the track: it names neither a version of the image nor a build.
    of_the_image = ("IMAGE_VERSION", "BUILD_ID") if "BUILD_ID" in image.uki.os_release else ()
    for key in ("ID", "VARIANT_ID", "IMAGE_ID", *of_the_image):
        kernel, root = image.uki.os_release.get(key, ""), image.root.os_release.get(key, "")
        if kernel != root:
            cause = f"{key} is {kernel!r} in the UKI and {root!r} in the root"
            yield Finding("image.osrelease.differs", Level.ERROR, cause, image.uki.program.path, _REBUILD)


def _packages(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if image.root is None:
        return
    if image.root.packages_problem:
        where = "/usr/share/bedplate/packages.json"
        yield Finding("image.packages.unreadable", Level.ERROR, image.root.packages_problem, where, _REBUILD)
        return
    inside = {package.name: package.evr for package in image.root.packages}
    if demands.limits is not None and len(inside) > demands.limits.packages:
        cause = f"{len(inside)} packages, at most {demands.limits.packages} are allowed"
        yield Finding("image.size.packages", Level.ERROR, cause, "limits.packages", "take packages out of the track")
    if image.beside is None or image.beside.locked is None:
        return
    remedy = "the lock is not this image's, or the image's list is wrong: bedplate verify rebuild"
    for name in sorted(image.beside.locked.keys() - inside.keys() - set(demands.boot_packages)):
        cause = f"the lock beside the image has {name}, the image's list hides it"
        if demands.limits is not None:
            yield Finding("image.packages.lock", Level.ERROR, cause, "lock.toml", remedy)
    for name, evr in sorted(inside.items()):
        locked = image.beside.locked.get(name)
        if locked != evr and name not in demands.made:
            cause = f"the image says {name} {evr}, the lock beside it " + (f"{locked}" if locked else "lacks it")
            yield Finding("image.packages.lock", Level.ERROR, cause, "lock.toml", remedy)


def _beside(image: Inspection, demands: Demands) -> Iterator[Finding]:
    beside = image.beside
    if beside is None:
        return
    for name in beside.differing:
        cause = "the file is not the one the manifest names"
        yield Finding("image.manifest.artefact", Level.ERROR, cause, name, _REBUILD)
    said = {"track": beside.track, "version": beside.version, "root hash": beside.root_hash}
    real = {"track": image.track, "version": image.version, "root hash": image.root_hash}
    for what, value in said.items():
        if value and value != real[what]:
            cause = f"the manifest says {what} {value}, the image {real[what] or 'none'}"
            yield Finding("image.manifest.differs", Level.ERROR, cause, "manifest.json", _REBUILD)
    if beside.expected_pcr11 and image.uki is not None:
        values = {phase.value for phase in image.uki.pcr.phases}
        if not set(beside.expected_pcr11) <= values:
            cause = "the manifest expects values of PCR 11 that this image does not lead to"
            yield Finding("image.manifest.pcr", Level.ERROR, cause, "manifest.json", _REBUILD)


def _sizes(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if demands.limits is None:
        cause = f"the definition has no track {image.track!r}: sizes and lists were not held against limits"
        yield Finding("image.limits.unknown", Level.UNKNOWN, cause, "", "name its definition with --distro")
        return
    sizes = {
        "root": (image.root.bytes if image.root else 0, demands.limits.root_mib),
        "uki": (image.uki.program.size if image.uki else 0, demands.limits.uki_mib),
    }
    for what, (size, most) in sizes.items():
        if size > most * _MIB:
            cause = f"{size / _MIB:.1f} MiB, at most {most} are allowed"
            remedy = "see the largest paths with: bedplate inspect"
            yield Finding(f"image.size.{what}", Level.ERROR, cause, f"limits.{what}_mib", remedy)


def _lists(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if image.root is None or demands.limits is None:
        return
    contents, limits = image.root.contents, demands.limits
    lists = (
        ("setid", "set-id file", [entry.path for entry in contents.setid], limits.setid),
        ("capabilities", "file with capabilities", [e.path for e in contents.capabilities], limits.capabilities),
        ("world_writable", "world-writable path", list(contents.world_writable), limits.world_writable),
        ("interpreters", "interpreter", [entry.path for entry in contents.interpreters], limits.interpreters),
    )
    for key, what, found, allowed in lists:
        name = f"image.{key.replace('_', '-')}"
        for path in found:
            if path not in allowed:
                remedy = f"drop it in the track, or list it in limits.{key} if it is meant to be there"
                yield Finding(f"{name}.unlisted", Level.ERROR, f"{what} that is not on the allow list", path, remedy)
        for path in allowed:
            if path not in found:
                remedy = f"take it out of limits.{key}"
                cause = f"limits.{key} allows what the image does not hold"
                yield Finding(f"{name}.stale", Level.WARNING, cause, path, remedy)


def _tree(image: Inspection, demands: Demands) -> Iterator[Finding]:
    if image.root is None:
        return
    contents = image.root.contents
    for path in contents.devices:
        yield Finding("image.tree.device", Level.ERROR, "a device, socket or pipe", path, _REBUILD)
    for path in contents.orphan_scripts:
        remedy = "drop the script in the track, or add its interpreter"
        yield Finding(
            "image.script.no-interpreter", Level.WARNING, "a script whose interpreter is not there", path, remedy
        )
    if contents.unowned is None:
        cause = "nothing beside the image says whose its paths are"
        yield Finding("image.tree.owners", Level.UNKNOWN, cause, "", "keep owners.json beside the image")
    for path in contents.unowned or ():
        yield Finding("image.tree.unowned", Level.ERROR, "a path nobody owns", path, _REBUILD)


def _slots(image: Inspection, demands: Demands) -> Iterator[Finding]:
    for part in image.partitions:
        if part.label == EMPTY_LABEL and not part.empty:
            cause = "labelled as an empty slot, but it holds data"
            yield Finding("image.slot.used", Level.ERROR, cause, f"partition {part.uuid}", _REBUILD)
        if part.label != EMPTY_LABEL and part.empty:
            yield Finding("image.partition.empty", Level.ERROR, "the partition is empty", part.label, _REBUILD)


CHECKS: tuple[Check, ...] = (
    _root_hash, _verity, _signatures, _pcr, _identity, _packages, _beside, _sizes, _lists, _tree, _slots,
)  # fmt: skip
