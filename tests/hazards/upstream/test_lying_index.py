"""A mirror that lies about its index: every lie is refused with its reason, and nothing of it is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pysequoia
import pytest
from pysequoia.packet import PacketPile

from bedplate.model.errors import BadInput, BedplateError, TrustError
from bedplate.upstream.archive import open_index
from bedplate.upstream.index import IndexContext, VerifiedIndex
from support.mirror import (
    DebianArchive,
    Package,
    context,
    cut_off_after,
    definition,
    fingerprint,
    new_key,
    once,
    serve,
)

INRELEASE = "debian/dists/stable/InRelease"
PACKAGES = "debian/dists/stable/main/binary-amd64/Packages.xz"


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    return new_key()


@pytest.fixture(scope="module")
def stranger() -> pysequoia.Tsk:
    return new_key("Stranger <stranger@example.org>")


def open_from(
    files: dict[str, bytes], tmp_path: Path, key: pysequoia.Tsk | pysequoia.Cert, **suite: object
) -> VerifiedIndex:
    pinned = key if isinstance(key, pysequoia.Cert) else key.extract_certificate()
    with serve(files) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], pinned)
        (index,) = open_index(definition("stable", fingerprints=[pinned.fingerprint], **suite), where)
    return index


def refused(files: dict[str, bytes], tmp_path: Path, key: pysequoia.Tsk | pysequoia.Cert, **suite: object) -> str:
    """The error's text; also proves that nothing was remembered."""
    with pytest.raises(TrustError) as caught:
        open_from(files, tmp_path, key, **suite)
    assert not list((tmp_path / "state").rglob("*.json"))
    assert caught.value.remedy
    return str(caught.value)


def test_index_altered_after_signing(tmp_path: Path, key: pysequoia.Tsk) -> None:
    files = DebianArchive(key).files()
    files[INRELEASE] = files[INRELEASE].replace(b"Origin: Test", b"Origin: Evil")
    assert "was altered" in refused(files, tmp_path, key)


def test_index_signed_by_unknown_key(tmp_path: Path, key: pysequoia.Tsk, stranger: pysequoia.Tsk) -> None:
    assert "is not a pinned key" in refused(DebianArchive(stranger).files(), tmp_path, key)


def test_index_signed_by_key_in_the_file_but_not_listed(
    tmp_path: Path, key: pysequoia.Tsk, stranger: pysequoia.Tsk
) -> None:
    with serve(DebianArchive(stranger).files()) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], key, stranger)
        with pytest.raises(TrustError, match="is not a pinned key"):
            open_index(definition("stable", fingerprints=[fingerprint(key)]), where)


def test_index_signed_by_expired_key(tmp_path: Path) -> None:
    key = new_key()
    cert = key.extract_certificate()
    created = next(iter(PacketPile.from_bytes(bytes(cert)))).key_created
    expired = cert.set_expiration(created + timedelta(seconds=1), key.certifier())
    assert "expired on" in refused(DebianArchive(key).files(), tmp_path, expired)


def test_index_signed_by_revoked_key(tmp_path: Path) -> None:
    key = new_key()
    cert = key.extract_certificate()
    revocation = PacketPile.from_bytes(bytes(cert.revoke(key.certifier())))
    first, *rest = PacketPile.from_bytes(bytes(cert))
    revoked = pysequoia.Cert.from_packets([first, *revocation, *rest])
    assert "is revoked" in refused(DebianArchive(key).files(), tmp_path, revoked)


def test_index_not_signed_at_all(tmp_path: Path, key: pysequoia.Tsk) -> None:
    archive = DebianArchive(key)
    files = archive.files()
    packed = files[PACKAGES]
    files[INRELEASE] = archive.release(archive.packages_text(), packed)
    assert "not a clear-signed file" in refused(files, tmp_path, key)


def test_text_appended_behind_the_signature_is_not_read(tmp_path: Path, key: pysequoia.Tsk) -> None:
    files = DebianArchive(key).files()
    files[INRELEASE] += b"\nSuite: unstable\nValid-Until: Thu, 01 Jan 1970 00:00:00 UTC\n"
    assert [package.name for package in open_from(files, tmp_path, key).packages] == ["hello", "world"]


