"""From packages and definition to a finished image: the steps in order, each taken from its cache when it can be.

Nothing is written to the output until all is made: artefacts are put together beside it and renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid5

from bedplate.compose.disk import DiskSpec, assemble_disk
from bedplate.compose.erofs.linker import link
from bedplate.compose.erofs.objects import CompressionOptions, ErofsObject, ObjectInput, ObjectStore
from bedplate.compose.groups import ContentGroup, Contents
from bedplate.compose.initrd import build_initrd, initrd_key, initrd_packages
from bedplate.compose.inputs import BuildInputs
from bedplate.compose.limits import Census, census, check_census, check_sizes
from bedplate.compose.modules import ModuleIndex, index_from_json, index_to_json, load_order, read_index, select
from bedplate.compose.plan import PlannedPackage, StageOutput, TreePlan, add_stages, plan_tree
from bedplate.compose.result import (
    RESULT_FILE,
    Artefact,
    BuildResult,
    describe,
    read_result,
    untouched,
    write_result,
)
from bedplate.compose.scripts import ScriptIndex
from bedplate.compose.stages.alternatives import links
from bedplate.compose.stages.base import Stage
from bedplate.compose.stages.ca_bundle import CaBundle
from bedplate.compose.stages.cache import StageCache, write_atomically
from bedplate.compose.stages.catalog import Catalog
from bedplate.compose.stages.depmod import Depmod
from bedplate.compose.stages.hwdb import Hwdb
from bedplate.compose.stages.identity import ImageName, os_release, who
from bedplate.compose.stages.ldconfig import Ldconfig
from bedplate.compose.stages.presets import Presets
from bedplate.compose.stages.run import run_stages
from bedplate.compose.stages.users import accounts
from bedplate.compose.uki import LOADER, STUB, Uki, build_uki, command_line
from bedplate.compose.verity import VerityResult, format_verity
from bedplate.model.digest import canonical_json, identity
from bedplate.model.errors import BadInput, Finding, Level
from bedplate.model.owners import OWNERS_NAME, format_owners
from bedplate.model.package import PackageContent
from bedplate.model.progress import Progress
from bedplate.toolchain.run import Toolbox

_NAMESPACE = UUID("7a4f0c5e-3b1d-5e0e-9d5c-6b1f2a9c4d10")
_MIB = 1 << 20
ROOT, VERITY, INITRD, UKI_UNSIGNED, UKI, LOADER_SIGNED, DISK = (
    "root.erofs", "root.verity", "initrd.cpio.zst", "uki.unsigned.efi", "uki.efi", "systemd-bootx64.efi", "disk.raw",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BuildPlaces:
    """Where a build works: ``cache`` is shared and may go away between builds, ``output`` receives the artefacts."""

    cache: Path
    output: Path


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, progress: Progress) -> Iterator[None]:
        begin = time.monotonic()
        with progress.task(name):
            yield
        self.seconds[name] = round(time.monotonic() - begin, 3)


@dataclass
class _Build:
    inputs: BuildInputs
    places: BuildPlaces
    toolbox: Toolbox
    progress: Progress
    jobs: int
    clock: _Clock = field(default_factory=_Clock)

    @cached_property
    def by_name(self) -> dict[str, PackageContent]:
        return {package.nevra.name: package for package in self.inputs.packages}

    @cached_property
    def in_root(self) -> list[PackageContent]:
        return [p for p in self.inputs.packages if p.nevra.name not in self.inputs.track.boot_packages]

    @cached_property
    def kernel(self) -> PackageContent:
        pattern = self.inputs.track.kernel.package
        found = [
            p
            for p in self.inputs.packages
            if fnmatchcase(p.nevra.name, pattern) and any(f.path.startswith("/boot/vmlinuz-") for f in p.files)
        ]
        if len(found) != 1:
            names = ", ".join(p.nevra.name for p in found) or "no package"
            raise BadInput(
                f"kernel.package matches {names} with a kernel",
                where=f"track {self.inputs.track.id}",
                remedy="name exactly one locked package that brings /boot/vmlinuz-VERSION",
            )
        return found[0]

    @cached_property
    def modules(self) -> ModuleIndex:
        place = self.places.cache / "modules" / identity(["module index", 1, self.kernel.digest])
        try:
            return index_from_json(json.loads(place.read_bytes()))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            index = read_index(self.kernel)
            write_atomically(place, canonical_json(index_to_json(index)))
            return index

    @property
    def where(self) -> str:
        return f"track {self.inputs.track.id}"

    def tree(self) -> tuple[TreePlan, Contents]:
        """The whole plan with the stages' outputs, and where its bytes are."""
        inputs, epoch = self.inputs, self.inputs.distro.source_date_epoch
        with self.clock.step("plan", self.progress):
            chosen = select(self.modules, inputs.track.kernel.modules, self.where)
            packages = [PlannedPackage(p.nevra.name, p.files) for p in self.in_root]
            plan = plan_tree(packages, inputs.sets, inputs.facts, inputs.ids, inputs.track.drop, chosen, epoch)
            contents = Contents(self.by_name, {owned.owner: owned.sources for owned in inputs.sets})
        with self.clock.step("stages", self.progress):
            outputs = [
                accounts(inputs.ids),
                links([inputs.facts[p.name] for p in packages if p.name in inputs.facts], plan.by_path()),
                who(self.image_name, [(p.nevra, p.source) for p in self.in_root]),
                *self._run_stages(plan, contents),
            ]
            for output in outputs:
                contents.add_stage(output.owner, output.contents)
            plan = add_stages(plan, outputs, inputs.ids, epoch)
        return plan, contents

    def _run_stages(self, plan: TreePlan, contents: Contents) -> list[StageOutput]:
        stages: list[Stage] = [
            Presets(tuple(self.inputs.track.masked_units)),
            Depmod(self.modules.version),
            Hwdb(),
            Ldconfig(),
            CaBundle(),
            Catalog(),
        ]
        cache, scratch = StageCache(self.places.cache / "stages"), self.places.cache / "scratch"
        return run_stages(stages, plan, contents, self.toolbox, self.inputs.tools, cache, scratch)

    @cached_property
    def image_name(self) -> ImageName:
        distro, track = self.inputs.distro, self.inputs.track
        return ImageName(
            distro.id, distro.name, distro.version, distro.home_url, track.id, track.title, self.inputs.version,
            self.inputs.identity[:16],
        )  # fmt: skip

    def objects(self, plan: TreePlan, contents: Contents) -> tuple[Mapping[str, ErofsObject], Census]:
        """The compressed groups; only what the cache lacks is read, once, and looked through for scripts on the way."""
        scripts = ScriptIndex(self.places.cache / "scripts", contents)
        store = ObjectStore(self.places.cache / "objects", self.toolbox)

        def reader(group: ContentGroup) -> ObjectInput:
            return ObjectInput(group.key, sum(f.size for f in group.files), lambda: scripts.reading(group))

        options = _compression(self.inputs.track.root.compression, self.inputs.track.root.cluster_bytes)
        with self.clock.step("compress", self.progress):
            objects = store.ensure([reader(group) for group in plan.groups], options, self.jobs, self.progress)
        found = {path: program for group in plan.groups for path, program in scripts.of(group).items()}
        return objects, census(plan.entries, found)

    def initrd(self) -> bytes:
        with self.clock.step("initrd", self.progress):
            order = load_order(self.modules, self.inputs.track.kernel.initrd_modules, self.where)
            packages = initrd_packages(self.inputs.packages, order)
            place = self.places.cache / "initrds" / initrd_key(packages, order)
            digest_place = place.with_suffix(".sha256")
            try:
                data = place.read_bytes()
                if digest_place.read_text() == sha256(data).hexdigest():
                    return data
            except FileNotFoundError:
                pass
            data = build_initrd(packages, order).data
            write_atomically(place, data)
            write_atomically(digest_place, sha256(data).hexdigest().encode())
            return data

    def file(self, path: str) -> bytes:
        """A file of the boot chain."""
        for package in self.inputs.packages:
            if any(entry.path == path for entry in package.files):
                for _, data in package.read(path.__eq__):
                    return data
        raise BadInput(
            f"no locked package brings {path}",
            where=self.where,
            remedy="add its package to boot_packages and lock again",
        )


