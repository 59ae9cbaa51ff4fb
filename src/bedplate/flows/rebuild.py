"""Building an image again from its own lock, in a cache that holds nothing made, and comparing the two."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path

from bedplate.compose.build import DISK
from bedplate.flows.build import build_track
from bedplate.flows.cache import content_store
from bedplate.flows.compare import compare_disks
from bedplate.flows.definition import read_definition
from bedplate.flows.disks import OpenDisk, open_disk
from bedplate.flows.formats import compare_formats
from bedplate.flows.images import FoundImage
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock, committed_path, local_path, read_lock_file
from bedplate.flows.programs import COMPILER
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput
from bedplate.model.lock import Lock
from bedplate.model.pe import parse_pe
from bedplate.resolve.fit import require_fit
from bedplate.trust.authenticode import signatures
from bedplate.verify.differences import RebuildReport
from bedplate.verify.inspection import parse_os_release

Builder = Callable[[Workspace, str, Lock], Path]


class Downloads(Enum):
    """Where the rebuild has its upstream files from. Nothing that was made from them is ever shared."""

    SHARED = "from the existing store; each file is hashed again"
    AGAIN = "downloaded again"


def build_from_lock(workspace: Workspace, track: str, lock: Lock, version: str = "") -> Path:
    """Build a track from a given lock; gives the disk image."""
    return build_track(workspace, track, Relock.NEVER, lock=lock, version=version).directory / DISK


def verify_rebuild(
    workspace: Workspace,
    found: FoundImage,
    downloads: Downloads = Downloads.SHARED,
    keep: Path | None = None,
    builder: Builder | None = None,
) -> RebuildReport:
    """Build ``found`` again from its lock and compare.

    Args:
        keep: Directory that receives the rebuilt image; without one it is removed.

    Raises:
        BadInput: the image has no lock beside it, the lock does not fit the definition, or other keys signed it.
        MovedOnError: files the lock names are neither in the store nor on the mirrors.
    """
    if found.lock is None:
        raise BadInput(
            "there is no lock beside the image, so nobody can tell what it was made from",
            where=str(found.disk.parent),
            remedy="name the directory of a build, which keeps its lock.toml",
        )
    lock = read_lock_file(found.lock)
    definition = read_definition(workspace)
    digest = definition.resolution_digest(definition.track(lock.track), lock.names)
    require_fit(lock, track=lock.track, definition=digest, where=str(found.lock))
    _require_keys(workspace, found)
    builder = builder or partial(build_from_lock, version=found.build.version if found.build else "")
    started = time.monotonic()
    with _fresh_cache(workspace) as cache:
        fresh = replace(workspace, cache=cache, output=keep or cache / "out")
        _share_locks(workspace, fresh)
        if downloads is Downloads.SHARED:
            _share_downloads(workspace, fresh, [lock, *_tools_locks(workspace)])
        again = builder(fresh, lock.track, lock)
        with workspace.progress.task("compare"), ExitStack() as stack:
            first, second = stack.enter_context(open_disk(found.disk)), stack.enter_context(open_disk(again))
            parts = compare_disks(first, second)
            if found.build is not None:
                parts += compare_formats(workspace, found.build, found.disk, again)
            remarks = _remarks(first, second)
    return RebuildReport(str(found.disk), tuple(parts), remarks, round(time.monotonic() - started, 3))


def _remarks(first: OpenDisk, second: OpenDisk) -> tuple[str, ...]:
    """What explains a difference: the image names the digest of all its inputs."""
    builds = [
        parse_os_release(parse_pe(disk.program(file), file.path).text(".osrel")).get("BUILD_ID", "")
        for disk in (first, second)
        for file in disk.ukis()[:1]
    ]
    if len(set(builds)) < 2:
        return ()
    cause = "definition, keys, tools or Bedplate itself are not those the image was made with"
    return (f"{cause} (BUILD_ID {builds[0]} / {builds[1]})",)


def _require_keys(workspace: Workspace, found: FoundImage) -> None:
    """The public keys in use must be the image's: they lie in its root and in its UKI."""
    keys = key_store(workspace, read_definition(workspace))
    remedy = "put the image's key in use (bedplate keys activate ID), or name its directory in BEDPLATE_KEYS"
    with open_disk(found.disk) as disk:
        for file in [*disk.loaders(), *disk.ukis()]:
            program = parse_pe(disk.program(file), file.path)
            signers = {one.fingerprint for one in signatures(program)}
            if signers and keys.ensure("boot").fingerprint not in signers:
                raise BadInput("signed by another boot key than the one in use", where=file.path, remedy=remedy)
            pcr = program.text(".pcrpkey")
            if pcr and pcr != keys.pcr_key_paths()[1].read_text().strip():
                raise BadInput("made with another PCR key than the one in use", where=file.path, remedy=remedy)


@contextmanager
def _fresh_cache(workspace: Workspace) -> Iterator[Path]:
    """An empty cache directory beside the real one's parts, so that downloads can be hard links; removed at the end.

    What a killed run left is removed by the next: a directory in use is locked.
    """
    parent = workspace.cache / "rebuild"
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / ".lock").open("w") as guard:
        # Held until the new directory is locked, or another run could take it for a left-over.
        fcntl.flock(guard, fcntl.LOCK_EX)
        for old in sorted(parent.iterdir()):
            if old.is_dir():
                _remove_unused(old)
        cache = Path(tempfile.mkdtemp(dir=parent))
        descriptor = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield cache
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        os.close(descriptor)


def _remove_unused(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(descriptor)


def _tools_locks(workspace: Workspace) -> list[Lock]:
    places = [
        place
        for name in ("tools", f"tools-{COMPILER}")
        for place in (committed_path(workspace, name), local_path(workspace, name))
    ]
    return [read_lock_file(path) for path in places if path.is_file()]


def _share_locks(workspace: Workspace, fresh: Workspace) -> None:
    """Locks made on this machine count as inputs: without them the tools could not be had where upstream moved on."""
    source = workspace.cache / "locks"
    if source.is_dir():
        shutil.copytree(source, fresh.cache / "locks")


def _share_downloads(workspace: Workspace, fresh: Workspace, locks: Iterable[Lock]) -> None:
    """Link the locked upstream files into the fresh store; a file that is not what its name says is left out."""
    store, target = content_store(workspace), content_store(fresh)
    digests = {p.location.sha256 for lock in locks for p in lock.packages if p.location is not None}
    with workspace.progress.task("check downloads", len(digests), "files") as task:
        for digest in sorted(digests):
            task.advance()
            source = store.path(digest)
            if not source.is_file():
                continue
            with source.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                    workspace.progress.say(f"a stored download is damaged and was not used: {digest}")
                    continue
            place = target.path(digest)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, place)
            except OSError:
                # Another file system, or one without hard links.
                shutil.copyfile(source, place)
