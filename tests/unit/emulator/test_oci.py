"""OCI archives: same bytes, and every descriptor true."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from bedplate.emulator.oci import ContainerFile, oci_archive
from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput

FILES = [ContainerFile("usr/bin/true", b"\x7fELF"), ContainerFile("bin", target="usr/bin")]


def test_same_files_give_the_same_bytes_in_any_order() -> None:
    assert oci_archive(FILES, ["/bin/true"]) == oci_archive(FILES[::-1], ["/bin/true"])


def test_descriptors_name_what_is_there() -> None:
    with tarfile.open(fileobj=io.BytesIO(oci_archive(FILES, ["/bin/true"]))) as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    manifest_entry = json.loads(blobs["index.json"])["manifests"][0]
    manifest = json.loads(blobs["blobs/sha256/" + manifest_entry["digest"].removeprefix("sha256:")])
    for descriptor in [manifest_entry, manifest["config"], *manifest["layers"]]:
        blob = blobs["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
        assert sha256(blob) == descriptor["digest"].removeprefix("sha256:")
        assert len(blob) == descriptor["size"]


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "a//b", "", "bin"])
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(BadInput):
        oci_archive([*FILES, ContainerFile(path, b"")], ["/bin/true"])
