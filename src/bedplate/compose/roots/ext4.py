"""A writable root: ext4, made by mke2fs from one tar stream of the plan; grown on the first boot.

Source: mke2fs(8) (``-d -`` reads a tar archive), debugfs(8) (``ea_set``): mke2fs 1.47 drops the extended attributes of
an archive, so they are set afterwards, all in one run.
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO
from uuid import UUID, uuid5

from bedplate.compose.disk import SlotSpec, single_root
from bedplate.compose.roots.base import RootJob, WrittenRoot
from bedplate.model.definition.track import Root
from bedplate.model.errors import BedplateError
from bedplate.model.package import FileKind
from bedplate.model.tree import TreeEntry
from bedplate.toolchain.run import PIPE, ToolError

ROOT = "root.ext4"
LABEL = "root"
OPTIONS = (f"root=PARTLABEL={LABEL}", "rootfstype=ext4")
"""What the kernel is told: the same for every content, so that one kernel image fits all of them."""
_MIB = 1 << 20
# Pieces of 16 MiB: LUKS' header, a copy of it while the root is moved behind it, and what rounding to pieces takes.
_ENCRYPTION_ROOM = 3 * 16 * _MIB
_BLOCK = 4096
# Named, because mke2fs' defaults are the host's to change; those of e2fsprogs 1.47 without what growing forbids.
_FEATURES = (
    "extent,64bit,flex_bg,metadata_csum,dir_index,filetype,sparse_super,large_file,huge_file,dir_nlink,extra_isize,"
    "ext_attr,resize_inode,has_journal"
)
_INODE_BYTES = 256
_SPARE_INODES = 65536


def opener(root: Root) -> str:
    """How the initrd opens such a root: a key of :data:`bedplate.compose.initrd.OPENERS`."""
    return "encryptable" if root.encryption == "offered" else "plain"


class Ext4Root:
    """See :class:`bedplate.compose.roots.base.RootWriter`."""

    def __init__(self, job: RootJob) -> None:
        self._job = job

    @property
    def opener(self) -> str:
        """See the protocol."""
        return opener(self._job.track.root)

    @property
    def _offers_encryption(self) -> bool:
        return self._job.track.root.encryption == "offered"

    @cached_property
    def _scripts(self) -> dict[str, str]:
        scripts = self._job.scripts
        with self._job.step("scripts"):
            return {path: program for group in self._job.plan.groups for path, program in scripts.of(group).items()}

    def interpreters(self) -> Mapping[str, str]:
        """See the protocol."""
        return self._scripts

    def write(self, folder: Path) -> WrittenRoot:
        """See the protocol."""
        job, root = self._job, folder / ROOT
        with job.step("ext4"):
            self._make(root)
        with job.step("attributes"):
            set_attributes(job, root, folder)
        return WrittenRoot(root, {ROOT: ""}, OPTIONS)

    def slots(self, written: WrittenRoot, seed: UUID) -> tuple[SlotSpec, ...]:
        """One partition, last on the disk."""
        room = _ENCRYPTION_ROOM if self._offers_encryption else 0
        return single_root(seed, LABEL, written.path, self._job.track.slots.root_mib * _MIB, room)

    def _make(self, root: Path) -> None:
        job = self._job
        entries = job.plan.entries
        uuid = uuid5(job.namespace, f"{job.name}/root")
        size = _size(entries, job.track.root.free_mib * _MIB)
        arguments: list[str | Path] = [
            "-q", "-F", "-t", "ext4", "-d", "-", "-b", str(_BLOCK), "-I", str(_INODE_BYTES), "-L", LABEL,
            "-U", str(uuid),
            "-O", f"none,{_FEATURES}", "-m", "1", "-N", str(len(entries) + _SPARE_INODES), "-J", "size=64",
            "-E", f"hash_seed={uuid5(uuid, 'hash')},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard",
            root, f"{size // 1024}k",
        ]  # fmt: skip
        # mke2fs takes a time later than this for a mistake and sets it back.
        newest = max(job.epoch, *(entry.mtime for entry in entries))
        process = job.toolbox.start("mke2fs", *arguments, stdin=PIPE, env={"SOURCE_DATE_EPOCH": str(newest)})
        assert process.stdin is not None and process.stderr is not None and process.stdout is not None
        said: list[bytes] = []
        readers = [threading.Thread(target=lambda s=s: said.append(s.read())) for s in (process.stderr, process.stdout)]
        for reader in readers:
            reader.start()
        try:
            _feed(job, process.stdin)
        except BrokenPipeError:
            pass  # it says why on its standard error
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
            for reader in readers:
                reader.join()
        words = b"".join(said).decode(errors="replace")
        if code != 0 or "rror" in words:
            raise ToolError("mke2fs", ["mke2fs", *(str(one) for one in arguments)], code, words)


def _feed(job: RootJob, stream: IO[bytes]) -> None:
    with stream:
        for piece in tar_stream(job):
            stream.write(piece)


def tar_stream(job: RootJob) -> Iterator[bytes]:
    """The tree as a tar archive: directories first, then contents package by package as they lie in their payload,
    then links."""
    entries = job.plan.by_path()
    directories = [entry for entry in job.plan.entries if entry.kind is FileKind.DIRECTORY and entry.path != "/"]
    for entry in directories:
        yield _header(entry, tarfile.DIRTYPE)
    places: dict[tuple[str, str], str] = {}
    for entry in job.plan.entries:
        if entry.content is not None:
            places.setdefault((entry.content.group, entry.content.path), entry.path)
    for group in job.plan.groups:
        for path, data in job.scripts.reading(group):
            yield _header(entries[places[group.key, path]], tarfile.REGTYPE, len(data))
            yield data
            yield bytes(-len(data) % tarfile.BLOCKSIZE)
    for entry in job.plan.entries:
        if entry.kind is FileKind.SYMLINK:
            yield _header(entry, tarfile.SYMTYPE, link=entry.target)
        elif entry.content is not None:
            first = places[entry.content.group, entry.content.path]
            if first != entry.path:
                yield _header(entry, tarfile.LNKTYPE, link=first.lstrip("/"))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(entry: TreeEntry, kind: bytes, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo("." + entry.path)
    info.type, info.size, info.linkname = kind, size, f"./{link}" if kind == tarfile.LNKTYPE else link
    info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _size(entries: Iterable[TreeEntry], free: int) -> int:
    """Bytes of a file system that holds ``entries`` and has about ``free`` bytes left: contents in whole blocks,
    inodes, directories, the journal, and a 32nd for bitmaps and what else there is."""
    rows = list(entries)
    data = sum(-(-entry.size // _BLOCK) * _BLOCK for entry in rows if entry.content is not None)
    inodes = (len(rows) + _SPARE_INODES) * _INODE_BYTES
    directories = sum(_BLOCK for entry in rows if entry.kind is FileKind.DIRECTORY)
    size = data + inodes + directories + 64 * _MIB + free
    return -(-(size + size // 32) // _MIB) * _MIB


def set_attributes(job: RootJob, root: Path, folder: Path) -> None:
    """Write the extended attributes of all entries: one run of debugfs over the finished file system.

    Raises:
        BedplateError: debugfs refused one of them.
    """
    wanted = [(entry, name, value) for entry in job.plan.entries for name, value in entry.xattrs]
    if not wanted:
        return
    values: dict[bytes, Path] = {}
    for _, _, value in wanted:
        if value not in values:
            values[value] = folder / f".attribute-{len(values)}"
            values[value].write_bytes(value)
    commands = folder / ".attributes"
    commands.write_text("".join(f'ea_set -f {values[v]} "{_quoted(e.path)}" {n}\n' for e, n, v in wanted))
    try:
        done = job.toolbox.run("debugfs", "-w", "-f", commands, root)
    finally:
        for path in (commands, *values.values()):
            path.unlink()
    complaints = [line for line in done.stderr.splitlines()[1:] if line.strip()]
    complaints += [line for line in done.text.splitlines() if line.strip() and not line.startswith("debugfs: ea_set")]
    if complaints:
        raise BedplateError("debugfs did not set every extended attribute", where=str(root), details=complaints[:8])


def _quoted(path: str) -> str:
    if '"' in path or "\n" in path:
        raise BedplateError("a path with a quotation mark or a line break cannot be labelled", where=path)
    return path
