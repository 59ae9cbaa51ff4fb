"""A read-only root: EROFS linked from cached objects, with a dm-verity hash tree, in two slots."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid5

from bedplate.compose.disk import SlotSpec, verified_slots
from bedplate.compose.erofs.linker import link
from bedplate.compose.erofs.objects import (
    CompressionOptions,
    DamagedObjectError,
    ErofsObject,
    ObjectInput,
    ObjectStore,
)
from bedplate.compose.groups import ContentGroup
from bedplate.compose.roots.base import RootJob, WrittenRoot
from bedplate.compose.verity import format_verity
from bedplate.model.errors import BadInput

ROOT, VERITY = "root.erofs", "root.verity"
_MIB = 1 << 20
# Whether a machine has files of its own beside its root -> the initrd's way to open it.
OPENERS: Mapping[str, str] = {"none": "verity", "kept": "verity-state"}


class ErofsRoot:
    """See :class:`bedplate.compose.roots.base.RootWriter`."""

    def __init__(self, job: RootJob) -> None:
        self._job = job

    @property
    def opener(self) -> str:
        """See the protocol."""
        return OPENERS[self._job.track.root.state]

    @cached_property
    def _objects(self) -> Mapping[str, ErofsObject]:
        """The compressed groups; only what the cache lacks is read, once, and looked through for scripts on the way."""
        job = self._job
        store = ObjectStore(job.cache / "objects")

        def reader(group: ContentGroup) -> ObjectInput:
            return ObjectInput(group.key, sum(f.size for f in group.files), lambda: job.scripts.reading(group))

        options = _compression(job.track.root.compression, job.track.root.cluster_bytes)
        with job.step("compress"):
            return store.ensure([reader(group) for group in job.plan.groups], options, job.jobs, job.progress)

    def interpreters(self) -> Mapping[str, str]:
        """See the protocol."""
        assert self._objects is not None  # reading the groups is what finds the scripts
        scripts = self._job.scripts
        return {path: program for group in self._job.plan.groups for path, program in scripts.of(group).items()}

    def write(self, folder: Path) -> WrittenRoot:
        """See the protocol."""
        job, root, verity_path = self._job, folder / ROOT, folder / VERITY
        self._link(root)
        with job.step("verity"):
            # One salt for all versions: equal blocks keep equal leaf hashes, and an update can find what a node has.
            salt = sha256(f"{job.namespace}/{job.name}/salt".encode()).digest()
            verity = format_verity(root, verity_path, salt=salt, uuid=uuid5(job.namespace, f"{job.name}/verity"))
        digests = {ROOT: verity.image_sha256, VERITY: verity.hash_sha256}
        return WrittenRoot(root, digests, (f"roothash={verity.root_hash}",), verity.root_hash)

    def _link(self, root: Path) -> None:
        """Link the objects; one that turns out to be damaged in the cache is made again."""
        job, uuid = self._job, uuid5(self._job.namespace, f"{self._job.name}/root")
        for left in reversed(range(len(job.plan.groups) + 1)):
            objects = self._objects
            try:
                with job.step("link"):
                    link(job.plan.entries, objects, root, uuid=uuid, epoch_time=job.epoch, label="root")
                return
            except DamagedObjectError as error:
                if not left:
                    raise
                job.progress.say(f"{error.message}: it is made again ({error.where})")
                del self._objects

    def slots(self, written: WrittenRoot, seed: UUID) -> tuple[SlotSpec, ...]:
        """Two slots, the second one empty."""
        sizes, label = self._job.track.slots, f"{self._job.track.id}_{self._job.version}"
        return verified_slots(
            seed, label, written.path, written.path.with_name(VERITY), written.root_hash,
            sizes.root_mib * _MIB, sizes.verity_mib * _MIB,
        )  # fmt: skip


def _compression(text: str, cluster: int) -> CompressionOptions:
    algorithm, _, level = text.partition(",")
    if algorithm != "zstd" or not (level or "3").isdigit():
        raise BadInput(f"unknown compression {text!r}", where="root.compression", remedy='write for instance "zstd,3"')
    return CompressionOptions(int(level or "3"), cluster)
