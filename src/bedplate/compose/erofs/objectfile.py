"""The file an EROFS object lies in: data blocks, then an index, then a trailer with digests of both.

The data blocks of all files of a group come one behind the other in order of their names, each distinct content once.
The index holds for every name its size, digest, layout and where its blocks lie. The index is checked when an object is
opened, the data when they are read to be linked: a cache can be damaged long after it was written.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bedplate.compose.erofs.encoder import Encoded
from bedplate.compose.erofs.format import BLOCK
from bedplate.model.errors import BedplateError

OBJECT_FORMAT = 2
_MAGIC = b"bpEROFS2"
_TRAILER = struct.Struct("<8sQQ32s32s")  # magic, where the index starts, its length, SHA-256 of data and of index
_HEAD = struct.Struct("<IIIHH64s")  # files, blocks, incompatible features, algorithms, configurations and their size
# Name length, size, SHA-256, whether compressed, first block, blocks, bytes of tail and of index, map header.
_FILE = struct.Struct("<HQ32sBIIHI8s")


class DamagedObjectError(BedplateError):
    """A cached object's data are not what was written. The file is gone when this is raised: a new build makes it
    again."""


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """One file of an object. ``block`` counts from the object's first block; ``header`` and ``index`` are of compressed
    data, the index with addresses relative to the file's first block; ``tail`` follows whole blocks of flat data."""

    size: int
    sha256: bytes
    compressed: bool
    block: int
    blocks: int
    tail: bytes
    header: bytes
    index: bytes


@dataclass(frozen=True, slots=True)
class Features:
    """What the superblock of an image that uses an object must announce."""

    incompat: int
    algorithms: int
    configurations: bytes


@dataclass(frozen=True, slots=True)
class ErofsObject:
    """An object in the cache: its file, the number of data blocks at the file's start and their SHA-256, and its files
    by name."""

    key: str
    path: Path
    blocks: int
    data_sha256: bytes
    features: Features
    files: Mapping[str, ObjectFile]

    def data(self) -> bytes:
        """All data blocks, whole and unaltered.

        Raises:
            DamagedObjectError: they are not what was written.
        """
        with self.path.open("rb") as stream:
            data = stream.read(self.blocks * BLOCK)
        if hashlib.sha256(data).digest() != self.data_sha256:
            self.path.unlink(missing_ok=True)
            raise DamagedObjectError(
                "a cached object was damaged and has been removed",
                where=str(self.path),
                remedy="build again; if it happens again, look at the disk",
            )
        return data


@dataclass(frozen=True, slots=True)
class NamedContent:
    """A file to be written: its name, size and SHA-256, and its encoded content."""

    name: str
    size: int
    sha256: bytes
    encoded: Encoded


def write_object(path: Path, contents: Iterable[NamedContent], features: Features) -> None:
    """Write an object file; other processes see it whole or not at all. ``contents`` are in any order.

    It is not waited for until it is on the disk: what a power failure leaves of it is found by its digests.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    index = bytearray()
    placed: dict[bytes, int] = {}
    count = done = 0
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(prefix=".object-", dir=path.parent, delete=False) as out:
        try:
            for one in sorted(contents, key=lambda one: one.name.encode()):
                if one.sha256 not in placed:
                    placed[one.sha256] = done
                    out.write(one.encoded.blocks)
                    digest.update(one.encoded.blocks)
                    done += len(one.encoded.blocks) // BLOCK
                index += _pack_file(one, placed[one.sha256])
                count += 1
            known = features.configurations
            index[:0] = _HEAD.pack(count, done, features.incompat, features.algorithms, len(known), known)
            out.write(index)
            sha256 = hashlib.sha256(index).digest()
            out.write(_TRAILER.pack(_MAGIC, done * BLOCK, len(index), digest.digest(), sha256))
            out.close()
            Path(out.name).rename(path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise


def _pack_file(one: NamedContent, block: int) -> bytes:
    name, form = one.name.encode(), one.encoded
    blocks = len(form.blocks) // BLOCK
    fields = (len(name), one.size, one.sha256, form.compressed, block, blocks, len(form.tail), len(form.index))
    return _FILE.pack(*fields, form.header) + name + form.tail + form.index


def read_object(key: str, path: Path) -> ErofsObject:
    """Open an object file; its data blocks are not read.

    Raises:
        FileNotFoundError: there is none.
        ValueError, struct.error: not an object, or damaged.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - _TRAILER.size))
        magic, start, length, data_sha256, index_sha256 = _TRAILER.unpack(stream.read())
        if magic != _MAGIC or start + length + _TRAILER.size != size or start % BLOCK:
            raise ValueError("not an object")
        stream.seek(start)
        data = stream.read(length)
    if hashlib.sha256(data).digest() != index_sha256:
        raise ValueError("damaged index")
    count, blocks, incompat, algorithms, configuration_size, configurations = _HEAD.unpack_from(data)
    if blocks * BLOCK != start:
        raise ValueError("not an object")
    at = _HEAD.size
    files: dict[str, ObjectFile] = {}
    for _ in range(count):
        name_length, file_size, sha, compressed, block, file_blocks, tail, index, header = _FILE.unpack_from(data, at)
        at += _FILE.size
        name_end = at + name_length
        tail_end = name_end + tail
        index_end = tail_end + index
        files[data[at:name_end].decode()] = ObjectFile(
            file_size, sha, bool(compressed), block, file_blocks, data[name_end:tail_end], header,
            data[tail_end:index_end],
        )  # fmt: skip
        at = index_end
    if at != len(data):
        raise ValueError("damaged index")
    features = Features(incompat, algorithms, configurations[:configuration_size])
    return ErofsObject(key, path, blocks, data_sha256, features, files)
