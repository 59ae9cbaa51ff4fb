"""From packages and definition to a finished image: the steps in order, each taken from its cache when it can be.

Nothing is written to the output until all is made: artefacts are put together beside it and renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from uuid import UUID, uuid5

from bedplate.compose.bootchain import INITRD, LOADER_SIGNED, UKI, UKI_UNSIGNED, BootChain, BootParts, entry_of
from bedplate.compose.clock import Clock
from bedplate.compose.disk import DiskSpec, assemble_disk
from bedplate.compose.groups import Contents, Unpacked
from bedplate.compose.inputs import BuildInputs
from bedplate.compose.labels import contexts_folder, labelled
from bedplate.compose.limits import census, check_census, check_sizes
from bedplate.compose.modules import select
from bedplate.compose.plan import PlannedPackage, StageOutput, Times, TreePlan, add_stages, plan_tree
from bedplate.compose.result import (
    RESULT_FILE,
    BuildResult,
    describe,
    read_result,
    sync_directory,
    sync_file,
    untouched,
    write_durably,
    write_result,
)
from bedplate.compose.roots.base import RootJob, RootWriter, WrittenRoot
from bedplate.compose.roots.kinds import ROOT_KINDS
from bedplate.compose.scripts import ScriptIndex
from bedplate.compose.stages.alternatives import links
from bedplate.compose.stages.base import Stage
from bedplate.compose.stages.bytecode import Bytecode
from bedplate.compose.stages.ca_bundle import CaBundle
from bedplate.compose.stages.cache import StageCache
from bedplate.compose.stages.catalog import Catalog
from bedplate.compose.stages.depmod import Depmod
from bedplate.compose.stages.hwdb import Hwdb
from bedplate.compose.stages.identity import ImageName, who
from bedplate.compose.stages.ldconfig import Ldconfig
from bedplate.compose.stages.packages import database
from bedplate.compose.stages.presets import Presets
from bedplate.compose.stages.run import run_stages
from bedplate.compose.stages.selinux import SelinuxPolicy
from bedplate.compose.stages.units import known_units
from bedplate.compose.stages.users import accounts
from bedplate.model.errors import BadInput, Finding, Level
from bedplate.model.owners import OWNERS_NAME, format_owners
from bedplate.model.package import PackageContent
from bedplate.model.progress import Progress
from bedplate.toolchain.run import Toolbox

_NAMESPACE = UUID("7a4f0c5e-3b1d-5e0e-9d5c-6b1f2a9c4d10")
_MIB = 1 << 20
_ENTRY_TOKEN = "/etc/kernel/entry-token"
DISK = "disk.raw"


@dataclass(frozen=True, slots=True)
class BuildPlaces:
    """Where a build works: ``cache`` is shared and may go away between builds, ``output`` receives the artefacts."""

    cache: Path
    output: Path


@dataclass
class _Build:
    inputs: BuildInputs
    places: BuildPlaces
    toolbox: Toolbox
    progress: Progress
    jobs: int
    clock: Clock
    unpacked: Unpacked = field(default_factory=Unpacked)

    @cached_property
    def by_name(self) -> dict[str, PackageContent]:
        return {package.nevra.name: package for package in self.inputs.packages}

    @cached_property
    def in_root(self) -> list[PackageContent]:
        return [p for p in self.inputs.packages if p.nevra.name not in self.inputs.track.boot_packages]

    @cached_property
    def boot(self) -> BootChain:
        """Kernel, initrd, UKI and boot loader."""
        return BootChain(self.inputs, self.places.cache, self.clock, self.unpacked, self.jobs)

    @property
    def where(self) -> str:
        return f"track {self.inputs.track.id}"

    def tree(self) -> tuple[TreePlan, Contents]:
        """The whole plan with the stages' outputs, and where its bytes are."""
        inputs, epoch = self.inputs, self.inputs.distro.source_date_epoch
        with self.clock.step("plan"):
            packages = [PlannedPackage(p.nevra.name, p.files) for p in self.in_root]
            kernel = inputs.track.kernel
            chosen = select(self.boot.modules, kernel.modules, self.where) if kernel.module_files == "plain" else None
            times = Times(inputs.track.root.times)
            plan = plan_tree(packages, inputs.sets, inputs.facts, inputs.ids, inputs.track.drop, chosen, epoch, times)
            contents = Contents(
                self.by_name, {owned.owner: owned.sources for owned in inputs.sets}, None, self.unpacked
            )
        with self.clock.step("stages"):
            outputs = [
                accounts(inputs.ids),
                links([inputs.facts[p.name] for p in packages if p.name in inputs.facts], plan.by_path()),
                who(self.image_name, [(p.nevra, p.source) for p in self.in_root]),
                known_units(plan.by_path().keys()),
                *self._run_stages(plan, contents),
            ]
            for output in outputs:
                contents.add_stage(output.owner, output.contents)
            plan = add_stages(plan, outputs, inputs.ids, epoch, times)
        if inputs.package_database is not None:
            with self.clock.step("package database"):
                known = database(inputs.package_database, packages, plan)
                contents.add_stage(known.owner, known.contents)
                plan = add_stages(plan, [known], inputs.ids, epoch, times)
        return self._labelled(plan, contents), contents

    def _labelled(self, plan: TreePlan, contents: Contents) -> TreePlan:
        """The plan with SELinux labels, where the image has a policy."""
        folder = contexts_folder(SelinuxPolicy().policy)
        here = [entry for entry in plan.entries if entry.path.startswith(folder + "/") and entry.content is not None]
        if not any(entry.path == f"{folder}/file_contexts" for entry in here):
            return plan
        with self.clock.step("labels"):
            sources = plan.sources()
            texts = {
                PurePosixPath(entry.path).name: next(iter(contents.read(sources[entry.path][0], [entry.path])))[1]
                for entry in here
                if not entry.path.endswith(".bin")
            }
            return labelled(plan, texts, self.toolbox, self.places.cache / "labels")

    def _run_stages(self, plan: TreePlan, contents: Contents) -> list[StageOutput]:
        stages: list[Stage] = [
            SelinuxPolicy(),  # by far the longest: the others run beside it
            Bytecode(),  # the longest of those
            Presets(tuple(self.inputs.track.masked_units)),
            Depmod(self.boot.modules.version),
            Hwdb(),
            Ldconfig(),
            CaBundle(),
            Catalog(),
        ]
        cache, disk = StageCache(self.places.cache / "stages"), self.places.cache / "scratch"
        return run_stages(stages, plan, contents, self.toolbox, self.inputs.tools, cache, disk, self.jobs)

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
            step=self.clock.step,
        )
        return ROOT_KINDS[inputs.track.root.filesystem](job)


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
    build = _Build(inputs, places, toolbox, progress, jobs, Clock(progress))
    plan, contents = build.tree()
    root = build.root(plan, contents)
    places.output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{places.output.name}.", dir=places.output.parent))
    try:
        # The initrd and the boot loader do not depend on the root: they are made while its contents are compressed.
        with ThreadPoolExecutor(1) as pool:
            parts = pool.submit(build.boot.prepare, root.opener, build.image_name, folder)
            findings = check_census(census(plan.entries, root.interpreters()), inputs.track.limits, build.where)
            _stop_on_errors(findings)
            written = root.write(folder)
            pool.submit(sync_file, written.path)  # a head start: the end of the build waits for it
            result = _assemble(build, folder, root, written, parts.result(), findings)
        write_result(result)
        more = {OWNERS_NAME: format_owners({entry.path: entry.owner for entry in plan.entries}), **(beside or {})}
        for name, data in more.items():
            write_durably(folder / name, data)
        folder.chmod(0o755)
        _swap(folder, places.output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return replace(result, directory=places.output)


def _assemble(
    build: _Build,
    folder: Path,
    writer: RootWriter,
    written: WrittenRoot,
    parts: BootParts | None,
    findings: Sequence[Finding],
) -> BuildResult:
    inputs, clock = build.inputs, build.clock
    with ThreadPoolExecutor(2) as pool:
        # What is finished is hashed while the rest is made.
        known = {name: pool.submit(describe, folder / name, digest) for name, digest in written.artefacts.items()}
        with clock.step("uki"):
            uki = build.boot.finish(parts, written.options, folder)
        sizes = check_sizes(
            inputs.track.limits, written.path.stat().st_size, (folder / UKI).stat().st_size, len(build.in_root)
        )
        _stop_on_errors(sizes)
        with clock.step("disk"):
            layout = assemble_disk(_disk_spec(build, folder, writer, written), folder / DISK, build.toolbox)
        with clock.step("digests"):
            others = (INITRD, UKI_UNSIGNED, UKI, LOADER_SIGNED, DISK)
            known |= {name: pool.submit(describe, folder / name) for name in others}
            _sync(folder, known)
            artefacts = tuple(known[name].result() for name in (*written.artefacts, *others))
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


def _disk_spec(build: _Build, folder: Path, writer: RootWriter, written: WrittenRoot) -> DiskSpec:
    inputs = build.inputs
    seed = uuid5(_NAMESPACE, f"{build.name}/{inputs.version}/disk")
    return DiskSpec(
        seed=seed,
        epoch=inputs.distro.source_date_epoch,
        name=inputs.track.id,
        slots=writer.slots(written, seed),
        uki=folder / UKI,
        uki_name=_entry(build),
        boot_loader=folder / LOADER_SIGNED,
        esp_bytes=inputs.track.slots.esp_mib * _MIB,
    )


def _entry(build: _Build) -> str:
    """The name of the image on the ESP: the version's, or what kernel-install(8) calls the one a package brings."""
    if not build.inputs.track.kernel.flavour:
        return f"{build.name}_{build.inputs.version}"
    tokens = [one.sources[_ENTRY_TOKEN] for one in build.inputs.sets if _ENTRY_TOKEN in one.sources]
    if not tokens:
        raise BadInput(
            f"no {_ENTRY_TOKEN}, and the kernel's image comes as a package",
            where=build.where,
            remedy="give it in distro/files: it is what the names of boot entries begin with",
        )
    return f"{tokens[0].read_text().strip()}-{entry_of(build.inputs.packages, build.where)}"


def _sync(folder: Path, names: Iterable[str]) -> None:
    """Bring artefacts to the disk, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(sync_file, (folder / name for name in names)))


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
    sync_directory(made)
    made.rename(target)
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)