def test_further_signature_of_a_stranger_does_no_harm(
    tmp_path: Path, key: pysequoia.Tsk, stranger: pysequoia.Tsk
) -> None:
    """Two signatures in one file: what an archive does while it changes keys."""
    archive, other = DebianArchive(key), DebianArchive(stranger)
    other.date = archive.date
    files = archive.files()
    signatures = [_signature_packets(one.files()[INRELEASE]) for one in (other, archive)]
    text = files[INRELEASE].split(b"-----BEGIN PGP SIGNATURE-----")[0]
    joined = pysequoia.armor(b"".join(signatures), pysequoia.ArmorKind.Signature)
    files[INRELEASE] = text + (joined if isinstance(joined, bytes) else joined.encode())
    assert open_from(files, tmp_path, key).proof.signers == {fingerprint(key)}


def _signature_packets(clear: bytes) -> bytes:
    block = clear[clear.index(b"-----BEGIN PGP SIGNATURE-----") :]
    return b"".join(bytes(packet) for packet in PacketPile.from_bytes(block))


def _truncate(files: dict[str, bytes], _archive: DebianArchive) -> None:
    files[PACKAGES] = files[PACKAGES][:-20]


def _swap(files: dict[str, bytes], archive: DebianArchive) -> None:
    evil = dataclasses.replace(archive, packages=[Package("hello", content=b"evil")])
    files[PACKAGES] = evil.files()[PACKAGES]


def _lengthen(files: dict[str, bytes], _archive: DebianArchive) -> None:
    files[PACKAGES] += b"more"


@pytest.mark.parametrize("lie", [_truncate, _swap, _lengthen], ids=["truncated", "swapped", "lengthened"])
def test_packages_file_is_not_the_signed_one(
    tmp_path: Path, key: pysequoia.Tsk, lie: Callable[[dict[str, bytes], DebianArchive], None]
) -> None:
    archive = DebianArchive(key)
    files = archive.files()
    lie(files, archive)
    for path in [path for path in files if "by-hash" in path]:
        files[path] = files[PACKAGES]
    assert "not the file the index names" in refused(files, tmp_path, key)
    assert not list((tmp_path / "store").glob("sha256/*/*"))


def test_packages_file_decompresses_to_a_bomb(tmp_path: Path, key: pysequoia.Tsk) -> None:
    archive = DebianArchive(key)
    bomb = lzma.compress(bytes(16 << 20), preset=0)
    files = archive.files()
    files[PACKAGES] = bomb
    # Even an archive whose key was stolen cannot make us hold more than the signed size.
    files[INRELEASE] = archive.clearsign(archive.release(b"x" * 1000, bomb))
    assert "more than the 1000 bytes" in refused(files, tmp_path, key)


def test_valid_until_has_passed(tmp_path: Path, key: pysequoia.Tsk) -> None:
    now = datetime.now(UTC)
    archive = DebianArchive(key, date=now - timedelta(days=9), valid_until=now - timedelta(days=2))
    assert "expired on" in refused(archive.files(), tmp_path, key)


def test_index_without_valid_until_is_too_old(tmp_path: Path, key: pysequoia.Tsk) -> None:
    archive = DebianArchive(key, date=datetime.now(UTC) - timedelta(days=11))
    assert "11 days old, 10 are allowed" in refused(archive.files(), tmp_path, key, max_age_days=10)


def test_index_from_the_future(tmp_path: Path, key: pysequoia.Tsk) -> None:
    archive = DebianArchive(key, date=datetime.now(UTC) + timedelta(days=3))
    assert "in the future" in refused(archive.files(), tmp_path, key)


def test_index_of_another_suite(tmp_path: Path, key: pysequoia.Tsk) -> None:
    other = DebianArchive(key, suite="unstable", codename="sid").files()
    files = {path.replace("/unstable/", "/stable/"): content for path, content in other.items()}
    assert "this is the index of sid / unstable, not of stable" in refused(files, tmp_path, key)


def test_index_older_than_one_seen_before(tmp_path: Path, key: pysequoia.Tsk) -> None:
    newer = DebianArchive(key)
    older = DebianArchive(key, date=newer.date - timedelta(days=3))
    open_from(newer.files(), tmp_path, key)
    with pytest.raises(TrustError, match="older than one seen before"):
        open_from(older.files(), tmp_path, key)
    open_from(newer.files(), tmp_path, key)  # and the good one still is


def test_lagging_mirror_is_passed_over(tmp_path: Path, key: pysequoia.Tsk) -> None:
    newer = DebianArchive(key)
    older = DebianArchive(key, date=newer.date - timedelta(days=3), packages=[Package("old")])
    open_from(newer.files(), tmp_path, key)
    with serve(older.files()) as lagging, serve(newer.files()) as current:
        where = context(tmp_path, [f"{lagging.url}/debian", f"{current.url}/debian"], key)
        (index,) = open_index(definition("stable", fingerprints=[fingerprint(key)]), where)
    assert [package.name for package in index.packages] == ["hello", "world"]


