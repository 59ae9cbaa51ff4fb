"""An OCI base image of the root's content: one layer, as one archive, the same bytes for the same content.

The layer is compressed with zstd, which the specification allows and containerd, podman and BuildKit read: its library
comes with Bedplate, so that every machine makes the same bytes.

Source: OCI image specification 1.1 (image layout, manifest, config, annotations).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import zstandard

from bedplate.compose.formats.base import FormatJob, Origin
from bedplate.compose.formats.content import tar_stream
from bedplate.model.digest import canonical_json, sha256

LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LEVEL = 6
# zstd cuts its input into jobs when it has threads, and the bytes are the same for any number of them but none.
_THREADS = 2
_PIECE = 1 << 20
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class _Blob:
    kind: str
    sha256: str
    size: int

    @property
    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.kind, "digest": f"sha256:{self.sha256}", "size": self.size}


class Oci:
    """See :class:`bedplate.compose.formats.base.Format`."""

    name = "oci"
    title = "OCI base image as an archive (podman, containerd, registries)"
    file = "base.oci.tar"
    origin = Origin.ROOT
    owned_set = ""
    revision = 2

    def write(self, job: FormatJob, target: Path) -> None:
        """See the protocol."""
        with tempfile.TemporaryFile(dir=target.parent) as layer, job.root() as system:
            blob, plain = _pack(tar_stream(system, job.epoch), layer)
            created = datetime.fromtimestamp(job.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            labels = image_labels(job, created)
            config = canonical_json(
                {
                    "created": created,
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {
                        "Env": [_PATH, "container=oci"],
                        "Cmd": ["/usr/bin/bash"],
                        "WorkingDir": "/",
                        "Labels": labels,
                    },
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain}"]},
                    "history": [{"created": created, "created_by": "bedplate", "comment": "root content"}],
                }
            )
            manifest = canonical_json(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": _Blob(CONFIG, sha256(config), len(config)).descriptor,
                    "layers": [blob.descriptor],
                    "annotations": labels,
                }
            )
            named = {
                "io.containerd.image.name": f"localhost/{job.name}:{job.version}",
                "org.opencontainers.image.ref.name": job.version,
            }
            entry = {**_Blob(MANIFEST, sha256(manifest), len(manifest)).descriptor, "annotations": named}
            index = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
            small = {
                "oci-layout": canonical_json({"imageLayoutVersion": "1.0.0"}),
                "index.json": index,
                f"blobs/sha256/{sha256(config)}": config,
                f"blobs/sha256/{sha256(manifest)}": manifest,
            }
            with target.open("xb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for name, data in small.items():
                    archive.addfile(_member(name, len(data), job.epoch), io.BytesIO(data))
                layer.seek(0)
                archive.addfile(_member(f"blobs/sha256/{blob.sha256}", blob.size, job.epoch), layer)


def image_labels(job: FormatJob, created: str) -> dict[str, str]:
    """Annotations of the image: the specification's own names, then what leads back to the build."""
    facts: Mapping[str, str] = job.labels
    wanted = {
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.title": facts.get("PRETTY_NAME", job.name),
        "org.opencontainers.image.version": job.version,
        "org.opencontainers.image.url": facts.get("HOME_URL", ""),
        "org.opencontainers.image.vendor": facts.get("NAME", ""),
        "org.opencontainers.image.ref.name": job.version,
        "org.bedplate.image.id": facts.get("IMAGE_ID", ""),
        "org.bedplate.build.id": facts.get("BUILD_ID", ""),
        "org.bedplate.lock.sha256": facts.get("lock", ""),
        # What an SBOM tool needs to know what the packages are: ours, listed in this database.
        "org.bedplate.packages": facts.get("packages", ""),
    }
    return {name: value for name, value in wanted.items() if value}


def _pack(stream: Iterator[bytes], out: BinaryIO) -> tuple[_Blob, str]:
    """Compress ``stream`` into ``out``; gives the blob and the hex SHA-256 of what was compressed."""
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=_THREADS).compressobj()

    def put(data: bytes) -> None:
        nonlocal size
        out.write(data)
        packed.update(data)
        size += len(data)

    for piece in _batched(stream):
        plain.update(piece)
        put(compressor.compress(piece))
    put(compressor.flush())
    return _Blob(LAYER, packed.hexdigest(), size), plain.hexdigest()


def _batched(stream: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: most of a tree's files are small."""
    waiting: list[bytes] = []
    count = 0
    for piece in stream:
        waiting.append(piece)
        count += len(piece)
        if count >= _PIECE:
            yield b"".join(waiting)
            waiting, count = [], 0
    yield b"".join(waiting)


def _member(name: str, size: int, epoch: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, epoch, 0o644
    return info
