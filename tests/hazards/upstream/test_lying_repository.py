"""An rpm-md repository that lies: signature, digests, sizes, XML tricks. No rpm is needed to be lied to."""

from __future__ import annotations

import gzip
import hashlib
import time
from pathlib import Path

import pysequoia
import pytest
import zstandard

from bedplate.model.errors import TrustError
from bedplate.upstream.archive import open_index
from bedplate.upstream.index import VerifiedIndex
from support.mirror import context, definition, fingerprint, new_key, serve

PRIMARY = """<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">
<package type="rpm"><name>hello</name><arch>x86_64</arch><version epoch="0" ver="1" rel="1"/>
<checksum type="{kind}" pkgid="YES">{digest}</checksum><summary/><description/><packager/><url/>
<time file="1" build="1"/><size package="5" installed="5" archive="5"/><location {base}href="{href}"/>
<format><rpm:license>MIT</rpm:license><rpm:sourcerpm>hello-1-1.src.rpm</rpm:sourcerpm></format>
</package></metadata>
"""
REPOMD = """<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>
<data type="primary"><checksum type="{kind}">{digest}</checksum><location href="{href}"/>
<timestamp>{time}</timestamp><size>{size}</size><open-size>{open_size}</open-size></data></repomd>
"""


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    return new_key()


class Repository:
    """A repository of one package, each part of which a test may falsify before :meth:`files`."""

    def __init__(self, key: pysequoia.Tsk) -> None:
        self.key = key
        self.primary = PRIMARY.format(kind="sha256", digest="a" * 64, href="hello.rpm", base="").encode()
        self.packed: bytes | None = None
        self.name = "repodata/primary.xml.zst"
        self.href = ""
        self.kind = "sha256"
        self.open_size: int | None = None
        self.time = int(time.time()) - 3600
        self.armoured = True

    def files(self) -> dict[str, bytes]:
        packed = zstandard.compress(self.primary) if self.packed is None else self.packed
        repomd = REPOMD.format(
            kind=self.kind,
            digest=hashlib.sha256(packed).hexdigest(),
            href=self.href or self.name,
            time=self.time,
            size=len(packed),
            open_size=len(self.primary) if self.open_size is None else self.open_size,
        ).encode()
        return {"repodata/repomd.xml": repomd, "repodata/repomd.xml.asc": self.sign(repomd), self.name: packed}

    def sign(self, data: bytes) -> bytes:
        return pysequoia.sign(self.key.signer(), data, mode=pysequoia.SignatureMode.DETACHED, armor=self.armoured)


def open_from(files: dict[str, bytes], tmp_path: Path, key: pysequoia.Tsk, **suite: object) -> VerifiedIndex:
    upstream = definition("stable", fingerprints=[fingerprint(key)], format="rpm", **suite)
    upstream = upstream.model_copy(update={"file_lists": "primary"})
    with serve(files) as mirror:
        (index,) = open_index(upstream, context(tmp_path, [mirror.url], key))
    return index


def refused(files: dict[str, bytes], tmp_path: Path, key: pysequoia.Tsk, **suite: object) -> str:
    with pytest.raises(TrustError) as caught:
        open_from(files, tmp_path, key, **suite)
    assert not list((tmp_path / "state").rglob("*.json"))
    return str(caught.value)


@pytest.mark.parametrize("armoured", [True, False], ids=["armoured", "binary"])
def test_honest_repository_is_read(tmp_path: Path, key: pysequoia.Tsk, armoured: bool) -> None:
    repository = Repository(key)
    repository.armoured = armoured
    assert [p.name for p in open_from(repository.files(), tmp_path, key).packages] == ["hello"]


def test_repomd_altered_after_signing(tmp_path: Path, key: pysequoia.Tsk) -> None:
    files = Repository(key).files()
    files["repodata/repomd.xml"] += b" "
    assert "was altered" in refused(files, tmp_path, key)


def test_repomd_signed_by_unknown_key(tmp_path: Path, key: pysequoia.Tsk) -> None:
    assert "is not a pinned key" in refused(Repository(new_key()).files(), tmp_path, key)


