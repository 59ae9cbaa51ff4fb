"""The boot report: what a guest sends becomes the fields others build on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bedplate.emulator.boot import MEANINGS, diagnose
from bedplate.emulator.credentials import report_credentials, ssh_credentials
from bedplate.emulator.options import Acceleration, Accelerator
from bedplate.emulator.report import PROOF, boot_seconds, parse_report
from bedplate.model.errors import BadInput

TCG = Accelerator(Acceleration.TCG, "no KVM here")
PCR11 = "AB" * 32
HASH = "cd" * 32
SAMPLE = f"""@state
running
@failed
@times
FirmwareTimestampMonotonic=4500000
LoaderTimestampMonotonic=1500000
KernelTimestampMonotonic=0
InitRDTimestampMonotonic=0
UserspaceTimestampMonotonic=4000000
FinishTimestampMonotonic=8250000
@init
2500000
@secureboot
   6   0   0   0   1
@setupmode
   6   0   0   0   0
@tpm
2
@pcr11
{PCR11}
@pcrs
7=00{"11" * 31}
11={PCR11}
@dm
root CRYPT-VERITY-0123-root ro=1 dev=254:0
var CRYPT-LUKS2-4567-var ro=0 dev=254:1
@rootdev
254:0 ro,relatime - erofs /dev/mapper/root ro
@verity
/dev/mapper/root is active and is in use.
  type:        VERITY
  status:      verified
  root hash:   {HASH}
