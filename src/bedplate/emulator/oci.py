"""A small OCI image as one archive, made from given files, the same bytes for the same files.

Source: OCI image specification 1.1 (image layout in a tar archive), as ``ctr images import`` reads it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.emulator.report import PROOF
from bedplate.model.digest import canonical_json, sha256
from bedplate.model.errors import BadInput

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class ContainerFile:
    """A file or, with a ``target``, a symbolic link. ``path`` is relative to the container's root."""

    path: str
    data: bytes = b""
    mode: int = 0o755
    target: str = ""


def oci_archive(
    files: Sequence[ContainerFile],
    command: Sequence[str],
    *,
    name: str = "bedplate.local/proof:1",
    architecture: str = "amd64",
) -> bytes:
    """An OCI archive with one layer.

    Args:
        files: Contents; the directories above them are added.
        command: What runs when a container is started from it.
        name: Reference it is imported under.

    Raises:
        BadInput: a path is absolute, climbs, or comes twice.
    """
    layer = _layer(files)
    config = canonical_json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}"]},
        }
    )
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    # containerd takes the reference from its own annotation; the OCI one holds the tag for everyone else.
    annotations = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    entry = {**_descriptor(_MANIFEST, manifest), "annotations": annotations}
    index = canonical_json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]})
    blobs = {f"blobs/sha256/{sha256(blob)}": blob for blob in (layer, config, manifest)}
    layout = canonical_json({"imageLayoutVersion": "1.0.0"})
    return _tar([("oci-layout", layout), ("index.json", index), *sorted(blobs.items())])


def proof_command(shell: str = "/bin/sh") -> list[str]:
    """The command of a container that proves it ran, for files that hold a shell at ``shell``."""
    return [shell, "-c", f"echo {PROOF}"]


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{sha256(blob)}", "size": len(blob)}


def _layer(files: Sequence[ContainerFile]) -> bytes:
    stream = io.BytesIO()
    seen: set[str] = set()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in sorted(files, key=lambda one: one.path):
            parts = entry.path.split("/")
            if not entry.path or ".." in parts or "" in parts or entry.path in seen:
                raise BadInput("a path that is absolute, climbs or comes twice", where=entry.path)
            for depth in range(1, len(parts)):
                directory = "/".join(parts[:depth])
                if directory not in seen:
                    seen.add(directory)
                    tar.addfile(_info(directory, tarfile.DIRTYPE, 0o755))
            seen.add(entry.path)
            info = _info(entry.path, tarfile.SYMTYPE if entry.target else tarfile.REGTYPE, entry.mode)
            info.linkname = entry.target
            info.size = 0 if entry.target else len(entry.data)
            tar.addfile(info, io.BytesIO(entry.data))
    return stream.getvalue()


def _tar(members: Sequence[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = _info(name, tarfile.REGTYPE, 0o644)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    return info
