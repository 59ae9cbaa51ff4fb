"""What deserves a look in a root: found by content and mode, not by place."""

from __future__ import annotations

import stat
import struct

import pytest
from tests.support.images import elf_library, elf_program

from bedplate.compose.capabilities import encode
from bedplate.verify.contents import PathFact, classify, describe_capabilities, is_program, resolve, survey

FILE, DIRECTORY, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK


def regular(path: str, mode: int = 0o644, **more: object) -> PathFact:
    return PathFact(path, FILE | mode, 0, 0, 10, 4, **more)  # type: ignore[arg-type]


def link(path: str, target: str) -> PathFact:
    return PathFact(path, LINK | 0o777, 0, 0, 0, 0, target)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("bash", elf_program(), ("", "bash")),
        ("python3.13", elf_program(), ("", "python")),
        ("innocent", elf_program(b"BASH_VERSINFO BASH_XTRACEFD BASH_LOADABLES_PATH"), ("", "bash")),
        ("innocent", elf_program(b"BusyBox v1.37 applet not found"), ("", "busybox")),
        ("completion", elf_program(b"uses BASH_VERSINFO only"), ("", "")),
        ("ls", elf_program(), ("", "")),
        ("libpython3.so", elf_library(), ("", "")),
        ("script", b"#!/bin/sh -e\n", ("/bin/sh", "")),
        ("script", b"#! /usr/bin/env -S python3 -u\n", ("/usr/bin/python3", "")),
        ("script", b"#!\n", ("", "")),
        ("text", b"bash", ("", "")),
    ],
)
def test_what_a_file_is(name: str, data: bytes, expected: tuple[str, str]) -> None:
    assert classify(name, data[:4096], data) == expected


def test_a_static_program_that_can_lie_anywhere_is_a_program() -> None:
    head = bytearray(elf_library())
    struct.pack_into("<Q", head, 24, 0x1000)
    assert is_program(bytes(head))
    assert not is_program(elf_library())


def test_survey_lists_what_a_track_must_allow() -> None:
    found = survey(
        [
            PathFact("/", DIRECTORY | 0o755, 0, 0, 0, 0),
            PathFact("/tmp", DIRECTORY | 0o1777, 0, 0, 0, 0),
            regular("/usr/bin/su", 0o4755),
            regular("/usr/bin/ping", 0o755, xattrs={"security.capability": encode("cap_net_raw=ep")}),
            regular("/usr/bin/dash", 0o755, interpreter="dash"),
            link("/usr/bin/sh", "dash"),
            link("/bin", "usr/bin"),
            regular("/usr/bin/job", 0o755, script="/bin/sh"),
            regular("/usr/bin/other", 0o755, script="/usr/bin/perl"),
            regular("/usr/bin/odd", 0o755, script="/usr/libexec/runner"),
            regular("/usr/libexec/runner", 0o755),
            PathFact("/dev/null", stat.S_IFCHR | 0o666, 0, 0, 0, 0),
        ]
    )
    assert [(entry.path, entry.mode) for entry in found.setid] == [("/usr/bin/su", "4755")]
    assert [(entry.path, entry.capabilities) for entry in found.capabilities] == [("/usr/bin/ping", "cap_net_raw=ep")]
    assert found.world_writable == ("/tmp", "/dev/null")
    assert [(entry.path, entry.scripts) for entry in found.interpreters] == [
        ("/usr/bin/dash", 1),
        ("/usr/libexec/runner", 1),
    ]
    assert found.orphan_scripts == ("/usr/bin/other",)
    assert found.devices == ("/dev/null",)
    assert found.unowned is None


def test_examples_in_documentation_need_no_interpreter_and_make_none() -> None:
    example = "/usr/share/doc/nftables/examples/all.nft"
    found = survey(
        [
            regular("/usr/sbin/nft", 0o755),
            regular(example, 0o755, script="/usr/sbin/nft"),
            regular("/usr/share/doc/x/y", 0o755, script="/usr/bin/perl"),
        ]
    )
    assert (found.interpreters, found.orphan_scripts) == ((), ())


def test_owners_and_paths_without_one() -> None:
    facts = [regular("/a"), regular("/b"), regular("/c"), PathFact("/lost+found", DIRECTORY | 0o700, 0, 0, 0, 0)]
    found = survey(facts, {"/a": "package:x", "/b": "package:x"})
    assert found.owners is not None
    assert [(row.owner, row.paths, row.size, row.stored) for row in found.owners] == [("package:x", 2, 20, 8)]
    assert found.unowned == ("/c",)


@pytest.mark.parametrize("text", ["cap_net_raw=ep", "cap_net_admin,cap_bpf=p", "cap_chown=i"])
def test_capabilities_read_as_they_were_written(text: str) -> None:
    assert describe_capabilities(encode(text)) == text


def test_links_in_a_circle_end() -> None:
    assert resolve("/a/x", {"/a": "b", "/b": "a"}) == "/a/x"
    assert resolve("/bin/../lib/x", {"/bin": "usr/bin", "/lib": "usr/lib"}) == "/usr/lib/x"
