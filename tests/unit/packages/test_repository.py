"""Repositories: the same bytes from the same packages, nothing read twice, one whole state after another."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from xml.etree import ElementTree

import pysequoia
import pytest
import solv

from bedplate.model.errors import BadInput
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra
from bedplate.packages import repository
from bedplate.packages.repository import RepositoryPackage, write_repository
from bedplate.packages.rpm.sign import sign_rpm
from support.packages import TestKey, write_demo

REVISION = 1_700_000_000
COMMON = "{http://linux.duke.edu/metadata/common}"
RPM = "{http://linux.duke.edu/metadata/rpm}"


def make_packages(directory: Path, *names: str) -> list[RepositoryPackage]:
    """Packages below ``directory/Packages``."""
    folder = directory / "Packages"
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    for name in names:
        nevra = Nevra(name, Evr(1, "1.0", "2"), "x86_64")
        written = write_demo(folder / nevra.filename, nevra=nevra)
        result.append(RepositoryPackage(written.path, f"Packages/{nevra.filename}", written.sha256))
    return result


def metadata(directory: Path, kind: str) -> bytes:
    """The uncompressed metadata of one kind, digests checked against repomd.xml."""
    namespace = "{http://linux.duke.edu/metadata/repo}"
    root = ElementTree.fromstring((directory / "repodata/repomd.xml").read_bytes())
    record = next(one for one in root.iter(f"{namespace}data") if one.get("type") == kind)
    location = record.find(f"{namespace}location")
    assert location is not None
    packed = (directory / str(location.get("href"))).read_bytes()
    data = gzip.decompress(packed)
    assert record.findtext(f"{namespace}checksum") == hashlib.sha256(packed).hexdigest()
    assert record.findtext(f"{namespace}open-checksum") == hashlib.sha256(data).hexdigest()
    assert (record.findtext(f"{namespace}size"), record.findtext(f"{namespace}open-size")) == (
        str(len(packed)),
        str(len(data)),
    )
    return data


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file of the metadata."""
    return {path.name: path.read_bytes() for path in sorted((directory / "repodata").iterdir())}


def test_same_packages_same_bytes_in_any_order(tmp_path: Path) -> None:
    one = make_packages(tmp_path / "one", "alpha", "beta")
    two = make_packages(tmp_path / "two", "alpha", "beta")
    for package in two:
        os.utime(package.path, (1, 1))
    first = write_repository(tmp_path / "one", one, revision=REVISION, cache=tmp_path / "c1")
    second = write_repository(tmp_path / "two", two[::-1], revision=REVISION, cache=tmp_path / "c2")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    assert first.repomd_sha256 == second.repomd_sha256


def test_unchanged_packages_are_not_read_again(tmp_path: Path) -> None:
    packages = make_packages(tmp_path, "alpha", "beta")
    first = write_repository(tmp_path, packages, revision=REVISION, cache=tmp_path / "cache")
    before = snapshot(tmp_path)
    packages[0].path.unlink()
    again = write_repository(tmp_path, packages, revision=REVISION, cache=tmp_path / "cache")
    assert (first.described, again.described) == (2, 0)
    assert snapshot(tmp_path) == before
    more = make_packages(tmp_path, "gamma")
    assert write_repository(tmp_path, packages + more, revision=REVISION, cache=tmp_path / "cache").described == 1


def test_damaged_cache_entry_is_made_again(tmp_path: Path) -> None:
    packages = make_packages(tmp_path, "alpha")
    write_repository(tmp_path, packages, revision=REVISION, cache=tmp_path / "cache")
    before = snapshot(tmp_path)
    for entry in (tmp_path / "cache").rglob("*.json"):
        entry.write_bytes(entry.read_bytes()[:20])
    assert write_repository(tmp_path, packages, revision=REVISION, cache=tmp_path / "cache").described == 1
    assert snapshot(tmp_path) == before


def test_signature_of_the_index_holds(tmp_path: Path) -> None:
    key = TestKey.generate()
    packages = make_packages(tmp_path, "alpha")
    write_repository(tmp_path, packages, revision=REVISION, cache=tmp_path / "cache", signer=key)
    repomd = (tmp_path / "repodata/repomd.xml").read_bytes()
    armoured = (tmp_path / "repodata/repomd.xml.asc").read_bytes()
    assert armoured.startswith(b"-----BEGIN PGP SIGNATURE-----")
    certificate = pysequoia.Cert.from_bytes(key.certificate)
    result = pysequoia.verify(
        bytes=repomd, store=lambda ids: [certificate], signature=pysequoia.Sig.from_bytes(armoured)
    )
    assert result.valid_sigs


