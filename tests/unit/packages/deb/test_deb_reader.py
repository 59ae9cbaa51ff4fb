"""Reading well-formed Debian packages."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bedplate.model.package import FileKind
from bedplate.packages.deb.reader import DebPackage
from support.debs import COMPRESSORS, Deb, file, folder, hard, link


@pytest.mark.parametrize("compression", sorted(COMPRESSORS))
def test_every_compression_gives_the_same_files(tmp_path: Path, compression: str) -> None:
    content = bytes(range(256)) * 9000
    deb = Deb(compression=compression, installed_kib=3000).having(folder("./usr/"), file("./usr/data", content))
    _, path = deb.write(tmp_path)
    (_, _), (entry, data) = list(DebPackage.open(path).payload())
    assert (entry.path, entry.size, data) == ("/usr/data", len(content), content)
    assert entry.sha256 == hashlib.sha256(content).hexdigest()


def test_paths_move_to_their_place_in_the_merged_usr(tmp_path: Path) -> None:
    items = (
        folder("./bin/"),
        file("./bin/ls", b"x", 0o755),
        file("./sbin/init", b"y", 0o755),
        file("./lib/udev/rules", b"z"),
        link("./lib64/ld.so", "../lib/ld.so"),
        folder("./usr/lib/udev/"),
    )
    _, path = Deb().having(*items).write(tmp_path)
    found = [entry.path for entry, _ in DebPackage.open(path).payload()]
    assert found == ["/usr/bin/ls", "/usr/sbin/init", "/usr/lib/udev/rules", "/usr/lib64/ld.so", "/usr/lib/udev"]


def test_links_of_the_merged_usr_are_left_to_filesystem(tmp_path: Path) -> None:
    _, path = Deb().having(link("./bin", "usr/bin"), link("./lib64", "usr/lib64")).write(tmp_path)
    assert list(DebPackage.open(path).payload()) == []


def test_hard_links_name_their_first_link(tmp_path: Path) -> None:
    items = (file("./usr/bin/perl", b"#!", 0o755), hard("./usr/bin/perl5", "./usr/bin/perl"))
    _, path = Deb().having(*items).write(tmp_path)
    first, second = (entry for entry, _ in DebPackage.open(path).payload())
    assert second.hardlink == first.path == "/usr/bin/perl"
    assert (second.mode, second.size, second.sha256) == (first.mode, first.size, first.sha256)


def test_owners_are_names_and_modes_keep_set_id_bits(tmp_path: Path) -> None:
    _, path = Deb().having(file("./usr/bin/chage", b"", 0o2755, group="shadow")).write(tmp_path)
    ((entry, _),) = DebPackage.open(path).payload()
    assert (entry.mode, entry.user, entry.group) == (0o2755, "root", "shadow")


def test_long_names_and_targets(tmp_path: Path) -> None:
    name = "./usr/share/" + "/".join(["a" * 60] * 4)
    _, path = Deb().having(file(name, b"x"), link("./usr/l", "b" * 150)).write(tmp_path)
    (one, _), (two, _) = DebPackage.open(path).payload()
    assert one.path == name[1:]
    assert (two.kind, two.target) == (FileKind.SYMLINK, "b" * 150)


def test_control_data(tmp_path: Path) -> None:
    files = {
        "postinst": b"#!/bin/sh -e\necho hello\n",
        "prerm": b"\x7fELF compiled",
        "conffiles": b"/etc/demo.conf\nremove-on-upgrade /etc/old\n",
        "triggers": b"activate-noawait ldconfig\n",
    }
    _, path = Deb(control_files=files, control={"Depends": "libc6 (>= 2.38),\n dpkg"}).write(tmp_path)
    package = DebPackage.open(path)
    assert [(script.kind, script.interpreter) for script in package.scripts] == [
        ("postinst", "/bin/sh"),
        ("prerm", "ELF"),
    ]
    assert package.scripts[0].text.endswith("echo hello\n")
    assert package.conffiles == ("/etc/demo.conf",)
    assert package.control_files["triggers"] == files["triggers"]
    assert package.fields["Depends"] == "libc6 (>= 2.38),\ndpkg"
    assert package.installed_kib == 100
