"""A guest that lies, babbles or breaks off."""

from __future__ import annotations

import base64
import hashlib

import pytest

from bedplate.emulator.boot import diagnose
from bedplate.emulator.channel import Channel, last_lines, plain_text
from bedplate.emulator.options import Acceleration, Accelerator
from bedplate.emulator.report import parse_report, unframe
from bedplate.model.errors import BedplateError

TCG = Accelerator(Acceleration.TCG, "test")


def frame(text: bytes) -> bytes:
    head = f"=== bedplate report {len(text)} {hashlib.sha256(text).hexdigest()} ===\n".encode()
    return head + base64.encodebytes(text) + b"=== bedplate report end ===\n"


def test_report_cut_off_in_the_middle() -> None:
    whole = frame(b"@state\nrunning\n@end\n")
    assert unframe(whole[: len(whole) // 2]) is None


def test_report_with_a_lost_line() -> None:
    lines = frame(b"@state\nrunning\n" + b"x" * 500 + b"\n@end\n").splitlines(keepends=True)
    del lines[2]
    with pytest.raises(BedplateError, match="damaged"):
        unframe(b"".join(lines))


def test_report_without_its_beginning() -> None:
    whole = frame(b"@state\nrunning\n@end\n")
    with pytest.raises(BedplateError, match="lacks its beginning"):
        unframe(whole[20:])


def test_report_that_claims_to_be_enormous() -> None:
    with pytest.raises(BedplateError, match="at most"):
        unframe(b"=== bedplate report 99999999 " + b"0" * 64 + b" ===\n=== bedplate report end ===\n")


def test_report_without_end_section() -> None:
    with pytest.raises(BedplateError, match="not complete"):
        parse_report("@state\nrunning\n@failed\n", TCG)


def test_section_that_a_log_line_tries_to_replace() -> None:
    text = "@state\ndegraded\n@failed\na.service\n@errors\noops\n@state\nrunning\n@failed\n@end\n"
    report = parse_report(text, TCG)
    assert report.state == "degraded"
    assert report.failed_units == ("a.service",)


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x1b[2J\x1b[1;1Hclean",
        b"\x1b]0;title\x07clean",
        b"\x1b]52;c;cm0gLXJmIC8=\x1b\\clean",
        b"\x1bPq#0;2;0;0;0\x1b\\clean",
        b"\x1bcclean",
        b"\xc2\x9b2Jclean",
        b"\x08\x08\x00clean\x7f",
        b"\x1b[!p\x1b]104\x07\x1b[?7hclean",
    ],
)
def test_console_with_escape_codes(hostile: bytes) -> None:
    shown = plain_text(hostile)
    assert shown.endswith("clean")
    assert all(char.isprintable() or char in "\n\t" for char in shown)


def test_console_line_without_end() -> None:
    assert last_lines(b"x" * 10_000_000, 5) == ["x" * 200]


def test_console_that_never_stops() -> None:
    channel = Channel()
    for _ in range(80):
        channel.feed(b"y" * 100_000)
    assert len(channel.data) <= 4 << 20
    channel.local.close()
    channel.remote.close()


def test_escape_code_within_a_message_does_not_hide_a_refusal() -> None:
    console = b"\x1b[1m\x1b[31m\x1b[40m../src/boot/boot.c: Error loading \\EFI\\Linux\\b.efi: Access denied\r\n"
    found = diagnose(console)
    assert found is not None
    assert found.id == "secure-boot-denied"


def test_times_that_are_not_numbers() -> None:
    report = parse_report(
        "@state\nrunning\n@times\nFirmwareTimestampMonotonic=-5\nFinishTimestampMonotonic=x\n@end\n", TCG
    )
    assert report.boot_seconds.total == 0
