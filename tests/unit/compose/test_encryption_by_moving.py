"""The initrd moves a root behind its header: cut after any write it goes on at the next start and ends the same.

The script runs as it is, in a shell, on a file for a partition; only the programs that need a kernel's or a TPM's help
are stand-ins. What goes to the encrypted device goes to the same file, the header's length further on.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from importlib import resources
from pathlib import Path

import pytest

MIB = 1 << 20
PIECES = 3
HEADER = (b"LUKS\xba\xbe" + bytes(range(250))) * 4096
STAND_INS = """
fail() { echo "FAIL $1"; exit 9; }
cat() { case $1 in /sys/class/block/*) echo $sectors ;; *) command cat "$@" ;; esac; }
cryptsetup() { :; }
dmsetup() { echo "0 1 crypt aes-xts-plain64 0 0 0:0 0"; }
dd() {
	echo >>"$written"
	[ $(command wc -l <"$written") -le $writes ] || exit 7
	target= seek=0 unit=512
	for one; do
		case $one in of=DEVICE) target=mapped ;; seek=*) seek=${one#seek=} ;; bs=1M) unit=1048576 ;; esac
	done
	if [ -z "$target" ]; then command dd "$@"; return; fi
	for one; do
		shift
		case $one in of=DEVICE) one=of=$root_device ;; seek=*) continue ;; esac
		set -- "$@" "$one"
	done
	command dd "$@" seek=$((seek + 1048576 / unit))
}
"""
AFTERWARDS = """
say() { :; }
credential() { case $1 in bedplate.encrypt) echo "$switch" ;; esac; }
crypt_tpm() { [ "$tpm" = yes ]; }
crypt_header() { cp "$header" CRYPT/header; }
prepare_root
echo "DONE $root_device"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    text = resources.files("bedplate.compose").joinpath("root_crypt.sh").read_text()
    for old, new in (
        ("piece=16", "piece=1"),
        ("/bin/", ""),
        ("$bb ", ""),
        (". /later-modules.sh", ":"),
        ("blockdev --flushbufs", ": "),
        ("/dev/mapper/root", "DEVICE"),
        ("/run/", f"{tmp_path}/run/"),
        ("/crypt", f"{tmp_path}/crypt"),
    ):
        text = text.replace(old, new)
    (tmp_path / "run/bedplate").mkdir()
    (tmp_path / "script").write_text(STAND_INS + text + AFTERWARDS.replace("CRYPT", f"{tmp_path}/crypt"))
    (tmp_path / "header").write_bytes(HEADER)
    return tmp_path


def root(extra: int = 0) -> bytes:
    """A file system of nearly three pieces, told by its superblock, and what lies in it."""
    data = bytearray(os.urandom(PIECES * MIB - 4096))
    data[:1024] = bytes(1024)
    struct.pack_into("<I", data, 1028, len(data) // 4096 + extra)
    struct.pack_into("<I", data, 1048, 2)
    return bytes(data)


def start(place: Path, writes: int, switch: str = "tpm2", tpm: str = "yes") -> subprocess.CompletedProcess[str]:
    partition = place / "partition"
    shutil.rmtree(place / "crypt", ignore_errors=True)
    (place / "written").write_bytes(b"")
    environment = {
        "PATH": os.environ["PATH"],
        "root_device": str(partition),
        "sectors": str(partition.stat().st_size // 512),
        "header": str(place / "header"),
        "writes": str(writes),
        "written": str(place / "written"),
        "switch": switch,
        "tpm": tpm,
    }
    return subprocess.run(
        ["sh", str(place / "script")], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def partition_of(place: Path, data: bytes, mib: int = PIECES + 3) -> Path:
    path = place / "partition"
    path.write_bytes(data.ljust(mib * MIB, b"\0"))
    return path


def check_moved(path: Path, data: bytes) -> None:
    found = path.read_bytes()
    assert found[:MIB] == HEADER
    assert found[MIB : MIB + len(data)] == data
    assert not any(found[(PIECES + 2) * MIB :])  # the copy of the header is gone


def test_a_root_is_moved_behind_its_header(place: Path) -> None:
    data = root()
    path = partition_of(place, data)
    done = start(place, 1000)
    assert done.stdout == "DONE DEVICE\n", done.stdout + done.stderr
    check_moved(path, data)


def test_a_cut_after_any_write_loses_nothing(place: Path) -> None:
    data = root()
    writes = 0
    while True:
        path = partition_of(place, data)
        first = start(place, writes)
        if first.returncode == 0:
            break
        assert first.returncode in (7, 9), first.stdout + first.stderr  # 9: a write at the end of a pipe was cut
        # Cut again while it goes on, then let it end. Without the switch: what was begun is finished.
        begun = path.read_bytes()[:14] in (b"bedplate-move ", HEADER[:14])
        start(place, 3, "")
        last = start(place, 1000, "")
        assert last.returncode == 0, last.stdout + last.stderr
        if begun:
            found = path.read_bytes()
            assert (found[:MIB], found[MIB : MIB + len(data)]) == (HEADER, data), f"cut after {writes} writes"
        else:
            assert path.read_bytes()[: len(data)] == data
        writes += 1
    assert writes > 2 * PIECES + 4


@pytest.mark.parametrize(
    ("switch", "tpm", "code", "word"),
    [
        ("", "yes", 0, "DONE"),
        ("off", "yes", 0, "DONE"),
        ("tpm2", "no", 9, "no TPM"),
        ("tpm2-or-plain", "no", 0, "DONE"),
        ("tmp2", "yes", 9, "it can say tpm2"),
    ],
)
def test_without_the_switch_or_a_tpm_nothing_is_written(
    place: Path, switch: str, tpm: str, code: int, word: str
) -> None:
    data = root()
    path = partition_of(place, data)
    done = start(place, 0, switch, tpm)
    assert (done.returncode, word in done.stdout) == (code, True), done.stdout + done.stderr
    assert path.read_bytes()[: len(data)] == data


def test_a_root_that_has_grown_is_left_alone(place: Path) -> None:
    data = root(extra=2 * 256)
    path = partition_of(place, data)
    done = start(place, 0)
    assert done.returncode == 9
    assert "before the first boot" in done.stdout
    assert path.read_bytes()[: len(data)] == data