def build_image(
    inputs: BuildInputs,
    places: BuildPlaces,
    toolbox: Toolbox,
    progress: Progress,
    jobs: int = 2,
    beside: Mapping[str, bytes] | None = None,
) -> BuildResult:
    """Make the image of ``inputs`` in ``places.output``, or return the one that is there already.

    ``beside`` are further files (name, content) to keep with the artefacts, such as the lock.

    Raises:
        BadInput: conflicts in the tree, limits that are not kept, a definition that does not fit the packages.
        ToolError: a program failed.
    """
    known = read_result(places.output)
    if known is not None and known.identity == inputs.identity and untouched(known):
        return replace(known, reused=True)
    build = _Build(inputs, places, toolbox, progress, jobs)
    plan, contents = build.tree()
    objects, found = build.objects(plan, contents)
    findings = check_census(found, inputs.track.limits, build.where)
    _stop_on_errors(findings)
    places.output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{places.output.name}.", dir=places.output.parent))
    try:
        result = _assemble(build, folder, plan, objects, findings)
        write_result(result)
        (folder / OWNERS_NAME).write_bytes(format_owners({entry.path: entry.owner for entry in plan.entries}))
        for name, data in (beside or {}).items():
            (folder / name).write_bytes(data)
        folder.chmod(0o755)
        _swap(folder, places.output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return replace(result, directory=places.output)


def _assemble(
    build: _Build,
    folder: Path,
    plan: TreePlan,
    objects: Mapping[str, ErofsObject],
    findings: Sequence[Finding],
) -> BuildResult:
    inputs, clock, progress = build.inputs, build.clock, build.progress
    name = f"{inputs.distro.id}-{inputs.track.id}"
    root, verity_path = folder / ROOT, folder / VERITY
    with clock.step("link", progress):
        epoch = inputs.distro.source_date_epoch
        link(plan.entries, objects, root, uuid=uuid5(_NAMESPACE, f"{name}/root"), epoch_time=epoch, label="root")
    with clock.step("verity", progress):
        # One salt for all versions: equal blocks keep equal leaf hashes, and an update can find what a node has.
        salt = sha256(f"{_NAMESPACE}/{name}/salt".encode()).digest()
        verity = format_verity(root, verity_path, salt=salt, uuid=uuid5(_NAMESPACE, f"{name}/verity"))
    initrd = build.initrd()
    with clock.step("uki", progress):
        uki = _boot_files(build, folder, initrd, verity.root_hash)
    sizes = check_sizes(inputs.track.limits, root.stat().st_size, (folder / UKI).stat().st_size, len(build.in_root))
    _stop_on_errors(sizes)
    with clock.step("disk", progress):
        layout = assemble_disk(_disk_spec(build, folder, name, verity.root_hash), folder / DISK, build.toolbox)
    with clock.step("digests", progress):
        artefacts = _artefacts(folder, verity)
    return BuildResult(
        directory=folder,
        identity=inputs.identity,
        track=inputs.track.id,
        version=inputs.version,
        artefacts=artefacts,
        root_hash=verity.root_hash,
        command_line=uki.command_line,
        pcr11=uki.pcr11,
        root_bytes=root.stat().st_size,
        uki_bytes=(folder / UKI).stat().st_size,
        package_count=len(build.in_root),
        layout=tuple((p.label, p.start, p.size) for p in layout.partitions),
        seconds=clock.seconds,
        notes=tuple(f"{f.where}: {f.cause}" if f.where else f.cause for f in findings),
    )


def _boot_files(build: _Build, folder: Path, initrd: bytes, root_hash: str) -> Uki:
    inputs = build.inputs
    options = inputs.track.kernel.command_line
    uki = build_uki(
        build.file(STUB),
        next(data for _, data in build.kernel.read(lambda path: path == f"/boot/vmlinuz-{build.modules.version}")),
        initrd,
        os_release(build.image_name),
        build.modules.version,
        command_line(options, root_hash),
        inputs.keys.pcr_public_key,
        inputs.keys.pcr_sign,
    )
    (folder / INITRD).write_bytes(initrd)
    (folder / UKI_UNSIGNED).write_bytes(uki.data)
    loader = folder / f".{LOADER_SIGNED}"
    loader.write_bytes(build.file(LOADER))
    inputs.keys.sign_efi(folder / UKI_UNSIGNED, folder / UKI)
    inputs.keys.sign_efi(loader, folder / LOADER_SIGNED)
    loader.unlink()
    return uki


def _disk_spec(build: _Build, folder: Path, name: str, root_hash: str) -> DiskSpec:
    inputs, slots = build.inputs, build.inputs.track.slots
    return DiskSpec(
        seed=uuid5(_NAMESPACE, f"{name}/{inputs.version}/disk"),
        epoch=inputs.distro.source_date_epoch,
        name=inputs.track.id,
        version=inputs.version,
        root=folder / ROOT,
        verity=folder / VERITY,
        root_hash=root_hash,
        uki=folder / UKI,
        uki_name=f"{name}_{inputs.version}",
        boot_loader=folder / LOADER_SIGNED,
        slot_bytes=slots.root_mib * _MIB,
        verity_slot_bytes=slots.verity_mib * _MIB,
        esp_bytes=slots.esp_mib * _MIB,
    )


def _artefacts(folder: Path, verity: VerityResult) -> tuple[Artefact, ...]:
    known = {ROOT: verity.image_sha256, VERITY: verity.hash_sha256}
    names = (ROOT, VERITY, INITRD, UKI_UNSIGNED, UKI, LOADER_SIGNED, DISK)
    return tuple(describe(folder / name, known.get(name, "")) for name in names)


def _compression(text: str, cluster: int) -> CompressionOptions:
    algorithm, _, level = text.partition(",")
    if algorithm not in ("zstd", "lz4hc", "deflate") or not (level or "3").isdigit():
        raise BadInput(f"unknown compression {text!r}", where="root.compression", remedy='write for instance "zstd,3"')
    return CompressionOptions(algorithm, int(level or "3"), cluster)


def _stop_on_errors(findings: Sequence[Finding]) -> None:
    errors = [finding for finding in findings if finding.level is Level.ERROR]
    if errors:
        raise BadInput(
            "the image does not keep the track's limits",
            where="limits",
            details=[f"{f.where}: {f.cause} ({f.id})" if f.where else f"{f.cause} ({f.id})" for f in errors],
            remedy=errors[0].remedy,
        )


def _swap(made: Path, target: Path) -> None:
    """Put a finished directory in the place of an older one; a reader sees one or the other, never half of one."""
    old = target.with_name(f".{target.name}.old.{os.getpid()}")
    if target.exists():
        if not (target / RESULT_FILE).exists() and any(target.iterdir()):
            raise BadInput(
                "the output directory holds other files", where=str(target), remedy="name an empty or a new directory"
            )
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)