@cmdline
roothash={HASH} quiet
@lockdown
none [integrity] confidentiality
@sigenforce
Y
@osrelease
ID=bedplate
IMAGE_VERSION="7"
@kernel
6.12
@mounts
/dev/mapper/root / erofs ro 0 0
/dev/mapper/var /var ext4 rw 0 0
@listen
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=1,fd=2))
tcp LISTEN 0 4096 0.0.0.0:22 0.0.0.0:*
@container
image=bedplate.local/proof:1
{PROOF}
exit=0
begin=10.0 end=14.0
@end
"""


def test_report_of_a_good_boot() -> None:
    report = parse_report(SAMPLE, TCG, expected_pcr11=[PCR11.lower()])
    assert (report.state, report.failed_units) == ("running", ())
    assert report.secure_boot
    assert report.verity
    assert report.tpm
    assert report.pcr11_matches is True
    assert report.containers_ran is True
    assert report.root_hash == HASH
    assert report.lockdown == "integrity"
    assert report.module_signatures_enforced
    assert report.var_device == "encrypted"
    assert report.version == "7"
    assert [(one.protocol, one.address, one.process) for one in report.listening] == [
        ("udp", "127.0.0.53%lo:53", "systemd-resolve"),
        ("tcp", "0.0.0.0:22", ""),
    ]


def test_seconds_add_up_to_the_total() -> None:
    seconds = parse_report(SAMPLE, TCG).boot_seconds
    assert (seconds.firmware, seconds.loader, seconds.kernel, seconds.initrd, seconds.userspace) == (
        3.0,
        1.5,
        2.5,
        1.5,
        4.25,
    )
    assert seconds.total == 12.75


def test_seconds_of_an_initrd_with_systemd() -> None:
    times = {"InitRDTimestampMonotonic": "1000000", "UserspaceTimestampMonotonic": "3000000"}
    seconds = boot_seconds(times, "")
    assert (seconds.kernel, seconds.initrd) == (1.0, 2.0)


def test_seconds_before_the_kernel_are_seen_from_outside_when_the_loader_kept_none() -> None:
    seconds = boot_seconds({"FinishTimestampMonotonic": "5000000"}, "", power_on=(3.0, 1.25))
    assert (seconds.firmware, seconds.loader, seconds.total) == (3.0, 1.25, 9.25)


def test_json_has_the_promised_fields() -> None:
    data = json.loads(json.dumps(parse_report(SAMPLE, TCG).to_json()))
    assert data["accelerator"] == "tcg"
    assert set(data["boot_seconds"]) == {"firmware", "loader", "kernel", "initrd", "userspace", "total"}
    promised = {"state", "failed_units", "secure_boot", "verity", "tpm", "pcr11_matches", "containers_ran"}
    assert promised <= set(data)


@pytest.mark.parametrize(
    ("old", "new", "field", "value"),
    [
        ("6   0   0   0   1", "6   0   0   0   0", "secure_boot", False),
        ("@setupmode\n   6   0   0   0   0", "@setupmode\n   6   0   0   0   1", "secure_boot", False),
        ("@secureboot\n   6   0   0   0   1", "@secureboot", "secure_boot", False),
        ("status:      verified", "status:      corrupted", "verity", False),
        ("@rootdev\n254:0", "@rootdev\n253:1", "verity", False),
        (f"@pcr11\n{PCR11}", "@pcr11\n" + "00" * 32, "pcr11_matches", False),
        ("@tpm\n2", "@tpm", "pcr11_matches", None),
        ("exit=0", "exit=1", "containers_ran", False),
        (PROOF, "something else", "containers_ran", False),
        (f"image=bedplate.local/proof:1\n{PROOF}\nexit=0", "", "containers_ran", None),
        ("/dev/mapper/var /var ext4", "/dev/vda7 /var ext4", "var_device", "plain"),
        ("/dev/mapper/var /var ext4", "tmpfs /var tmpfs", "var_device", "memory"),
        ("@failed\n", "@failed\na.service\n", "failed_units", ("a.service",)),
    ],
)
def test_what_is_not_shown_is_not_claimed(old: str, new: str, field: str, value: object) -> None:
    assert old in SAMPLE
    report = parse_report(SAMPLE.replace(old, new, 1), TCG, expected_pcr11=[PCR11])
    assert getattr(report, field) == value


def test_nothing_to_compare_with_is_not_a_match() -> None:
    assert parse_report(SAMPLE, TCG).pcr11_matches is None


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        (b"Error loading \\EFI\\Linux\\a.efi: Access denied", "secure-boot-denied"),
        (b'BdsDxe: failed to load Boot0001 "UEFI Misc Device": Access Denied', "secure-boot-denied"),
        (
            b"device-mapper: verity: 254:3: data block 0 is corrupted\nKernel panic - not syncing: dm-verity device "
            b"corrupted",
            "verity-corruption",
        ),
        (b"BdsDxe: No bootable option or device was found.", "no-bootable-device"),
        (b"Kernel panic - not syncing: VFS: Unable to mount root fs", "kernel-panic"),
        (b"You are in emergency mode. After logging in", "emergency"),
    ],
)
def test_last_words_are_understood(console: bytes, expected: str) -> None:
    found = diagnose(console)
    assert found is not None
    assert found.id == expected
    assert found.remedy


def test_ordinary_output_is_no_failure() -> None:
    assert diagnose(b"[  OK  ] Reached target multi-user.target\nhost login: ") is None
    assert len({meaning.id for meaning in MEANINGS}) == len(MEANINGS)


def test_report_credentials_pull_the_unit_in_without_touching_the_image() -> None:
    credentials = report_credentials()
    unit = credentials["systemd.extra-unit.bedplate-report.service"].decode()
    assert "ImportCredential=bedplate.report" in unit
    assert b"Wants=bedplate-report.service" in credentials["systemd.unit-dropin.multi-user.target~bedplate-report"]
    assert credentials["bedplate.report"].count(b"\n@") == 0, "a section name in the script must come from section()"


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 AAAA\nssh-rsa BBBB", "command=x ssh-rsa AAAA"])
def test_what_is_not_one_public_key_is_refused(key: str) -> None:
    with pytest.raises(BadInput):
        ssh_credentials(key)


def test_report_is_a_value() -> None:
    report = parse_report(SAMPLE, TCG)
    assert replace(report, state="degraded").state == "degraded"
    assert report.state == "running"
