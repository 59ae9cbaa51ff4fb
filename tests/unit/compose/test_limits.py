"""Limits: what deserves a second look is found and held against the allow list."""

from __future__ import annotations

from dataclasses import replace

from tests.support.compose import folder, package, plan, regular

from bedplate.compose.limits import census, check_census, check_listening, check_sizes
from bedplate.compose.scripts import interpreter_of
from bedplate.model.definition.track import Limits
from bedplate.model.errors import Level

LIMITS = Limits(root_mib=1, uki_mib=1, packages=2)


def found() -> object:
    able = replace(regular("/usr/bin/ping"), capabilities="cap_net_raw=ep")
    tree = plan(
        package(
            "p", None, able, regular("/usr/bin/su", b"s", 0o4755), regular("/usr/bin/python3.13", b"p", 0o755),
            folder("/tmp", 0o1777), regular("/usr/share/bash", b"no program", 0o755),
        )
    )  # fmt: skip
    return census(tree.entries, {"/usr/bin/tool": "/usr/bin/perl"})


def test_everything_unlisted_is_an_error() -> None:
    errors = {(f.id, f.where) for f in check_census(found(), LIMITS, "t") if f.level is Level.ERROR}  # type: ignore[arg-type]
    assert errors == {
        ("image.setid.unlisted", "/usr/bin/su"),
        ("image.capabilities.unlisted", "/usr/bin/ping"),
        ("image.world-writable.unlisted", "/tmp"),
        ("image.interpreters.unlisted", "/usr/bin/python3.13"),
    }


def test_listed_things_pass_and_stale_entries_are_told() -> None:
    limits = LIMITS.model_copy(
        update={
            "setid": ["/usr/bin/su", "/usr/bin/gone"], "capabilities": ["/usr/bin/ping"], "world_writable": ["/tmp"],
            "interpreters": ["/usr/bin/python3.13"],
        }
    )  # fmt: skip
    findings = check_census(found(), limits, "t")  # type: ignore[arg-type]
    assert {f.level for f in findings} == {Level.WARNING}
    assert {f.id for f in findings} == {"image.setid.stale", "image.script.no-interpreter"}


def test_sizes() -> None:
    assert check_sizes(LIMITS, 1 << 20, 1 << 20, 2) == []
    assert [f.id for f in check_sizes(LIMITS, (1 << 20) + 1, 1 << 20, 3)] == ["image.size.root", "image.size.packages"]


def test_listening_sockets() -> None:
    limits = LIMITS.model_copy(update={"listening": ["tcp/22", "udp/53@127.0.0.53"]})
    assert [f.where for f in check_listening(["tcp/22", "udp/53@127.0.0.53", "udp/53@10.0.0.1"], limits)] == [
        "udp/53@10.0.0.1"
    ]


def test_first_lines() -> None:
    assert interpreter_of(b"#!/bin/sh -e\nx") == "/bin/sh"
    assert interpreter_of(b"#!/usr/bin/env python3\n") == "python3"
    assert interpreter_of(b"\x7fELF") == ""
    assert interpreter_of(b"#!\n") == ""
