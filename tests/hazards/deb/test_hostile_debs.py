"""Hostile and damaged Debian packages: each is refused with the package's name and the reason, and nothing is kept."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bedplate.model.errors import BadInput
from bedplate.packages.deb.limits import Limits
from bedplate.packages.deb.reader import DebPackage
from support.debs import COMPRESSORS, Deb, Item, ar, file, folder, hard, link, tar

_HOSTILE: dict[str, tuple[tuple[Item, ...], str]] = {
    "dotdot_path": ((file("./usr/../../etc/passwd"),), r"climbs with '\.\.'"),
    "absolute_path": ((file("/etc/passwd"),), "is absolute"),
    "control_character_in_path": ((file("./usr/a\nb"),), "control characters"),
    "relative_link_out_of_tree": ((link("./usr/lib/x", "../../../../etc/shadow"),), "climbs out of the tree"),
    "absolute_link_out_of_tree": ((link("./usr/lib/x", "/../../home/me/.ssh"),), "climbs out of the tree"),
    "absolute_link_to_where_anybody_writes": ((link("./usr/lib/x.so", "/tmp/x.so"),), "leads out of what packages own"),
    "link_without_target": ((link("./usr/lib/x", ""),), "no usable target"),
    "file_through_a_link": ((link("./usr/lib/x", "/etc"), file("./usr/lib/x/passwd")), "which is no directory"),
    "file_below_a_file": ((file("./usr/lib/x"), file("./usr/lib/x/y")), "which is no directory"),
    "merged_usr_link_redirected": ((link("./bin", "/srv/bin"),), "links to '/srv/bin'"),
    "hard_link_to_foreign_file": ((hard("./usr/x", "./etc/shadow"),), "names no earlier file"),
    "hard_link_climbing": ((hard("./usr/x", "../etc/shadow"),), r"climbs with '\.\.'"),
    "one_path_twice": ((file("./usr/x", b"1"), file("./usr/x", b"2")), "it has /usr/x twice"),
    "one_path_twice_by_alias": ((file("./bin/x", b"1"), file("./usr/bin/x", b"2")), "it has /usr/bin/x twice"),
    "character_device": ((Item("./dev/mem", kind=tarfile.CHRTYPE),), "is a character device"),
    "block_device": ((Item("./dev/sda", kind=tarfile.BLKTYPE),), "is a block device"),
    "named_pipe": ((Item("./run/pipe", kind=tarfile.FIFOTYPE),), "is a named pipe"),
    "sparse_file": ((Item("./usr/x", kind=tarfile.GNUTYPE_SPARSE),), "is a sparse file"),
    "unknown_kind": ((Item("./usr/x", kind=b"Z"),), "is of unknown kind"),
}


@pytest.mark.parametrize("hazard", sorted(_HOSTILE))
def test_hostile_payload(tmp_path: Path, hazard: str) -> None:
    items, reason = _HOSTILE[hazard]
    _, path = Deb(name=hazard.replace("_", "-")).having(*items).write(tmp_path)
    with pytest.raises(BadInput, match=reason) as caught:
        list(DebPackage.open(path).payload())
    assert caught.value.where == path.name
    assert caught.value.remedy


@pytest.mark.parametrize("compression", sorted(COMPRESSORS))
def test_decompression_bomb_beyond_what_the_package_declares(tmp_path: Path, compression: str) -> None:
    limits = Limits(payload_slack=64 * 1024)
    _, path = Deb(compression=compression, installed_kib=10).having(file("./usr/zeros", bytes(4 << 20))).write(tmp_path)
    with pytest.raises(BadInput, match="decompression bomb"):
        list(DebPackage.open(path, limits=limits).payload())


def test_decompression_bomb_that_declares_its_size(tmp_path: Path) -> None:
    limits = Limits(payload=1 << 20)
    _, path = Deb(installed_kib=10**9).having(file("./usr/zeros", bytes(4 << 20))).write(tmp_path)
    with pytest.raises(BadInput, match="decompression bomb"):
        list(DebPackage.open(path, limits=limits).payload())


def test_decompression_bomb_in_control_data(tmp_path: Path) -> None:
    _, path = Deb(control_files={"templates": bytes(4 << 20)}).write(tmp_path)
    with pytest.raises(BadInput, match="decompression bomb"):
        DebPackage.open(path, limits=Limits(control=1 << 20))


def test_more_members_than_allowed(tmp_path: Path) -> None:
    _, path = Deb().having(*(file(f"./usr/{number}") for number in range(50))).write(tmp_path)
    with pytest.raises(BadInput, match="more than 40 members"):
        list(DebPackage.open(path, limits=Limits(members=40)).payload())


def test_owner_without_a_name(tmp_path: Path) -> None:
    archive = bytearray(tar([file("./usr/x", user="", group="")]))
    archive[108:116] = b"0001750\0"
    archive[148:156] = b"        "
    archive[148:156] = f"{sum(archive[:512]):06o}\0 ".encode()
    path = _with_data(tmp_path, bytes(archive))
    with pytest.raises(BadInput, match="id 1000, which has no name"):
        list(DebPackage.open(path).payload())


def _with_data(tmp_path: Path, data: bytes, name: str = "data.tar") -> Path:
    control = tar([file("./control", b"Package: demo\nVersion: 1\nArchitecture: all\n")])
    path = tmp_path / "demo.deb"
    path.write_bytes(ar([("debian-binary", b"2.0\n"), ("control.tar", control), (name, data)]))
    return path


def _flip(data: bytes, at: float) -> bytes:
    position = int(len(data) * at)
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty_file": lambda _data: b"",
    "not_an_archive": lambda data: b"<html>404</html>" + data[16:],
    "truncated_within_payload": lambda data: data[: len(data) - 4096],
    "truncated_by_one_byte": lambda data: data[:-2],
    "truncated_within_control": lambda data: data[:100],
    "member_size_is_a_lie": lambda data: data.replace(b"100644  4         ", b"100644  999999999 ", 1),
    "wrong_format_version": lambda data: data.replace(b"2.0\n", b"9.0\n", 1),
    "corrupt_payload": lambda data: _flip(data, 0.8),
    "unknown_compression": lambda data: data.replace(b"data.tar.xz", b"data.tar.zz", 1),
    "members_swapped": lambda data: data.replace(b"control.tar.xz ", b"kontrol.tar.xz ", 1),
}


@pytest.mark.parametrize("hazard", sorted(_DAMAGE))
def test_damaged_file(tmp_path: Path, hazard: str) -> None:
    noise = b"".join(bytes([(number * 7919) % 251]) for number in range(40_000))
    good = Deb().having(file("./usr/x", noise)).bytes()
    path = tmp_path / f"{hazard}.deb"
    path.write_bytes(_DAMAGE[hazard](good))
    with pytest.raises(BadInput) as caught:
        list(DebPackage.open(path).payload())
    assert caught.value.where == path.name


@pytest.mark.parametrize(
    ("hazard", "archive"),
    [
        ("payload_cut_within_a_file", tar([file("./usr/x", bytes(5000))])[:2048]),
        ("payload_without_end", tar([file("./usr/x", b"1")])[:1024]),
        ("data_behind_the_end", tar([file("./usr/x", b"1")]) + b"hidden" * 100),
        ("damaged_header_checksum", _flip(tar([folder("./usr/")]), 0.001)),
    ],
)
def test_damaged_archive(tmp_path: Path, hazard: str, archive: bytes) -> None:
    path = _with_data(tmp_path, archive)
    with pytest.raises(BadInput, match=r"truncated|behind the end|damaged"):
        list(DebPackage.open(path, where=hazard).payload())


@pytest.mark.parametrize(
    ("hazard", "control", "reason"),
    [
        ("no_control_file", None, "it has no control file"),
        ("no_version", b"Package: demo\nArchitecture: all\n", "lacks Version"),
        ("name_with_slash", b"Package: ../demo\nVersion: 1\nArchitecture: all\n", "is not a package name"),
        ("version_with_space", b"Package: demo\nVersion: 1 2\nArchitecture: all\n", "is not a version"),
        ("field_twice", b"Package: demo\nPackage: other\nVersion: 1\nArchitecture: all\n", "field Package twice"),
        ("not_utf8", b"Package: demo\nVersion: 1\nArchitecture: all\nX: \xff\n", "not UTF-8"),
        ("no_stanza", b"\x00\x01\x02", "malformed line"),
    ],
)
def test_hostile_control_data(tmp_path: Path, hazard: str, control: bytes | None, reason: str) -> None:
    files = [file("./control", control)] if control is not None else [file("./other", b"")]
    path = tmp_path / f"{hazard}.deb"
    path.write_bytes(ar([("debian-binary", b"2.0\n"), ("control.tar", tar(files)), ("data.tar", tar([]))]))
    with pytest.raises(BadInput, match=reason):
        DebPackage.open(path)


def test_conffile_outside_of_the_tree(tmp_path: Path) -> None:
    _, path = Deb(control_files={"conffiles": b"/etc/../../passwd\n"}).write(tmp_path)
    with pytest.raises(BadInput, match="its conffiles name"):
        DebPackage.open(path)


@pytest.mark.parametrize("compression", sorted(COMPRESSORS))
def test_random_damage_is_a_plain_error_or_no_damage(tmp_path: Path, compression: str) -> None:
    items = (folder("./etc/"), file("./etc/a", b"x" * 3000), link("./l", "etc/a"), hard("./h", "./etc/a"))
    good = Deb(compression=compression, control_files={"conffiles": b"/etc/a\n"}).having(*items).bytes()
    chance = random.Random(compression)
    path = tmp_path / "random_damage.deb"
    for _ in range(60):
        data = bytearray(good)
        position = chance.randrange(len(data))
        if chance.random() < 0.7:
            data[position] = chance.randrange(256)
        else:
            del data[position : position + chance.randint(1, 600)]
        path.write_bytes(data)
        try:
            list(DebPackage.open(path).payload())
        except BadInput as error:
            assert error.where == path.name
