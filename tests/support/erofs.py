"""EROFS objects made without mkfs.erofs, and trees of entries over them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import zstandard

from bedplate.compose.erofs import format
from bedplate.compose.erofs.clusters import Head, Kind, encode_compact
from bedplate.compose.erofs.linker import LinkResult, link
from bedplate.compose.erofs.objects import INDEX_ALIGNMENT, ErofsObject, Features, ObjectFile
from bedplate.model.package import FileKind
from bedplate.model.tree import FromGroup, TreeEntry

EPOCH = 1_700_000_000
IMAGE_UUID = UUID("00000000-0000-0000-0000-0000000000ab")
RUN = 3 * format.BLOCK + 100  # not a whole number of blocks: runs start in the middle of a logical cluster
_HEADER = bytes.fromhex("0000000007000300")  # 2-byte entries, big physical clusters, zstd
_CONFIGURATION = bytes.fromhex("0600000c00000000")


def make_object(directory: Path, key: str, files: Mapping[str, bytes]) -> ErofsObject:
    """An object of ``files``: zstd in runs of :data:`RUN` bytes where that saves blocks, flat otherwise."""
    data = bytearray()
    found: dict[str, ObjectFile] = {}
    for name, content in sorted(files.items()):
        blocks, heads = _compress(content)
        digest = hashlib.sha256(content).digest()
        start = len(data) // format.BLOCK
        if heads:
            index = encode_compact(heads, -(-len(content) // format.BLOCK), INDEX_ALIGNMENT, True)
            count = len(blocks) // format.BLOCK
            found[name] = ObjectFile(len(content), digest, True, start, count, b"", _HEADER, index)
            data += blocks
        else:
            whole = len(content) // format.BLOCK * format.BLOCK
            count = whole // format.BLOCK
            found[name] = ObjectFile(len(content), digest, False, start, count, content[whole:], bytes(8), b"")
            data += content[:whole]
    path = directory / key
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).digest()
    return ErofsObject(key, path, len(data) // format.BLOCK, sha256, Features(3, 8, _CONFIGURATION), found)


def _compress(content: bytes) -> tuple[bytes, list[Head]]:
    data = bytearray()
    heads: list[Head] = []
    for at in range(0, len(content), RUN):
        piece = content[at : at + RUN]
        packed = zstandard.compress(piece, 1)
        if len(piece) != RUN or len(packed) > 2 * format.BLOCK:
            return b"", []
        packed = bytes(-len(packed) % format.BLOCK) + packed
        heads.append(
            Head(
                at // format.BLOCK,
                Kind.HEAD1,
                at % format.BLOCK,
                len(data) // format.BLOCK,
                len(packed) // format.BLOCK,
            )
        )
        data += packed
    end = len(content)
    if end % format.BLOCK:
        heads.append(Head(end // format.BLOCK, Kind.PLAIN, end % format.BLOCK, len(data) // format.BLOCK, 1))
    return bytes(data), heads


def directory(path: str, **changes: object) -> TreeEntry:
    """A directory of root."""
    values = {"mode": 0o755, "uid": 0, "gid": 0, "mtime": EPOCH, "owner": "files:test", **changes}
    return TreeEntry(path, FileKind.DIRECTORY, **values)  # type: ignore[arg-type]


def file(path: str, data: bytes, group: str = "g", **changes: object) -> TreeEntry:
    """A file whose content lies in ``group`` under its path."""
    values: dict[str, object] = {"mode": 0o644, "uid": 0, "gid": 0, "mtime": EPOCH, "owner": "package:test"}
    values.update({"content": FromGroup(group, path), **changes})
    return TreeEntry(path, FileKind.FILE, size=len(data), **values)  # type: ignore[arg-type]


def symlink(path: str, target: str, **changes: object) -> TreeEntry:
    """A symbolic link."""
    values = {"mode": 0o777, "uid": 0, "gid": 0, "mtime": EPOCH, "owner": "package:test", **changes}
    return TreeEntry(path, FileKind.SYMLINK, target=target, **values)  # type: ignore[arg-type]


def link_files(directory_path: Path, files: Mapping[str, bytes], *more: TreeEntry) -> tuple[Path, LinkResult]:
    """An image of ``files`` (absolute paths one level deep or below directories in ``more``) and ``more``."""
    objects = {"g": make_object(directory_path, "g", files)}
    entries = [*more, *(file(path, content) for path, content in files.items())]
    out = directory_path / "image.erofs"
    return out, link(entries, objects, out, uuid=IMAGE_UUID, epoch_time=EPOCH)
