"""Forms of an image: each is read back by what reads it, and has the same bytes twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
import zstandard

from bedplate.cli.commands.build import FORMAT_NAMES
from bedplate.compose.formats.base import FormatJob
from bedplate.compose.formats.content import Extra, tar_stream
from bedplate.compose.formats.kinds import FORMATS, chosen_formats
from bedplate.compose.formats.qcow2 import CLUSTER, read_qcow2, write_qcow2
from bedplate.compose.formats.vhd import write_vhd
from bedplate.flows.filesystems import open_file_system
from bedplate.model.errors import BadInput
from bedplate.model.filesystem import FileSystem
from bedplate.toolchain.run import Toolbox

EPOCH = 1_767_225_600
UUID_ = UUID("00112233-4455-6677-8899-aabbccddeeff")
MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk with text, noise that does not compress, written zeros, and holes; its last cluster is a part of one."""
    path = tmp_path / "disk.raw"
    noise = b"".join(hashlib.sha512(bytes([n % 256, n // 256])).digest() for n in range(4096))
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), 9 * MIB)
        os.pwrite(stream.fileno(), b"text " * 40_000, 5 * CLUSTER + 512)
        os.pwrite(stream.fileno(), noise, 40 * CLUSTER)
        os.pwrite(stream.fileno(), bytes(3 * CLUSTER), 60 * CLUSTER)
        os.pwrite(stream.fileno(), b"end", 9 * MIB - 3)
    return path


def test_every_registered_format_can_be_asked_for() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES
    assert len({form.file for form in FORMATS.values()}) == len(FORMATS)


def test_unknown_formats_are_all_named_at_once() -> None:
    with pytest.raises(BadInput, match="unknown formats: vdi, vmdk") as caught:
        chosen_formats(["vmdk", "raw", "vdi"])
    assert "qcow2" in caught.value.remedy


def test_qcow2_gives_the_disk_back(disk: Path, tmp_path: Path) -> None:
    write_qcow2(disk, tmp_path / "a.qcow2")
    read_qcow2(tmp_path / "a.qcow2", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == disk.read_bytes()
    assert (tmp_path / "a.qcow2").stat().st_size < MIB


def test_qcow2_has_the_same_bytes_whatever_the_holes_and_threads(disk: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.write_bytes(disk.read_bytes())
    write_qcow2(disk, tmp_path / "a", jobs=1)
    write_qcow2(full, tmp_path / "b", jobs=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_vhd_is_the_disk_and_a_footer(disk: Path, tmp_path: Path) -> None:
    write_vhd(disk, tmp_path / "a", EPOCH, UUID_)
    data = (tmp_path / "a").read_bytes()
    foot = data[-512:]
    assert data[:-512] == disk.read_bytes()
    assert foot[:8] == b"conectix" and int.from_bytes(foot[48:56], "big") == 9 * MIB
    without = foot[:64] + bytes(4) + foot[68:]
    assert int.from_bytes(foot[64:68], "big") == ~sum(without) & 0xFFFFFFFF
    write_vhd(disk, tmp_path / "b", EPOCH, UUID_)
    assert (tmp_path / "b").read_bytes() == data


def test_vhd_of_a_part_of_a_mib_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(MIB + 512))
    with pytest.raises(BadInput, match="whole number of MiB"):
        write_vhd(tmp_path / "disk", tmp_path / "a", EPOCH, UUID_)


@pytest.mark.tools
def test_qemu_agrees(disk: Path, tmp_path: Path, toolbox: Toolbox) -> None:
    qcow2, vhd = tmp_path / "a.qcow2", tmp_path / "a.vhd"
    write_qcow2(disk, qcow2, 2)
    write_vhd(disk, vhd, EPOCH, UUID_)
    checked = json.loads(toolbox.run("qemu-img", "check", "--output=json", qcow2).text)
    assert checked["check-errors"] == 0 and "corruptions" not in checked and "leaks" not in checked
    toolbox.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, qcow2)
    info = json.loads(toolbox.run("qemu-img", "info", "-f", "vpc", "--output=json", vhd).text)
    assert (info["format"], info["virtual-size"]) == ("vpc", 9 * MIB)
    toolbox.run("qemu-img", "compare", "-f", "raw", "-F", "vpc", disk, vhd)


@pytest.fixture
def root(tmp_path: Path, toolbox: Toolbox) -> Path:
    """An ext4 file system as mke2fs makes it, with what a real root has: links, modes, attributes, many names."""
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as tar:
        for path in ("etc", "usr", "usr/bin", "usr/lib", "usr/lib/modules", "boot", "run", "tmp", "many", "etc/systemd",
                     "etc/systemd/system"):  # fmt: skip
            info = tarfile.TarInfo(f"./{path}")
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755, EPOCH
            tar.addfile(info)
        files = {
            "etc/hostname": b"host\n", "usr/bin/ping": b"\x7fELF" + b"p" * 9000, "usr/lib/modules/x.ko": b"module",
            "boot/vmlinuz": b"kernel", "run/left": b"over", "usr/bin/big": bytes(5000) + b"x" * 300_000,
        }  # fmt: skip
        files |= {f"many/file-{n:04}-{'n' * 100}": b"%d" % n for n in range(600)}
        for path, data in files.items():
            info = tarfile.TarInfo(f"./{path}")
            info.size, info.mode, info.mtime, info.uid, info.gid = len(data), 0o4755, EPOCH - 5, 70_000, 5
            tar.addfile(info, io.BytesIO(data))
        for path, target in (("etc/short", "hostname"), ("etc/long", "/usr/" + "d/" * 80 + "x")):
            info = tarfile.TarInfo(f"./{path}")
            info.type, info.linkname, info.mtime = tarfile.SYMTYPE, target, EPOCH
            tar.addfile(info)
        info = tarfile.TarInfo("./usr/bin/ping4")
        info.type, info.linkname, info.mode, info.mtime = tarfile.LNKTYPE, "./usr/bin/ping", 0o4755, EPOCH - 5
        info.uid, info.gid = 70_000, 5
        tar.addfile(info)
    image, value = tmp_path / "root.ext4", tmp_path / "value"
    toolbox.run("mke2fs", "-q", "-F", "-t", "ext4", "-d", "-", "-b", "4096", image, "32m", stdin=tree.getvalue())
    value.write_bytes(bytes.fromhex("0100000200200000000000000000000000000000"))
    (tmp_path / "label").write_bytes(b"system_u:object_r:ping_exec_t:s0\0")
    commands = tmp_path / "commands"
    commands.write_text(
        f"ea_set -f {value} /usr/bin/ping security.capability\n"
        f"ea_set -f {tmp_path / 'label'} /usr/bin/ping security.selinux\n"
        f"ea_set -f {tmp_path / 'label'} /etc/hostname security.selinux\n"
    )
    toolbox.run("debugfs", "-w", "-f", commands, image)
    return image


def _job(image: Path, toolbox: Toolbox) -> FormatJob:
    @contextmanager
    def opened() -> Iterator[FileSystem]:
        with open_file_system(image) as system:
            yield system

    labels = {"NAME": "Bedplate Linux", "IMAGE_ID": "bedplate-server", "BUILD_ID": "0123"}
    return FormatJob(
        "bedplate-server", "1.0", EPOCH, image, opened, labels, toolbox, 2, lambda source, target: None, {}
    )


@pytest.mark.tools
def test_ext4_is_read_as_it_was_written(root: Path) -> None:
    with open_file_system(root) as system:
        nodes = {node.path: node for node in system.walk()}
        assert [node.path for node in system.walk()] == sorted(nodes, key=lambda path: path.split("/"))
        ping = nodes["/usr/bin/ping"]
        assert (ping.mode & 0o7777, ping.uid, ping.gid, ping.mtime) == (0o4755, 70_000, 5, EPOCH - 5)
        assert nodes["/usr/bin/ping4"].number == ping.number
        assert b"".join(system.stream(nodes["/usr/bin/big"])) == bytes(5000) + b"x" * 300_000
        assert b"".join(system.stream(nodes["/etc/short"])) == b"hostname"
        assert b"".join(system.stream(nodes["/etc/long"])) == b"/usr/" + b"d/" * 80 + b"x"
        assert [name for name, _ in system.xattrs(ping)] == ["security.capability", "security.selinux"]
        assert dict(system.xattrs(nodes["/etc/hostname"]))["security.selinux"].startswith(b"system_u:")
        assert sum(path.startswith("/many/") for path in nodes) == 600


@pytest.mark.tools
def test_content_for_a_foreign_kernel(root: Path) -> None:
    extras = {"/etc/wsl.conf": Extra(b"[boot]\n"), "/etc/hostname": Extra(b"other\n"), "/etc/x": Extra(target="y")}
    with open_file_system(root) as system:
        data = b"".join(tar_stream(system, EPOCH, extras))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert len(members) == len(tar.getmembers())
        assert {"boot", "usr/lib/modules", "run/left", "lost+found"}.isdisjoint(members) and "run" in members
        assert members["usr/bin/ping4"].linkname == "usr/bin/ping"
        assert list(members["usr/bin/ping"].pax_headers) == ["SCHILY.xattr.security.capability"]
        assert members["tmp"].mode == 0o1777
        written = tar.extractfile("etc/hostname")
        assert written is not None and written.read() == b"other\n"
        assert members["etc/x"].linkname == "y"


@pytest.mark.tools
def test_oci_archive_is_what_the_specification_says(root: Path, tmp_path: Path, toolbox: Toolbox) -> None:
    form = FORMATS["oci"]
    form.write(_job(root, toolbox), tmp_path / "a")
    form.write(_job(root, toolbox), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with tarfile.open(tmp_path / "a") as tar:
        blobs = {m.name: file.read() for m in tar.getmembers() if (file := tar.extractfile(m)) is not None}
    for name, data in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    assert json.loads(blobs["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(blobs["index.json"])["manifests"]

    def blob(descriptor: dict[str, object]) -> bytes:
        data = blobs["blobs/" + str(descriptor["digest"]).replace(":", "/")]
        assert len(data) == descriptor["size"]
        return data

    manifest = json.loads(blob(entry))
    config, (layer,) = json.loads(blob(manifest["config"])), manifest["layers"]
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(blob(layer))
    assert layer["mediaType"].endswith("tar+zstd")
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(plain).hexdigest()}"]
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert manifest["annotations"]["org.opencontainers.image.version"] == "1.0"
    assert config["config"]["Labels"]["org.bedplate.build.id"] == "0123"


@pytest.mark.tools
def test_wsl_archive(root: Path, tmp_path: Path, toolbox: Toolbox) -> None:
    FORMATS["wsl"].write(_job(root, toolbox), tmp_path / "a")
    with tarfile.open(tmp_path / "a", "r:gz") as tar:
        names = tar.getnames()
        conf = tar.extractfile("etc/wsl.conf")
        assert conf is not None and b"systemd=true" in conf.read()
        distribution = tar.extractfile("etc/wsl-distribution.conf")
        assert distribution is not None and b"defaultName=Bedplate-Linux" in distribution.read()
        assert tar.getmember("etc/systemd/system/systemd-networkd.service").linkname == "/dev/null"
    assert len(names) == len(set(names))
