"""Giving a finished image the forms it is asked for, and saying so in its record."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bedplate.compose.build import DISK
from bedplate.compose.formats.base import Format, FormatJob, InstallerFile, Origin
from bedplate.compose.formats.installer import Installer
from bedplate.compose.formats.kinds import FORMATS, chosen_formats
from bedplate.compose.owned import load_set
from bedplate.compose.result import (
    Artefact,
    BuildResult,
    describe,
    file_digest,
    read_result,
    sync_directory,
    sync_file,
    write_result_beside,
)
from bedplate.compose.stages.identity import OS_RELEASE, PACKAGES
from bedplate.compose.uki import sign_efi
from bedplate.flows.definition import read_definition
from bedplate.flows.filesystems import open_root
from bedplate.flows.finished import BuildOutcome
from bedplate.flows.images import LOCK_NAME
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.model.digest import identity
from bedplate.model.errors import BadInput
from bedplate.model.filesystem import read_node
from bedplate.toolchain.run import Toolbox
from bedplate.verify.differences import PartResult, part_result
from bedplate.verify.inspection import parse_os_release

_MAX_TEXT = 1 << 20


@dataclass(frozen=True)
class MadeFormat:
    """One form of an image: its name, its file, and seconds it took; none for one that was there."""

    name: str
    artefact: Artefact
    seconds: float


def add_formats(
    workspace: Workspace, built: BuildOutcome, names: Sequence[str], relock: Relock = Relock.NEVER
) -> BuildOutcome:
    """Make the forms ``names`` of a built image that are not there yet, beside it; each is an artefact of its record.

    A form is put in its place when it is complete and on the disk, and the record after it: a run that is ended leaves
    what is finished. Two runs on one image wait for one another.

    Raises:
        BadInput: an unknown name (before anything is written), or an image that cannot have the form.
    """
    wanted = chosen_formats(names)
    seconds = dict(built.seconds)
    with _alone(built.directory):
        # Another run may have added to the record since.
        build = read_result(built.directory) or built.build
        todo = [
            one
            for one in wanted
            if build.formats.get(one.name) != _key(workspace, build, one) or not _there(build, one)
        ]
        if any(one.file != DISK for one in todo):
            job = format_job(workspace, build, built.directory, prepare_tools(workspace, "tools", relock))
        for one in todo:
            started = time.monotonic()
            with workspace.progress.task(f"format {one.name}"):
                build = _add(workspace, build, one, job) if one.file != DISK else _named(workspace, build, one, None)
            seconds[f"format {one.name}"] = round(time.monotonic() - started, 3)
        if todo:
            write_result_beside(build)
    return replace(built, build=replace(build, reused=built.build.reused), seconds=seconds)


def _there(build: BuildResult, form: Format) -> bool:
    """Whether the form's file is as it was left."""
    known = next((one for one in build.artefacts if one.name == form.file), None)
    try:
        status = build.path(form.file).stat()
    except OSError:
        return False
    return known is not None and (status.st_size, status.st_mtime_ns) == (known.bytes, known.mtime_ns)


def _add(workspace: Workspace, build: BuildResult, form: Format, job: FormatJob) -> BuildResult:
    with made_format(form, job, build.directory) as made:
        sync_file(made)
        made.chmod(0o644)
        made.rename(build.path(form.file))
    sync_directory(build.directory)
    build = _named(workspace, build, form, describe(build.path(form.file)))
    write_result_beside(build)
    return build


@contextmanager
def made_format(form: Format, job: FormatJob, folder: Path) -> Iterator[Path]:
    """A form in a new file below ``folder``, which is removed at the end unless it was moved."""
    with tempfile.TemporaryDirectory(prefix=f".{form.name}-", dir=folder) as scratch:
        path = Path(scratch) / form.file
        form.write(job, path)
        yield path


def _named(workspace: Workspace, build: BuildResult, form: Format, artefact: Artefact | None) -> BuildResult:
    others = tuple(one for one in build.artefacts if artefact is None or one.name != artefact.name)
    artefacts = others if artefact is None else (*others, artefact)
    return replace(build, artefacts=artefacts, formats={**build.formats, form.name: _key(workspace, build, form)})


def _key(workspace: Workspace, build: BuildResult, form: Format) -> str:
    disk = next(one.sha256 for one in build.artefacts if one.name == DISK)
    owned = [load_set(workspace.distro / "files", form.owned_set).digest] if form.owned_set else []
    return identity(["format", form.name, form.revision, disk, *owned])


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def format_job(workspace: Workspace, build: BuildResult, directory: Path, toolbox: Toolbox) -> FormatJob:
    """What the forms of a finished build are made from."""
    disk = directory / DISK
    labels = {}
    with open_root(disk) as system:
        for node in system.walk():
            if node.path == OS_RELEASE:
                labels = parse_os_release(read_node(system, node, _MAX_TEXT).decode(errors="replace"))
                break
    if not labels:
        raise BadInput("the image's root has no os-release", where=str(disk), remedy="build it again")
    lock = directory / LOCK_NAME
    facts = {**labels, "packages": PACKAGES, "lock": file_digest(lock) if lock.is_file() else ""}
    name = labels.get("IMAGE_ID") or build.track
    epoch = int(labels.get("SOURCE_DATE_EPOCH") or toolbox.epoch)
    keys = key_store(workspace, read_definition(workspace))
    private, certificate = keys.boot_key_paths()

    def sign(source: Path, target: Path) -> None:
        sign_efi(toolbox, source, private, certificate, target)

    return FormatJob(
        name, build.version, epoch, disk, partial(open_root, disk), facts, toolbox, workspace.jobs, sign,
        _installer(workspace),
    )  # fmt: skip


def _installer(workspace: Workspace) -> dict[str, InstallerFile]:
    """The installer's files: an owned set of the definition that no track names."""
    owned = load_set(workspace.distro / "files", Installer.owned_set)
    return {
        file.path: InstallerFile(owned.sources[file.path], file.mode)
        for file in owned.files
        if file.path in owned.sources and "__pycache__" not in file.path
    }


def compare_formats(
    workspace: Workspace, first: BuildResult, disk: Path, again: Path, relock: Relock = Relock.NEVER
) -> list[PartResult]:
    """The forms of an image (record ``first``, disk image ``disk``), each made again, held against what is there.

    Those of the root's content are made from the rebuilt disk ``again``. Those of the whole disk hold signatures, which
    name the time of signing: they are made from the image's own disk, and the disks are compared elsewhere.
    """
    forms = [FORMATS[name] for name in first.formats if name in FORMATS and FORMATS[name].file != DISK]
    if not forms:
        return []
    toolbox = prepare_tools(workspace, "tools", relock)
    parts = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bedplate-", dir=again.parent)))
        for form in forms:
            own = form.origin is Origin.DISK
            job = format_job(workspace, first, disk.parent, toolbox)
            if not own:
                job = replace(job, disk=again, root=partial(open_root, again))
            with made_format(form, job, folder) as made:
                digests = _digest(first.path(form.file)), _digest(made)
            note = "made again from the image's own disk" if own else ""
            parts.append(part_result(form.file, *digests, note=note))
    return parts


def _digest(path: Path) -> str:
    return file_digest(path) if path.is_file() else hashlib.sha256(b"").hexdigest()
