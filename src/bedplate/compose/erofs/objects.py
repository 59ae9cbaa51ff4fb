"""EROFS objects: the compressed content of one group of files, made once and kept under the group's key.

An object's bytes depend on the group, the options and the compressor alone, not on which groups are made together nor
on the number of workers.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bedplate.compose.erofs.encoder import (
    ALGORITHMS,
    INCOMPAT,
    INDEX_ALIGNMENT,
    CompressionOptions,
    Encoded,
    Encoder,
)
from bedplate.compose.erofs.objectfile import (
    OBJECT_FORMAT,
    DamagedObjectError,
    ErofsObject,
    Features,
    NamedContent,
    ObjectFile,
    read_object,
    write_object,
)
from bedplate.model.digest import identity
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.progress import NoProgress, Progress

__all__ = [
    "INDEX_ALIGNMENT", "CompressionOptions", "DamagedObjectError", "ErofsObject", "Features", "ObjectFile",
    "ObjectInput", "ObjectStore",
]  # fmt: skip

MAX_NAME = 4096


@dataclass(frozen=True, slots=True)
class ObjectInput:
    """A group of files to compress.

    ``key`` is a digest of all names and contents; ``size`` their bytes in sum, by which work is shared out; ``files``
    yields name and content of each, in any order, and is called only when the group has no object yet.
    """

    key: str
    size: int
    files: Callable[[], Iterator[tuple[str, bytes]]]


class ObjectStore:
    """Objects in a directory. Safe for several processes: objects appear whole, by renaming, and never change.

    Args:
        directory: Where objects lie; made when missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def ensure(
        self,
        groups: Sequence[ObjectInput],
        options: CompressionOptions | None = None,
        jobs: int = 2,
        progress: Progress | None = None,
    ) -> dict[str, ErofsObject]:
        """The objects of ``groups`` by group key; those the cache lacks are made with ``jobs`` threads. Reading,
        hashing and compressing all leave the interpreter free, so threads keep as many processors busy.

        Raises:
            BedplateError: a group names a file twice, or the disk is full.
        """
        options = options or CompressionOptions()
        found: dict[str, ErofsObject] = {}
        missing: dict[str, ObjectInput] = {}
        for group in groups:
            if group.key in found or group.key in missing:
                continue
            known = self._load(group.key, options)
            if known is None:
                missing[group.key] = group
            else:
                found[group.key] = known
        if missing:
            self._make(list(missing.values()), options, jobs, progress or NoProgress())
            for key in missing:
                made = self._load(key, options)
                if made is None:
                    raise BedplateError("an object is damaged right after it was made", where=str(self._directory))
                found[key] = made
        return found

    def path(self, key: str, options: CompressionOptions) -> Path:
        """Where the object of a group lies, made or not."""
        name = identity([OBJECT_FORMAT, key, options.identity()])
        return self._directory / name[:2] / f"{name}.erofs-object"

    def _load(self, key: str, options: CompressionOptions) -> ErofsObject | None:
        path = self.path(key, options)
        try:
            return read_object(key, path)
        except FileNotFoundError:
            return None
        except (ValueError, struct.error):
            # A cache entry that is not what we wrote (a crashed disk, a bit flip in its index) is made anew.
            path.unlink(missing_ok=True)
            return None

    def _make(self, groups: list[ObjectInput], options: CompressionOptions, jobs: int, progress: Progress) -> None:
        # The largest first: what is left at the end is small, and all workers end at nearly the same time.
        groups.sort(key=lambda group: (-group.size, group.key))
        with (
            progress.task("compress", len(groups), "groups") as task,
            ThreadPoolExecutor(max_workers=max(1, min(jobs, len(groups)))) as pool,
        ):

            def run(group: ObjectInput) -> None:
                write_object(self.path(group.key, options), encode_group(group, options), _features(options))
                task.advance()

            futures = [pool.submit(run, group) for group in groups]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def encode_group(group: ObjectInput, options: CompressionOptions) -> list[NamedContent]:
    """Every file of a group, each distinct content compressed once.

    Raises:
        BadInput: a file twice, or a name too long.
    """
    encoder = Encoder(options)
    known: dict[bytes, Encoded] = {}
    files: dict[str, NamedContent] = {}
    for name, data in group.files():
        if name in files or len(name.encode()) > MAX_NAME:
            raise BadInput("a group names a file twice, or with a name too long", where=name)
        digest = hashlib.sha256(data).digest()
        if digest not in known:
            known[digest] = encoder.encode(data)
        files[name] = NamedContent(name, len(data), digest, known[digest])
    return list(files.values())


def _features(options: CompressionOptions) -> Features:
    return Features(INCOMPAT, ALGORITHMS, options.configuration)
