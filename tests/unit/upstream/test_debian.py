"""An honest Debian archive is read, whatever its habits, and at the cost of what changed."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from datetime import timedelta
from pathlib import Path

import pysequoia
import pytest

from bedplate.upstream.archive import open_index
from bedplate.upstream.download import Wanted, fetch
from bedplate.upstream.openpgp import VerifiedText
from support.mirror import DebianArchive, Package, context, definition, fingerprint, new_key, serve


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    return new_key()


def test_suites_are_opened_and_packages_fetched(key: pysequoia.Tsk, tmp_path: Path) -> None:
    stable = DebianArchive(key)
    security = DebianArchive(key, suite="stable-security", packages=[Package("hello", "1.0-1+u1")])
    suites = ("stable", "stable-security")
    with serve({**stable.files(), **security.files()}) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], key, suites=suites)
        indexes = open_index(definition(*suites, fingerprints=[fingerprint(key)]), where)
        assert [(index.suite, len(index.packages)) for index in indexes] == [("stable", 2), ("stable-security", 1)]
        wanted = [Wanted(p.location, p.suite, p.name) for index in indexes for p in index.packages]
        assert fetch(wanted, where.store, {"test": where.mirrors}).downloaded == 3


def test_second_opening_asks_for_the_signed_file_only(key: pysequoia.Tsk, tmp_path: Path) -> None:
    archive = DebianArchive(key)
    with serve(archive.files()) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], key)
        upstream = definition("stable", fingerprints=[fingerprint(key)])
        (first,) = open_index(upstream, where)
        assert any("by-hash" in path for path in mirror.paths())
        mirror.requests.clear()
        (second,) = open_index(upstream, where)
        assert mirror.paths() == ["debian/dists/stable/InRelease"]
        assert list(first.packages) == list(second.packages)
        archive.packages.append(Package("new"))
        archive.date += timedelta(minutes=5)
        mirror.files.update(archive.files())
        (third,) = open_index(upstream, where)
        assert [package.name for package in third.packages] == ["hello", "world", "new"]


def test_suite_may_be_asked_for_by_its_codename(key: pysequoia.Tsk, tmp_path: Path) -> None:
    files = DebianArchive(key, suite="stable", codename="trixie").files()
    renamed = {path.replace("dists/stable", "dists/trixie"): content for path, content in files.items()}
    with serve(renamed) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], key, suites=("trixie",))
        (index,) = open_index(definition("trixie", fingerprints=[fingerprint(key)]), where)
        assert len(index.packages) == 2


def test_archive_without_xz_and_by_hash(key: pysequoia.Tsk, tmp_path: Path) -> None:
    archive = DebianArchive(key)
    text = archive.packages_text()
    packed = gzip.compress(text)
    release = archive.release(text, packed).replace(b"Packages.xz", b"Packages.gz")
    release = release.replace(b"Acquire-By-Hash: yes\n", b"")
    root = "debian/dists/stable"
    files = {f"{root}/InRelease": archive.clearsign(release), f"{root}/main/binary-amd64/Packages.gz": packed}
    with serve(files) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], key)
        (index,) = open_index(definition("stable", fingerprints=[fingerprint(key)]), where)
        assert len(index.packages) == 2


def test_all_kept_apart_from_the_architecture(key: pysequoia.Tsk, tmp_path: Path) -> None:
    """Archives that do not repeat "all" packages in every architecture's index say so."""
    archive = DebianArchive(key, packages=[Package("native")])
    common = dataclasses.replace(archive, packages=[Package("common", arch="all")]).packages_text()
    native = archive.packages_text()
    lines = archive.release(native, b"").decode().splitlines()
    lines = [line for line in lines if not line.endswith(".xz")]
    lines.append(f" {hashlib.sha256(common).hexdigest()} {len(common)} main/binary-all/Packages")
    release = "\n".join(lines).replace("Architectures: amd64", "Architectures: all amd64").encode()
    root = "debian/dists/stable"
    files = {
        f"{root}/InRelease": archive.clearsign(release),
        f"{root}/main/binary-amd64/Packages": native,
        f"{root}/main/binary-all/Packages": common,
    }
    with serve(files) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], key)
        (index,) = open_index(definition("stable", fingerprints=[fingerprint(key)]), where)
        assert [package.name for package in index.packages] == ["native", "common"]


def test_verified_text_cannot_be_made_by_others() -> None:
    with pytest.raises(TypeError, match="only"):
        VerifiedText(object(), b"data", b"data", frozenset({"me"}))
