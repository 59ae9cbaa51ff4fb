"""The boot chain's bytes: cpio, PE sections, PCR 11, command line, and init's text."""

from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path

import pefile
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bedplate.compose import cpio, pcr, pe, uki
from bedplate.compose.initrd import BUSES, OPENERS, script
from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_an_archive_does_not_depend_on_the_order_of_its_entries() -> None:
    entries = [
        cpio.directory("bin"),
        cpio.file("bin/sh", b"abc", 0o755),
        cpio.link("init", "bin/sh"),
        cpio.character_device("console", 5, 1),
    ]
    assert cpio.archive(entries) == cpio.archive(reversed(entries))
    assert cpio.archive(entries).count(b"070701") == 5


@pytest.mark.tools
def test_cpio_reads_the_archive(tmp_path: Path, toolbox: Toolbox) -> None:
    archive = cpio.archive([cpio.directory("etc"), cpio.file("etc/motd", b"hello"), cpio.link("etc/link", "motd")])
    listing = toolbox.run("cpio", "--list", "--quiet", stdin=archive).text.split()
    assert listing == ["etc", "etc/link", "etc/motd"]


@pytest.mark.parametrize("paths", [("a", "a"), ("/a",), ("a/../b",)])
def test_an_archive_of_paths_that_do_not_fit(paths: tuple[str, ...]) -> None:
    with pytest.raises(BadInput):
        cpio.archive([cpio.file(path, b"") for path in paths])


@pytest.mark.tools
def test_sections_are_where_another_reader_finds_them(toolbox: Toolbox) -> None:
    stub = toolbox.tree.path(STUB).read_bytes()
    kernel = stub  # any PE32+ program will do
    made = pe.add_sections(stub, [pe.Section(".cmdline", b"quiet"), pe.Section(".linux", kernel)], "stub")
    image = pefile.PE(data=made)
    found = {s.Name.rstrip(b"\0").decode(): s for s in image.sections}
    assert found[".cmdline"].get_data()[: found[".cmdline"].Misc_VirtualSize] == b"quiet"
    assert found[".linux"].get_data()[: len(kernel)] == kernel
    last = image.sections[-1]
    alignment = image.OPTIONAL_HEADER.SectionAlignment
    assert (
        image.OPTIONAL_HEADER.SizeOfImage == -(-(last.VirtualAddress + last.Misc_VirtualSize) // alignment) * alignment
    )
    assert {s.name: s.data for s in pe.sections(made, "made")}[".cmdline"] == b"quiet"


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + bytes(100), b"\x7fELF" + bytes(200)])
def test_a_stub_that_is_no_program(data: bytes) -> None:
    with pytest.raises(BadInput, match="not an EFI program"):
        pe.add_sections(data, [pe.Section(".cmdline", b"")], "stub")


@pytest.mark.tools
def test_each_profile_has_its_own_command_line_and_a_signed_policy(toolbox: Toolbox, key: rsa.RSAPrivateKey) -> None:
    stub = toolbox.tree.path(STUB).read_bytes()

    def sign(data: bytes) -> bytes:
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def made(*profiles: uki.Profile) -> uki.Uki:
        return uki.build_uki(
            stub, stub, b"initrd", b"ID=x\nIMAGE_ID=x-y\nA=b\n", "6.12", "quiet", public_pem(key), sign, profiles
        )

    other = uki.Profile("other", "another way", uki.profile_line("quiet", ["preempt=full"]))
    plain, two = made(), made(other)
    assert plain.profiles == {}
    values = [*two.pcr11.values(), *two.profiles["other"].values()]
    assert len({*values, *plain.pcr11.values()}) == 3 * len(two.pcr11)
    sections = pe.sections(two.data, "uki")
    at = [section.name for section in sections].index(".profile")
    assert [(one.name, one.data) for one in sections[at:]] == [
        (".profile", b"# as the image says\n"),
        (".profile", b'ID=other\nTITLE="another way"\n'),
        # It must come behind the first entry in the menu, which goes by this name.
        (".osrel", b"ID=x\nIMAGE_ID=x-y-other\nA=b\n"),
        (".cmdline", b"quiet preempt=full"),
    ]
    policies = {one["pol"] for one in json.loads(next(s.data for s in sections if s.name == ".pcrsig"))["sha256"]}
    assert policies == {pcr.policy_digest(bytes.fromhex(value)).hex() for value in values}