def test_solver_reads_it(tmp_path: Path) -> None:
    packages = make_packages(tmp_path, "alpha", "beta")
    write_repository(tmp_path, packages, revision=REVISION, cache=tmp_path / "cache")
    pool = solv.Pool()
    repo = pool.add_repo("test")
    for kind, flags in (("primary", 0), ("filelists", solv.Repo.REPO_EXTEND_SOLVABLES)):
        path = next((tmp_path / "repodata").glob(f"*-{kind}.xml.gz"))
        assert repo.add_rpmmd(solv.xfopen(str(path)), None, flags)
    pool.createwhatprovides()
    assert sorted(str(one) for one in repo.solvables) == ["alpha-1:1.0-2.x86_64", "beta-1:1.0-2.x86_64"]
    source = pool.Dep("bedplate-source(demo-source)").Rel(solv.REL_EQ, pool.Dep("4:1.2-3"))
    assert len(pool.whatprovides(source)) == 2
    requires = {str(one) for one in next(iter(repo.solvables)).lookup_deparray(solv.SOLVABLE_REQUIRES)}
    assert "libc6 >= 2.38-0" in requires
    assert "(foo >= 1-0 or bar)" in requires


def test_primary_describes_the_signed_file(tmp_path: Path) -> None:
    package = make_packages(tmp_path, "alpha")[0]
    signed = sign_rpm(package.path, package.path, TestKey.generate())
    write_repository(
        tmp_path, [RepositoryPackage(signed.path, package.location)], revision=REVISION, cache=tmp_path / "cache"
    )
    element = ElementTree.fromstring(metadata(tmp_path, "primary"))[0]
    size, location = element.find(f"{COMMON}size"), element.find(f"{COMMON}location")
    assert size is not None
    assert location is not None
    assert element.findtext(f"{COMMON}checksum") == signed.sha256
    assert size.get("package") == str(signed.size)
    assert location.get("href") == package.location
    assert element.findtext(f"{COMMON}description") == "Long text,\nin two lines: <é> & more."
    names = {one.get("name") for one in element.iter(f"{RPM}entry")}
    assert not any(name and name.startswith("rpmlib(") for name in names)
    files = [one.text for one in element.iter(f"{COMMON}file")]
    assert "/etc/demo.conf" in files
    assert "/usr/share/doc/demo/README" not in files


def test_extra_metadata_is_listed(tmp_path: Path) -> None:
    write_repository(
        tmp_path, [], revision=REVISION, cache=tmp_path / "cache", extra={"updateinfo": b"<updates></updates>"}
    )
    assert metadata(tmp_path, "updateinfo") == b"<updates></updates>"


def test_an_older_state_stays_for_those_who_read_it(tmp_path: Path) -> None:
    packages = make_packages(tmp_path, "alpha", "beta", "gamma")
    write_repository(tmp_path, packages[:1], revision=REVISION, cache=tmp_path / "cache")
    reading = (tmp_path / "repodata").resolve()
    for count in (2, 3):
        assert reading.is_dir()
        write_repository(tmp_path, packages[:count], revision=REVISION, cache=tmp_path / "cache")
    assert not reading.exists()


def test_failure_leaves_the_repository_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = make_packages(tmp_path, "alpha", "beta")
    write_repository(tmp_path, packages[:1], revision=REVISION, cache=tmp_path / "cache")
    before = snapshot(tmp_path)
    real = repository.replacing
    calls = iter(range(100))

    def failing(path: Path) -> object:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(repository, "replacing", failing)
    with pytest.raises(repository.BedplateError, match="No space left"):
        write_repository(tmp_path, packages, revision=REVISION, cache=tmp_path / "cache")
    assert snapshot(tmp_path) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".repodata.")]


@pytest.mark.parametrize("location", ["/abs.rpm", "../up.rpm", "a/../b.rpm", "a//b.rpm"])
def test_location_out_of_the_repository_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(BadInput, match="below its repository"):
        write_repository(
            tmp_path, [RepositoryPackage(tmp_path / "x", location)], revision=REVISION, cache=tmp_path / "cache"
        )
