"""EROFS objects: the compressed content of one group of files, made once by mkfs.erofs and kept under the group's key.

An object file holds the data blocks of all files of a group, one behind the other in order of their names, then an
index: for every name its size, digest, layout and where its blocks lie. Its bytes depend on the group, the options and
the compressor alone, not on which groups went through mkfs.erofs together nor on the number of processes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bedplate.compose.erofs import format
from bedplate.compose.erofs.clusters import Advise, MapHeader, relocate_compact
from bedplate.compose.erofs.copying import copy_range
from bedplate.compose.erofs.placement import Placement, configurations, placement
from bedplate.compose.erofs.reader import ErofsImage
from bedplate.model.digest import identity
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.progress import NoProgress, Progress
from bedplate.toolchain.run import DEVNULL, PIPE, Toolbox, ToolError

OBJECT_FORMAT = 1
BATCH_BYTES = 24 << 20
MAX_NAME = 4096
_MAGIC = b"bpEROFS1"
_TRAILER = struct.Struct("<8sQQ32s")  # magic, where the index starts, its length, its SHA-256
_HEAD = struct.Struct("<IIIHH64s")  # files, blocks, incompatible features, algorithms, configurations and their size
INDEX_ALIGNMENT = 8  # where an index lies within 32 bytes: behind an inode without attributes, and a map header
# Name length, size, SHA-256, whether compressed, first block, blocks, bytes of tail and of index, map header.
_FILE = struct.Struct("<HQ32sBIIHI8s")
_UUID = "00000000-0000-0000-0000-000000000001"  # of the images mkfs.erofs makes for us, which nobody mounts


@dataclass(frozen=True, slots=True)
class ObjectInput:
    """A group of files to compress.

    ``key`` is a digest of all names and contents; ``size`` their bytes in sum, a hint for even batches; ``files``
    yields name and content of each, in any order, and is called only when the group has no object yet.
    """

    key: str
    size: int
    files: Callable[[], Iterator[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class CompressionOptions:
    """What mkfs.erofs is told: algorithm and level; ``cluster``, the largest compressed run, and ``extent``, the
    largest plain run in one of them, both in bytes.

    A bound on the plain run that nearly always fits the compressed one saves mkfs.erofs from searching for the longest
    run that fits: a fourth of the time, for the same size as level 3 with clusters of 64 KiB and no bound.
    """

    algorithm: str = "zstd"
    level: int = 7
    cluster: int = 131072
    extent: int = 196608

    def arguments(self) -> tuple[str, ...]:
        """The options as mkfs.erofs takes them."""
        return (
            f"-z{self.algorithm},level={self.level}",
            f"-C{self.cluster}",
            f"--max-extent-bytes={self.extent}",
            f"-b{format.BLOCK}",
        )


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
class ErofsObject:
    """An object in the cache: its file, the number of data blocks at the file's start, and its files by name.

    ``incompat``, ``algorithms`` and ``configurations`` are what the superblock of an image that uses it must announce.
    """

    key: str
    path: Path
    blocks: int
    incompat: int
    algorithms: int
    configurations: bytes
    files: Mapping[str, ObjectFile]


class ObjectStore:
    """Objects in a directory. Safe for several processes: objects appear whole, by renaming, and never change.

    Args:
        directory: Where objects lie; made when missing.
        toolbox: Where mkfs.erofs is.
    """

    def __init__(self, directory: Path, toolbox: Toolbox) -> None:
        self._directory = directory
        self._toolbox = toolbox
        self._compressor: str | None = None

    def ensure(
        self,
        groups: Sequence[ObjectInput],
        options: CompressionOptions | None = None,
        jobs: int = 2,
        progress: Progress | None = None,
    ) -> dict[str, ErofsObject]:
        """The objects of ``groups`` by group key; those the cache lacks are made with up to ``jobs`` processes.

        Raises:
            ToolError: mkfs.erofs failed.
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
        name = identity([OBJECT_FORMAT, key, list(options.arguments()), self._compressor_identity()])
        return self._directory / name[:2] / f"{name}.erofs-object"

    def _compressor_identity(self) -> str:
        """Digest of mkfs.erofs and its compression libraries: other code may make other bytes."""
        if self._compressor is None:
            root = self._toolbox.tree.root
            files = [self._toolbox.tree.find("mkfs.erofs")]
            for library in ("libzstd.so.1", "liblz4.so.1", "libdeflate.so.0", "liblzma.so.5", "libz.so.1"):
                candidate = root / "usr/lib/x86_64-linux-gnu" / library
                if candidate.is_file():
                    files.append(candidate)
            self._compressor = identity([[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files])
        return self._compressor

    def _load(self, key: str, options: CompressionOptions) -> ErofsObject | None:
        path = self.path(key, options)
        try:
            with path.open("rb") as stream:
                return _read_object(key, path, stream)
        except FileNotFoundError:
            return None
        except (ValueError, struct.error):
            # A cache entry that is not what we wrote (a crashed disk, a bit flip in its index) is made anew.
            path.unlink(missing_ok=True)
            return None

    def _make(self, groups: list[ObjectInput], options: CompressionOptions, jobs: int, progress: Progress) -> None:
        batches = _batches(groups, jobs)
        workers = max(1, jobs // len(batches))
        with (
            progress.task("compress", len(groups), "groups") as task,
            ThreadPoolExecutor(max_workers=min(jobs, len(batches))) as pool,
        ):

            def run(batch: list[ObjectInput]) -> None:
                self._make_batch(batch, options, workers)
                task.advance(len(batch))

            futures = [pool.submit(run, batch) for batch in batches]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _make_batch(self, groups: list[ObjectInput], options: CompressionOptions, workers: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self._directory) as folder:
            image = Path(folder) / "image"
            lists = self._compress(groups, options, workers, image, Path(folder))
            with ErofsImage(image) as reader:
                _split(reader, image, groups, lists, lambda key: self.path(key, options))

    def _compress(
        self, groups: list[ObjectInput], options: CompressionOptions, workers: int, image: Path, folder: Path
    ) -> list[dict[str, tuple[int, bytes, int]]]:
        """Stream the groups' files to mkfs.erofs. Returns per group name → (size, sha256, number within the group)."""
        arguments: tuple[str | Path, ...] = (
            "--tar=f", "--quiet", *options.arguments(), "-x-1", f"-T{0}", f"-U{_UUID}", f"--workers={workers}", image,
        )  # fmt: skip
        process = self._toolbox.start(
            "mkfs.erofs", *arguments, env={"TMPDIR": str(folder)}, stdin=PIPE, stdout=DEVNULL, stderr=PIPE
        )
        assert process.stdin is not None and process.stderr is not None
        errors: list[bytes] = []
        drain = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(process.stderr,))
        drain.start()
        lists: list[dict[str, tuple[int, bytes, int]]] = []
        try:
            try:
                for number, group in enumerate(groups):
                    lists.append(_write_group(process.stdin, number, group))
                process.stdin.write(bytes(1024))
                process.stdin.close()
            except BrokenPipeError:
                pass  # its exit code and last words say more
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            drain.join()
            process.stderr.close()
        if code or not image.exists():
            raise ToolError(
                "mkfs.erofs", ["mkfs.erofs", *map(str, arguments)], code, b"".join(errors).decode(errors="replace")
            )
        return lists


def _batches(groups: list[ObjectInput], jobs: int) -> list[list[ObjectInput]]:
    """Large groups alone, small ones together up to :data:`BATCH_BYTES`; the largest first, so that all end at once."""
    ordered = sorted(groups, key=lambda group: (-group.size, group.key))
    limit = max(1, min(BATCH_BYTES, sum(group.size for group in groups) // max(1, jobs)))
    batches: list[list[ObjectInput]] = []
    room = 0
    for group in ordered:
        if not batches or group.size > room:
            batches.append([])
            room = limit
        batches[-1].append(group)
        room -= group.size
    return batches


def _write_group(stream: IO[bytes], number: int, group: ObjectInput) -> dict[str, tuple[int, bytes, int]]:
    """Write a group's files as tar entries ``<group>/<file>``, each distinct content once."""
    files: dict[str, tuple[int, bytes, int]] = {}
    contents: dict[bytes, int] = {}
    for name, data in group.files():
        if name in files or len(name.encode()) > MAX_NAME:
            raise BadInput("a group names a file twice, or with a name too long", where=name)
        digest = hashlib.sha256(data).digest()
        known = contents.get(digest)
        if known is None:
            known = contents[digest] = len(contents)
            stream.write(_tar_header(f"{number:06d}/{known:08d}", len(data)))
            stream.write(data)
            if len(data) % 512:
                stream.write(bytes(-len(data) % 512))
        files[name] = (len(data), digest, known)
    return files


def _tar_header(name: str, size: int) -> bytes:
    """A ustar header (POSIX.1-1988) of a regular file, owned by root, of 1970."""
    if size >= 8 << 30:
        raise BadInput("a file of 8 GiB or more cannot go into an image", where=name)
    head = struct.pack(
        "<100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        name.encode(), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"00000000000\0", b" " * 8, b"0",
        b"", b"ustar\00000", b"", b"", b"0000000\0", b"0000000\0", b"",
    )  # fmt: skip
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def _split(
    reader: ErofsImage,
    image: Path,
    groups: list[ObjectInput],
    lists: list[dict[str, tuple[int, bytes, int]]],
    path: Callable[[str], Path],
) -> None:
    """Cut a batch's image into one object per group."""
    folders = {node.path: node for node in reader.children(reader.root)}
    superblock = reader.superblock
    configuration = configurations(reader)
    with image.open("rb") as source:
        for number, (group, files) in enumerate(zip(groups, lists, strict=True)):
            folder = folders.get(f"/{number:06d}")
            nodes = reader.children(folder) if folder is not None else []
            placements = [placement(reader, node) for node in nodes]
            if len(nodes) != len({content for _, _, content in files.values()}):
                raise BedplateError("mkfs.erofs left out files", where=f"group {group.key}")
            target = path(group.key)
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".object-", dir=target.parent, delete=False) as out:
                try:
                    done = 0
                    index = bytearray()
                    written: dict[int, int] = {}
                    for name, (size, digest, content) in sorted(files.items(), key=lambda item: item[0].encode()):
                        place = placements[content]
                        node = nodes[content]
                        if node.inode.size != size:
                            raise BedplateError("mkfs.erofs changed a file's size", where=name)
                        if content not in written:
                            written[content] = done
                            copy_range(
                                source.fileno(), place.block * format.BLOCK, out.fileno(), done * format.BLOCK,
                                place.blocks * format.BLOCK,
                            )  # fmt: skip
                            done += place.blocks
                        index += _pack_file(name, digest, size, place, written[content])
                    features = (superblock.incompat, superblock.algorithms, len(configuration), configuration)
                    head = _HEAD.pack(len(files), done, *features)
                    index[:0] = head
                    trailer = _TRAILER.pack(_MAGIC, done * format.BLOCK, len(index), hashlib.sha256(index).digest())
                    os.pwrite(out.fileno(), bytes(index) + trailer, done * format.BLOCK)
                    os.fsync(out.fileno())  # later builds trust what they find here
                    Path(out.name).rename(target)
                except BaseException:
                    Path(out.name).unlink(missing_ok=True)
                    raise


def _pack_file(name: str, digest: bytes, size: int, place: Placement, block: int) -> bytes:
    index = place.index
    if index:
        header = MapHeader.unpack(place.header)
        if place.alignment != INDEX_ALIGNMENT or not header.advise & Advise.BIG_PCLUSTER_1:
            raise BedplateError("mkfs.erofs wrote an index of a form that is not expected", where=name)
        two_byte = bool(header.advise & Advise.COMPACTED_2B)
        index = relocate_compact(index, -(-size // format.BLOCK), INDEX_ALIGNMENT, two_byte, -place.block)
    encoded = name.encode()
    return (
        _FILE.pack(
            len(encoded), size, digest, bool(index), block, place.blocks, len(place.tail), len(index), place.header
        )
        + encoded
        + place.tail
        + index
    )


def _read_object(key: str, path: Path, stream: IO[bytes]) -> ErofsObject:
    """Parse an object file.

    Raises:
        ValueError, struct.error: not an object, or damaged.
    """
    size = os.fstat(stream.fileno()).st_size
    stream.seek(max(0, size - _TRAILER.size))
    magic, start, length, digest = _TRAILER.unpack(stream.read())
    if magic != _MAGIC or start + length + _TRAILER.size != size or start % format.BLOCK:
        raise ValueError("not an object")
    stream.seek(start)
    data = stream.read(length)
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("damaged index")
    count, blocks, incompat, algorithms, configuration_size, configurations = _HEAD.unpack_from(data)
    if blocks * format.BLOCK != start:
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
    return ErofsObject(key, path, blocks, incompat, algorithms, configurations[:configuration_size], files)
