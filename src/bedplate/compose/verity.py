"""dm-verity: the hash tree that binds every block of a root file system to one root hash.

Source: the kernel's Documentation/admin-guide/device-mapper/verity.rst (version 1 of the format) and the superblock
that cryptsetup's veritysetup writes. The salt is hashed before the data. hashlib takes about as long as veritysetup and
needs no program, so the tree is made here; tests hold it against ``veritysetup``.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bedplate.model.errors import BadInput, BedplateError

BLOCK = 4096
DIGEST = 32
_PER_BLOCK = BLOCK // DIGEST
_MAGIC = b"verity\0\0"
_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6x256s168x")
_PIECE_BLOCKS = 2048
MAX_SALT = 256


@dataclass(frozen=True, slots=True)
class VerityResult:
    """What protects an image: ``root_hash`` and ``salt`` in hex, sizes in bytes, ``data_blocks`` of 4 KiB, and the hex
    SHA-256 of image and hash data as files."""

    root_hash: str
    salt: str
    uuid: UUID
    data_blocks: int
    hash_bytes: int
    image_sha256: str
    hash_sha256: str


@dataclass(frozen=True, slots=True)
class VeritySuperblock:
    """The superblock at the start of hash data."""

    uuid: UUID
    salt: str
    data_blocks: int
    data_block_bytes: int
    hash_block_bytes: int
    algorithm: str

    @classmethod
    def unpack(cls, data: bytes) -> VeritySuperblock:
        """The superblock in the first 512 bytes of hash data.

        Raises:
            BadInput: not a dm-verity superblock of version 1.
        """
        if len(data) < _SUPERBLOCK.size:
            raise BadInput("too short for a dm-verity superblock")
        magic, version, kind, uuid, algorithm, data_block, hash_block, blocks, salt_size, salt = (
            _SUPERBLOCK.unpack_from(data)
        )
        if magic != _MAGIC or version != 1 or kind != 1 or salt_size > MAX_SALT:
            raise BadInput("no dm-verity superblock of version 1")
        name = algorithm.rstrip(b"\0").decode("ascii", "replace")
        return cls(UUID(bytes=uuid), salt[:salt_size].hex(), blocks, data_block, hash_block, name)

    def pack(self) -> bytes:
        """The superblock, padded to a block."""
        salt = bytes.fromhex(self.salt)
        return _SUPERBLOCK.pack(
            _MAGIC, 1, 1, self.uuid.bytes, self.algorithm.encode(), self.data_block_bytes, self.hash_block_bytes,
            self.data_blocks, len(salt), salt,
        ).ljust(BLOCK, b"\0")  # fmt: skip


def format_verity(image: Path, out: Path, *, salt: bytes, uuid: UUID) -> VerityResult:
    """Write the hash data of ``image`` to ``out``, atomically: superblock, then the tree, root first.

    Args:
        image: The file system; its size is a multiple of 4096 bytes.
        salt: At most 256 bytes. With one salt for all releases, equal blocks have equal leaf hashes, and the leaves are
            an index by which an update finds the blocks a node already has.
        uuid: The hash data's UUID.

    Raises:
        BadInput: an image that is empty or no whole number of blocks, or a salt too long.
    """
    size = image.stat().st_size
    if size == 0 or size % BLOCK or len(salt) > MAX_SALT:
        raise BadInput(
            "a verity image has a whole number of 4096-byte blocks, a salt at most 256 bytes", where=str(image)
        )
    leaves, digest = _leaves(image, size // BLOCK, salt)
    levels, root = _tree(leaves, salt)
    superblock = VeritySuperblock(uuid, salt.hex(), size // BLOCK, BLOCK, BLOCK, "sha256")
    data = b"".join((superblock.pack(), *reversed(levels)))
    with tempfile.NamedTemporaryFile(prefix=f".{out.name}-", dir=out.parent, delete=False) as stream:
        try:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            Path(stream.name).rename(out)
        except BaseException:
            Path(stream.name).unlink(missing_ok=True)
            raise
    return VerityResult(
        root.hex(), salt.hex(), uuid, size // BLOCK, len(data), digest, hashlib.sha256(data).hexdigest()
    )


def tree_of(data: bytes, salt: bytes, uuid: UUID) -> bytes:
    """Hash data of a file held in memory, filled up with zeros to whole blocks: an index of its blocks for updates."""
    padded = data + bytes(-len(data) % BLOCK)
    levels, _ = _tree(_hash_blocks(padded, salt), salt)
    superblock = VeritySuperblock(uuid, salt.hex(), len(padded) // BLOCK, BLOCK, BLOCK, "sha256")
    return b"".join((superblock.pack(), *reversed(levels)))


def _leaves(image: Path, blocks: int, salt: bytes) -> tuple[bytes, str]:
    """Hashes of all data blocks behind one another, and the hex SHA-256 of the image as a file.

    Both need all of the data: the file's digest is taken by a second thread while the blocks are hashed.
    """
    whole = hashlib.sha256()
    leaves: list[bytes] = []
    with image.open("rb", buffering=0) as stream, ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(whole.update, b"")
        done = 0
        while done < blocks:
            count = min(_PIECE_BLOCKS, blocks - done)
            data = stream.read(count * BLOCK)
            if len(data) != count * BLOCK:
                raise BedplateError("the image became shorter while it was read", where=str(image))
            pending.result()
            pending = pool.submit(whole.update, data)
            leaves.append(_hash_blocks(data, salt))
            done += count
        pending.result()
    return b"".join(leaves), whole.hexdigest()


def _hash_blocks(data: bytes, salt: bytes) -> bytes:
    sha256 = hashlib.sha256
    return b"".join([sha256(salt + data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK)])


def _tree(leaves: bytes, salt: bytes) -> tuple[list[bytes], bytes]:
    """Levels of hash blocks, the leaves' level first, and the root hash: the hash of the top level's only block."""
    levels = [_pad(leaves)]
    while len(levels[-1]) > BLOCK:
        levels.append(_pad(_hash_blocks(levels[-1], salt)))
    if len(leaves) == DIGEST:
        # A single data block needs no level at all: its hash is the root hash.
        return [], leaves
    return levels, _hash_blocks(levels[-1], salt)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def root_hash_of(image: Path, superblock: VeritySuperblock) -> str:
    """The root hash that ``image`` has under the salt of ``superblock``, in hex: what a check compares.

    Raises:
        BadInput: another algorithm or block size, or an image of another size.
    """
    if (superblock.algorithm, superblock.data_block_bytes, superblock.hash_block_bytes) != ("sha256", BLOCK, BLOCK):
        raise BadInput("only sha256 over blocks of 4096 bytes is known", where=str(image))
    if image.stat().st_size < superblock.data_blocks * BLOCK:
        raise BadInput("the image is shorter than its verity superblock says", where=str(image))
    salt = bytes.fromhex(superblock.salt)
    return _tree(_leaves(image, superblock.data_blocks, salt)[0], salt)[1].hex()