def test_connection_lost_while_the_index_is_read(tmp_path: Path, key: pysequoia.Tsk) -> None:
    """It is read again from its start: a half of one index must never meet a half of another."""
    with serve(DebianArchive(key).files()) as mirror:
        mirror.tricks[INRELEASE] = once(cut_off_after(200))
        where = context(tmp_path, [f"{mirror.url}/debian"], key)
        open_index(definition("stable", fingerprints=[fingerprint(key)]), where)
        assert mirror.requests[:2] == [(INRELEASE, ""), (INRELEASE, "")]


def test_record_of_seen_indexes_is_damaged(tmp_path: Path, key: pysequoia.Tsk) -> None:
    archive = DebianArchive(key)
    open_from(archive.files(), tmp_path, key)
    (record,) = (tmp_path / "state").rglob("*.json")
    record.write_text("{")
    with pytest.raises(TrustError, match="record of indexes seen is damaged"):
        open_from(archive.files(), tmp_path, key)


def test_parsed_cache_is_damaged(tmp_path: Path, key: pysequoia.Tsk) -> None:
    """It is made again; what it holds by accident is never taken for an index."""
    archive = DebianArchive(key)
    open_from(archive.files(), tmp_path, key)
    (cached,) = (tmp_path / "state/parsed").iterdir()
    cached.write_bytes(cached.read_bytes().replace(b"hello", b"hellp"))
    assert [package.name for package in open_from(archive.files(), tmp_path, key).packages] == ["hello", "world"]


def test_path_in_index_leaves_the_archive(tmp_path: Path, key: pysequoia.Tsk) -> None:
    class Climbing(Package):
        @property
        def path(self) -> str:
            return "pool/../../etc/passwd"

    files = DebianArchive(key, packages=[Climbing("hello")]).files()
    with pytest.raises(BadInput, match="a path leaves the archive"):
        open_from(files, tmp_path, key)


def test_pinned_key_is_missing_from_the_key_file(tmp_path: Path, key: pysequoia.Tsk, stranger: pysequoia.Tsk) -> None:
    with serve(DebianArchive(key).files()) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], stranger)
        with pytest.raises(BadInput, match=f"the key files do not hold {fingerprint(key)}"):
            open_index(definition("stable", fingerprints=[fingerprint(key)]), where)
        assert mirror.requests == []


def test_first_mirror_lies_and_second_is_honest(tmp_path: Path, key: pysequoia.Tsk, stranger: pysequoia.Tsk) -> None:
    said: list[str] = []

    class Said:
        task = IndexContext.__dataclass_fields__["progress"].default_factory().task  # type: ignore[misc]

        def say(self, line: str) -> None:
            said.append(line)

    with serve(DebianArchive(stranger).files()) as bad, serve(DebianArchive(key).files()) as good:
        where = context(tmp_path, [f"{bad.url}/debian", f"{good.url}/debian"], key)
        where = dataclasses.replace(where, progress=Said())
        (index,) = open_index(definition("stable", fingerprints=[fingerprint(key)]), where)
    assert len(index.packages) == 2
    assert len(said) == 1
    assert "is not a pinned key" in said[0]
    assert good.url in said[0]


def test_mirror_is_not_an_archive_at_all(tmp_path: Path, key: pysequoia.Tsk) -> None:
    with serve({}) as mirror:
        where = context(tmp_path, [f"{mirror.url}/debian"], key)
        with pytest.raises(BedplateError) as caught:
            open_index(definition("stable", fingerprints=[fingerprint(key)]), where)
    assert "no such file" in str(caught.value)
    assert "the main mirror is from the test" in str(caught.value)


def test_release_without_packages_of_the_component(tmp_path: Path, key: pysequoia.Tsk) -> None:
    archive = DebianArchive(key)
    files = archive.files()
    text = archive.release(b"", b"").replace(b"main/binary-amd64", b"main/binary-arm64")
    files[INRELEASE] = archive.clearsign(text)
    assert "does not list main/binary-amd64/Packages" in refused(files, tmp_path, key)


def test_digest_of_verified_text_is_of_the_file_received(tmp_path: Path, key: pysequoia.Tsk) -> None:
    files = DebianArchive(key).files()
    assert open_from(files, tmp_path, key).sha256 == hashlib.sha256(files[INRELEASE]).hexdigest()