@pytest.mark.parametrize("option", ["roothash=0", "init=/bin/sh", "rdinit=/x", "two words", ""])
def test_a_profile_says_nothing_about_what_is_trusted(option: str) -> None:
    with pytest.raises(BadInput, match="cannot stand in the command_line of a profile"):
        uki.profile_line("quiet", [option])


@pytest.mark.tools
def test_pcr_11_and_its_signature_are_what_systemd_measure_says(
    tmp_path: Path, toolbox: Toolbox, key: rsa.RSAPrivateKey
) -> None:
    stub = toolbox.tree.path(STUB).read_bytes()

    def sign(data: bytes) -> bytes:
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    made = uki.build_uki(stub, stub, b"initrd", b"ID=x\n", "6.12", "quiet roothash=0", public_pem(key), sign)
    sections = {s.name: s.data for s in pe.sections(made.data, "uki")}
    arguments = []
    for name in ("linux", "osrel", "cmdline", "initrd", "uname", "sbat", "pcrpkey"):
        (tmp_path / name).write_bytes(sections[f".{name}"])
        arguments.append(f"--{name}={tmp_path / name}")
    secret = tmp_path / "key.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(pem)
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    told = json.loads(
        toolbox.run(
            "systemd-measure", "sign", "--bank=sha256", "--phase=sysinit", "--phase=sysinit:ready", *arguments,
            f"--private-key={secret}", f"--public-key={tmp_path / 'public.pem'}",
        ).stdout
    )  # fmt: skip
    ours = json.loads(sections[".pcrsig"])
    by_policy = {entry["pol"]: entry for entry in ours["sha256"]}
    assert len(told["sha256"]) == 2
    for entry in told["sha256"]:
        assert by_policy[entry["pol"]] == entry
    calculated = toolbox.run("systemd-measure", "calculate", "--bank=sha256", "--phase=sysinit", *arguments).text
    assert made.pcr11["sysinit"] in calculated


def test_signatures_verify_and_cover_every_phase(key: rsa.RSAPrivateKey) -> None:
    values = pcr.expected({".linux": b"k", ".cmdline": b"c"})
    assert list(values) == ["", "sysinit", "sysinit:ready"]
    text = pcr.signature_json(values, public_pem(key), lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256()))
    for entry, value in zip(json.loads(text)["sha256"], values.values(), strict=True):
        policy = pcr.policy_digest(bytes.fromhex(value))
        assert entry["pol"] == policy.hex()
        key.public_key().verify(base64.b64decode(entry["sig"]), policy, padding.PKCS1v15(), hashes.SHA256())


def test_pcr_11_changes_with_every_section() -> None:
    base = {".linux": b"k", ".initrd": b"i", ".cmdline": b"c"}
    first = pcr.expected(base)[""]
    assert all(pcr.expected({**base, name: b"other"})[""] != first for name in base)
    assert pcr.expected({**base, ".pcrsig": b"any"})[""] == first


@pytest.mark.parametrize("option", ["roothash=1", "root=/dev/vda", "init=/bin/sh", "two words"])
def test_options_that_belong_to_the_build(option: str) -> None:
    with pytest.raises(BadInput, match="command_line"):
        uki.command_line(["quiet", option], ["roothash=" + "0" * 64])


def test_init_never_starts_a_shell_and_ends_in_a_restart() -> None:
    lines = [line for opener in OPENERS for part in script(opener).values() for line in part.decode().splitlines()]
    text = "\n".join(lines)
    assert "reboot -f" in text
    shells = ("exec sh", "busybox sh", "exec $bb sh")
    assert not any(line.strip().endswith(shells) for line in lines if not line.startswith("#!"))
    assert "panic_on_corruption" in text


@pytest.mark.parametrize("opener", OPENERS)
def test_init_looks_at_the_buses_that_drivers_are_listed_for(opener: str) -> None:
    seen = re.findall(rb"/sys/bus/(\S+)/devices", script(opener)["init"])
    assert sorted(bus.decode() for bus in seen) == sorted(BUSES)


def test_section_alignment_constant_of_struct() -> None:
    assert struct.calcsize("<8sIIIIIIHHI") == 40
