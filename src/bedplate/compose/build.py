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
from bedplate.compose.groups import Contents
from bedplate.compose.initrd import build_initrd, initrd_key, initrd_packages
from bedplate.compose.inputs import BuildInputs
from bedplate.compose.limits import census, check_census, check_sizes
from bedplate.compose.modules import ModuleIndex, index_from_json, index_to_json, load_order, read_index, select
from bedplate.compose.plan import PlannedPackage, StageOutput, Times, TreePlan, add_stages, plan_tree
from bedplate.compose.result import (
    RESULT_FILE,
    Artefact,
    BuildResult,
    describe,
    read_result,
    untouched,
    write_result,
)
from bedplate.compose.roots.base import RootJob, RootWriter, WrittenRoot
from bedplate.compose.roots.kinds import ROOT_KINDS
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
from bedplate.model.digest import canonical_json, identity
from bedplate.model.errors import BadInput, Finding, Level
from bedplate.model.owners import OWNERS_NAME, format_owners
from bedplate.model.package import PackageContent
from bedplate.model.progress import Progress
from bedplate.toolchain.run import Toolbox

_NAMESPACE = UUID("7a4f0c5e-3b1d-5e0e-9d5c-6b1f2a9c4d10")
_MIB = 1 << 20
INITRD, UKI_UNSIGNED, UKI, LOADER_SIGNED, DISK = (
    "initrd.cpio.zst", "uki.unsigned.efi", "uki.efi", "systemd-bootx64.efi", "disk.raw",
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
            packages = [PlannedPackage(p.nevra.name, p.files) for p in self.in_root]
            kernel = inputs.track.kernel
            chosen = select(self.modules, kernel.modules, self.where) if kernel.module_files == "plain" else None
            times = Times(inputs.track.root.times)
            plan = plan_tree(packages, inputs.sets, inputs.facts, inputs.ids, inputs.track.drop, chosen, epoch, times)
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
            plan = add_stages(plan, outputs, inputs.ids, epoch, times)
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

    @property
    def name(self) -> str:
        """The distribution's name and the track's."""
        return f"{self.inputs.distro.id}-{self.inputs.track.id}"

    def root(self, plan: TreePlan, contents: Contents) -> RootWriter:
        """What writes the track's kind of root file system."""
        inputs = self.inputs
        job = RootJob(
            track=inputs.track,
            name=self.name,
            version=inputs.version,
            namespace=_NAMESPACE,
            epoch=inputs.distro.source_date_epoch,
            plan=plan,
            contents=contents,
            scripts=ScriptIndex(self.places.cache / "scripts", contents),
            cache=self.places.cache,
            toolbox=self.toolbox,
            jobs=self.jobs,
            progress=self.progress,
            step=lambda name: self.clock.step(name, self.progress),
        )
        return ROOT_KINDS[inputs.track.root.filesystem](job)

    def initrd(self, opener: str) -> bytes:
        with self.clock.step("initrd", self.progress):
            order = load_order(self.modules, self.inputs.track.kernel.initrd_modules, self.where)
            packages = initrd_packages(self.inputs.packages, order, opener)
            place = self.places.cache / "initrds" / initrd_key(packages, order, opener)
            digest_place = place.with_suffix(".sha256")
            try:
                data = place.read_bytes()
                if digest_place.read_text() == sha256(data).hexdigest():
                    return data
            except FileNotFoundError:
                pass
            data = build_initrd(packages, order, opener).data
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
    root = build.root(plan, contents)
    findings = check_census(census(plan.entries, root.interpreters()), inputs.track.limits, build.where)
    _stop_on_errors(findings)
    places.output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{places.output.name}.", dir=places.output.parent))
    try:
        result = _assemble(build, folder, root, findings)
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


def _assemble(build: _Build, folder: Path, writer: RootWriter, findings: Sequence[Finding]) -> BuildResult:
    inputs, clock, progress = build.inputs, build.clock, build.progress
    written = writer.write(folder)
    initrd = build.initrd(writer.opener)
    with clock.step("uki", progress):
        uki = _boot_files(build, folder, initrd, written.options)
    sizes = check_sizes(
        inputs.track.limits, written.path.stat().st_size, (folder / UKI).stat().st_size, len(build.in_root)
    )
    _stop_on_errors(sizes)
    with clock.step("disk", progress):
        layout = assemble_disk(_disk_spec(build, folder, writer, written), folder / DISK, build.toolbox)
    with clock.step("digests", progress):
        artefacts = _artefacts(folder, written)
    return BuildResult(
        directory=folder,
        identity=inputs.identity,
        track=inputs.track.id,
        version=inputs.version,
        artefacts=artefacts,
        root_hash=written.root_hash,
        command_line=uki.command_line,
        pcr11=uki.pcr11,
        root_bytes=written.path.stat().st_size,
        uki_bytes=(folder / UKI).stat().st_size,
        package_count=len(build.in_root),
        layout=tuple((p.label, p.start, p.size) for p in layout.partitions),
        seconds=clock.seconds,
        notes=tuple(f"{f.where}: {f.cause}" if f.where else f.cause for f in findings),
    )


def _boot_files(build: _Build, folder: Path, initrd: bytes, root_options: Sequence[str]) -> Uki:
    inputs = build.inputs
    options = inputs.track.kernel.command_line
    uki = build_uki(
        build.file(STUB),
        next(data for _, data in build.kernel.read(lambda path: path == f"/boot/vmlinuz-{build.modules.version}")),
        initrd,
        os_release(build.image_name),
        build.modules.version,
        command_line(options, root_options),
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


def _disk_spec(build: _Build, folder: Path, writer: RootWriter, written: WrittenRoot) -> DiskSpec:
    inputs = build.inputs
    seed = uuid5(_NAMESPACE, f"{build.name}/{inputs.version}/disk")
    return DiskSpec(
        seed=seed,
        epoch=inputs.distro.source_date_epoch,
        name=inputs.track.id,
        slots=writer.slots(written, seed),
        uki=folder / UKI,
        uki_name=f"{build.name}_{inputs.version}",
        boot_loader=folder / LOADER_SIGNED,
        esp_bytes=inputs.track.slots.esp_mib * _MIB,
    )


def _artefacts(folder: Path, written: WrittenRoot) -> tuple[Artefact, ...]:
    names = (*written.artefacts, INITRD, UKI_UNSIGNED, UKI, LOADER_SIGNED, DISK)
    return tuple(describe(folder / name, written.artefacts.get(name, "")) for name in names)


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