def test_repomd_without_signature(tmp_path: Path, key: pysequoia.Tsk) -> None:
    files = Repository(key).files()
    del files["repodata/repomd.xml.asc"]
    assert "is not signed" in refused(files, tmp_path, key)


def test_signature_that_is_rubbish(tmp_path: Path, key: pysequoia.Tsk) -> None:
    files = Repository(key).files()
    files["repodata/repomd.xml.asc"] = b"<html>404</html>"
    assert "signature" in refused(files, tmp_path, key)


def test_strangers_signature_before_the_good_one(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.armoured = False
    files = repository.files()
    stranger = Repository(new_key())
    stranger.armoured = False
    files["repodata/repomd.xml.asc"] = stranger.sign(files["repodata/repomd.xml"]) + files["repodata/repomd.xml.asc"]
    assert len(open_from(files, tmp_path, key).packages) == 1


def test_primary_swapped(tmp_path: Path, key: pysequoia.Tsk) -> None:
    files = Repository(key).files()
    files["repodata/primary.xml.zst"] = zstandard.compress(b"evil")
    assert "not the file the index names" in refused(files, tmp_path, key)


def test_primary_decompresses_to_a_bomb(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.packed = zstandard.compress(bytes(64 << 20))
    assert "more than the" in refused(repository.files(), tmp_path, key)


def test_gzip_bomb(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.name = "repodata/primary.xml.gz"
    repository.packed = gzip.compress(bytes(16 << 20), 1)
    assert "more than the" in refused(repository.files(), tmp_path, key)


def test_zstd_frame_that_wants_a_huge_window(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    repository.packed = compressor.compress(repository.primary) + compressor.flush()
    assert "damaged compressed data" in refused(repository.files(), tmp_path, key)


def test_entity_expansion(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.primary = repository.primary.replace(
        b"<metadata", b'<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>\n<metadata', 1
    )
    assert "entities" in refused(repository.files(), tmp_path, key)


@pytest.mark.parametrize("encoding", ["utf-16", "UTF-7"])
def test_xml_in_an_encoding_that_hides_entities(tmp_path: Path, key: pysequoia.Tsk, encoding: str) -> None:
    repository = Repository(key)
    text = repository.primary.decode().replace("UTF-8", encoding)
    repository.primary = text.encode("utf-16") if encoding == "utf-16" else text.encode()
    assert "is not read" in refused(repository.files(), tmp_path, key)


def test_package_outside_the_repository(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.primary = PRIMARY.format(kind="sha256", digest="a" * 64, href="../../hello.rpm", base="").encode()
    assert "leaves the repository" in refused(repository.files(), tmp_path, key)


def test_package_on_another_host(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    base = 'xml:base="http://evil.example" '
    repository.primary = PRIMARY.format(kind="sha256", digest="a" * 64, href="hello.rpm", base=base).encode()
    assert "outside the repository" in refused(repository.files(), tmp_path, key)


def test_package_with_a_weak_digest(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.primary = PRIMARY.format(kind="sha", digest="a" * 40, href="hello.rpm", base="").encode()
    assert "has no SHA-256" in refused(repository.files(), tmp_path, key)


def test_index_with_a_weak_digest(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.kind = "md5"
    assert "no primary index with a SHA-256" in refused(repository.files(), tmp_path, key)


def test_index_outside_the_repository(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.href = "../../../etc/shadow"
    assert "leaves the repository" in refused(repository.files(), tmp_path, key)


def test_primary_that_is_no_xml(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.primary = b"<metadata><package"
    assert "not sound" in refused(repository.files(), tmp_path, key)


def test_repository_older_than_one_seen_before(tmp_path: Path, key: pysequoia.Tsk) -> None:
    newer, older = Repository(key), Repository(key)
    older.time = newer.time - 1000
    open_from(newer.files(), tmp_path, key)
    with pytest.raises(TrustError, match="older than one seen before"):
        open_from(older.files(), tmp_path, key)


def test_repository_too_old(tmp_path: Path, key: pysequoia.Tsk) -> None:
    repository = Repository(key)
    repository.time -= 20 * 86400
    assert "10 are allowed" in refused(repository.files(), tmp_path, key, max_age_days=10)
