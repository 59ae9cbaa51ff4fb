"""The installer's program on disks that are files: answers checked, the right disk, written, compared, retried."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest

from bedplate.compose import gpt
from bedplate.compose.disk import ESP_LABEL
from bedplate.compose.formats.installer import CHUNK, write_payload
from bedplate.compose.gpt import read_gpt

PROGRAM = Path(__file__).resolve().parents[3] / "distro/files/installer/usr/lib/bedplate/installer"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVzZXI= ada@laptop"
GOOD = f"""
version = 1
[disk]
serial = "abc"
[system]
hostname = "web1.example.com"
[user]
name = "ada"
ssh_keys = ["{KEY}"]
"""
MIB = 1 << 20


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    """The program's package, as the medium runs it."""
    spec = importlib.util.spec_from_file_location(
        "installer", PROGRAM / "__init__.py", submodule_search_locations=[str(PROGRAM)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["installer"] = package
    spec.loader.exec_module(package)
    for name in ("answers", "disks", "writing", "settling", "dialog"):
        setattr(package, name, importlib.import_module(f"installer.{name}"))
    return package


def test_good_answers(installer: ModuleType) -> None:
    answers = installer.answers.parse(GOOD)
    assert (answers.hostname, answers.user, answers.ssh_keys) == ("web1.example.com", "ada", [KEY])
    assert (answers.disk.serial, answers.disk.erase, answers.swap_mib, answers.after) == (
        "abc",
        False,
        None,
        "poweroff",
    )


def test_every_mistake_is_named_at_once(installer: ModuleType) -> None:
    text = """
version = 2
after = "dance"
colour = "red"
[disk]
serial = "a"
path = "vda"
[system]
hostname = "-Bad_"
[user]
name = "root"
ssh_keys = ["rubbish"]
[network]
addresses = ["192.0.2.5", "x/24"]
gateway = "nowhere"
[swap]
size_mib = "large"
[encryption]
mode = "tpm"
"""
    with pytest.raises(installer.answers.WrongAnswers) as caught:
        installer.answers.parse(text)
    places = {problem.split(":")[0] for problem in caught.value.problems}
    assert places == {
        "version", "after", "colour", "disk", "disk.path", "system.hostname", "user.name", "user.ssh_keys[0]",
        "network.addresses[0]", "network.addresses[1]", "network.gateway", "swap.size_mib", "encryption.mode",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "version = ", "version = 1\nuser = 3", "[user]\nssh_keys = [1]", 'disk = ["x"]'])
def test_what_is_no_answer_file_at_all(installer: ModuleType, text: str) -> None:
    with pytest.raises(installer.answers.WrongAnswers):
        installer.answers.parse(text)


def _sys(root: Path) -> Path:
    """A machine with the medium (sda), a small disk (vda), a large one (vdb), a DVD drive and a loop device."""
    rows = {"sda": (9000, "m"), "vda": (100, "abc"), "vdb": (8000, "def"), "sr0": (0, ""), "loop0": (5, "")}
    for name, (mib, serial) in rows.items():
        place = root / "block" / name
        place.mkdir(parents=True)
        (place / "size").write_text(str(mib * 2048))
        (place / "serial").write_text(serial)
        (place / "ro").write_text("0")
        (root / "class/block").mkdir(parents=True, exist_ok=True)
        (root / "class/block" / name).symlink_to(place)
        (place / "uevent").write_text(f"DEVNAME={name}\n")
    part = root / "block/sda/sda3"
    part.mkdir()
    (part / "uevent").write_text("DEVNAME=sda3\nPARTNAME=bedplate-payload\n")
    (root / "class/block/sda3").symlink_to(part)
    return root


def test_the_medium_is_never_a_target(installer: ModuleType, tmp_path: Path) -> None:
    sys_ = _sys(tmp_path / "sys")
    assert [disk.path.name for disk in installer.disks.disks(sys_)] == ["vda", "vdb"]
    assert installer.disks.partition("bedplate-payload", sys_) == Path("/dev/sda3")
    assert installer.disks.partition("bedplate-payload", sys_, Path("/dev/vda")) is None


def test_which_disk_is_meant(installer: ModuleType, tmp_path: Path) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "vda").write_bytes(bytes(MIB))
    (dev / "vdb").write_bytes(b"data".ljust(MIB, b"\0"))
    found = installer.disks.disks(_sys(tmp_path / "sys"), dev)
    choice, wrong = installer.answers.DiskChoice, installer.answers.WrongAnswers
    assert installer.disks.choose(found, choice(serial="abc"), 50 * MIB).path == dev / "vda"
    assert installer.disks.choose(found, choice(serial="def", erase=True), 50 * MIB).path == dev / "vdb"
    for asked, size, words in (
        (choice(serial="abc"), 500 * MIB, "has 100 MiB, the system needs 500 MiB"),
        (choice(serial="def"), MIB, "holds something"),
        (choice(serial="ghi"), MIB, "no disk is the one"),
        (choice(), MIB, "2 disks could be the one"),
    ):
        with pytest.raises(wrong, match=words):
            installer.disks.choose(found, asked, size)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small disk image with a partition table, contents and holes."""
    path = tmp_path / "disk.raw"
    wanted = [
        (gpt.TYPE_ESP, UUID(int=1), ESP_LABEL, 3 * MIB, 0),
        (gpt.TYPE_ROOT_X86_64, UUID(int=2), "root", 8 * MIB, gpt.FLAG_GROW),
    ]
    layout = gpt.place(wanted, UUID(int=3))
    head, tail = gpt.write_tables(layout)
    with path.open("xb") as stream:
        os.truncate(stream.fileno(), layout.size)
        os.pwrite(stream.fileno(), head, 0)
        os.pwrite(stream.fileno(), b"esp" * 100, MIB)
        os.pwrite(stream.fileno(), b"root" * 600_000, 6 * MIB)
        os.pwrite(stream.fileno(), tail, layout.size - len(tail))
    return path


@pytest.fixture
def zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """zstd(1), as the medium has it, of the tools tree or of Python."""
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "zstd"
    program.write_text(
        f"#!{sys.executable}\nimport sys, zstandard\n"
        "zstandard.ZstdDecompressor().copy_stream(sys.stdin.buffer, sys.stdout.buffer)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


def _target(path: Path, size: int = 20 * MIB + 512) -> Path:
    # What an earlier system left: everything of it must be gone.
    path.write_bytes((b"old" * (size // 3 + 1))[:size])
    return path


@pytest.mark.usefixtures("zstd")
def test_the_image_is_written_with_a_table_of_its_own(installer: ModuleType, image: Path, tmp_path: Path) -> None:
    write_payload(image, tmp_path / "payload", "Server 1.0")
    payload = installer.writing.open_payload(tmp_path / "payload")
    assert (payload.name, payload.size) == ("Server 1.0", image.stat().st_size)
    targets = [_target(tmp_path / name) for name in ("one", "two")]
    for target in targets:
        installer.writing.write_image(payload, target, target.stat().st_size, lambda line: None)
    before, (one, two) = read_gpt(image), (read_gpt(target) for target in targets)
    assert [(p.label, p.start, p.size, p.flags) for p in one.partitions] == [
        (p.label, p.start, p.size, p.flags) for p in before.partitions
    ]
    uuids = {layout.uuid for layout in (before, one, two)} | {p.uuid for x in (before, one, two) for p in x.partitions}
    assert len(uuids) == 9
    data = targets[0].read_bytes()
    end = image.stat().st_size - MIB
    assert data[MIB:end] == image.read_bytes()[MIB:end]
    assert data[-512:-504] == b"EFI PART"


@pytest.mark.usefixtures("zstd")
def test_a_damaged_medium_leaves_a_disk_that_boots_nothing_and_can_be_tried_again(
    installer: ModuleType, image: Path, tmp_path: Path
) -> None:
    write_payload(image, tmp_path / "payload", "Server 1.0")
    good = installer.writing.open_payload(tmp_path / "payload")
    data = bytearray((tmp_path / "payload").read_bytes())
    head = json.loads(data[16 : good.start])
    head["sha256"] = hashlib.sha256(b"other").hexdigest()
    changed = json.dumps(head, separators=(",", ":"), sort_keys=True).encode()
    (tmp_path / "bad").write_bytes(data[:8] + len(changed).to_bytes(8, "little") + changed + data[good.start :])
    target = _target(tmp_path / "target")
    with pytest.raises(installer.writing.Failed, match="damaged"):
        installer.writing.write_image(
            installer.writing.open_payload(tmp_path / "bad"), target, target.stat().st_size, lambda line: None
        )
    assert not any(target.read_bytes()[:CHUNK])
    shutil.copyfile(tmp_path / "payload", tmp_path / "short")
    os.truncate(tmp_path / "short", good.start + good.length // 2)
    with pytest.raises(installer.writing.Failed, match="ends too early"):
        installer.writing.write_image(
            installer.writing.open_payload(tmp_path / "short"), target, target.stat().st_size, lambda line: None
        )
    installer.writing.write_image(good, target, target.stat().st_size, lambda line: None)
    assert len(read_gpt(target).partitions) == 2


@pytest.mark.parametrize(
    "data", [b"", b"BEDPLATE", b"BEDPLATE" + b"\xff" * 8, b"BEDPLATE" + (5).to_bytes(8, "little") + b"{nope"]
)
def test_a_medium_without_an_image(installer: ModuleType, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(data)
    with pytest.raises(installer.writing.Failed):
        installer.writing.open_payload(tmp_path / "payload")


def test_what_the_first_boot_finds(installer: ModuleType, tmp_path: Path) -> None:
    text = GOOD + '[network]\naddresses = ["192.0.2.5/24"]\ngateway = "192.0.2.1"\n[swap]\nenabled = false\n'
    installer.settling.write_files(installer.answers.parse(text), tmp_path)
    seed = tmp_path / "var/lib/cloud/seed/nocloud"
    user = (seed / "user-data").read_text()
    assert user.startswith("#cloud-config\n")
    assert json.loads(user.partition("\n")[2])["users"][0]["ssh_authorized_keys"] == [KEY]
    assert (tmp_path / "etc/hostname").read_text() == "web1\n"
    assert "127.0.1.1 web1.example.com web1\n" in (tmp_path / "etc/hosts").read_text()
    assert json.loads((seed / "network-config").read_text()) == {"config": "disabled"}
    network = (tmp_path / "etc/systemd/network/50-installed.network").read_text()
    assert network.splitlines()[-3:] == ["[Network]", "Address=192.0.2.5/24", "Gateway=192.0.2.1"]
    assert (tmp_path / "etc/repart.d/60-swap.conf").readlink() == Path("/dev/null")
    assert (seed / "user-data").stat().st_mode & 0o777 == 0o600


def test_the_dialog_asks_again_until_each_answer_is_good(installer: ModuleType) -> None:
    small = installer.disks.Disk(Path("/dev/vda"), 1 << 30, "abc", "QEMU")
    disk = installer.disks.Disk(Path("/dev/vdb"), 8 << 30, "def", "QEMU")
    said: list[str] = []
    replies = iter(
        ["7", "1", "2", "Bad Name", "web1", "root", "ada", "rubbish", "https://keys.example/none",
         "https://keys.example/ada", "", "n", "no",
         "2", "web1", "ada", KEY, "192.0.2.5", "192.0.2.5/24", "", "192.0.2.2, x", "192.0.2.2 192.0.2.3",
         "", "/dev/vdb"]
    )  # fmt: skip

    def fetch(address: str) -> str:
        if address.endswith("none"):
            raise installer.answers.WrongAnswers([f"{address} cannot be fetched"])
        return f"{KEY}\n\n{KEY}\n"

    def answers() -> object:
        return installer.dialog.asked(
            [small, disk], "Server 1.0", 2 << 30, lambda prompt: next(replies), said.append, fetch
        )

    given = answers()
    assert (given.hostname, given.disk.path, given.disk.erase) == ("web1", "/dev/vdb", True)
    assert (given.network.dns, given.network.gateway) == (["192.0.2.2", "192.0.2.3"], "")
    assert next(replies, None) is None
    text = "\n".join(said)
    for words in (
        "number from 1 to 2",
        "/dev/vda cannot be written: too small",
        "'Bad Name' is not",
        "'root' is not",
        "'rubbish' is not an OpenSSH",
        "none cannot be fetched",
        "Nothing was written",
        "'192.0.2.5' is not",
        "/dev/vdb (8192 MiB): everything on it will be lost",
        "name servers 192.0.2.2, 192.0.2.3",
    ):
        assert words in text
    assert "swap       none" in text
    replies = iter([""])
    assert answers() is None
    assert installer.dialog.asked([], "Server 1.0", 1, lambda prompt: "", said.append, fetch) is None
