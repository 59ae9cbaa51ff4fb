"""Stages: accounts, alternatives, identity, their cache; and those that run tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.compose import IDS, contents_of, package, plan

from bedplate.compose.stages.alternatives import links
from bedplate.compose.stages.base import select_inputs, stage_key
from bedplate.compose.stages.ca_bundle import BUNDLE, CaBundle
from bedplate.compose.stages.cache import StageCache, pack, unpack
from bedplate.compose.stages.hwdb import Hwdb
from bedplate.compose.stages.identity import ImageName, os_release
from bedplate.compose.stages.presets import Presets
from bedplate.compose.stages.run import run_stages
from bedplate.compose.stages.users import accounts
from bedplate.model.definition.facts import Alternative, PackageFacts
from bedplate.model.errors import BadInput
from bedplate.toolchain.run import Toolbox


def test_accounts_are_locked_and_sorted_by_number() -> None:
    made = accounts(IDS)
    assert made.contents["/etc/passwd"].splitlines()[-1] == b"alice:x:900:50::/:/usr/sbin/nologin"
    assert b"shadow:x:42:" in made.contents["/etc/group"].splitlines()
    assert all(line.split(b":")[1] == b"!*" for line in made.contents["/etc/shadow"].splitlines())
    modes = {entry.path: (entry.mode, entry.group) for entry in made.files}
    assert modes["/etc/shadow"] == (0o640, "shadow")


def test_alternatives_whose_target_is_in_the_image() -> None:
    facts = [
        PackageFacts(
            name="p",
            alternatives=[
                Alternative(link="/bin/sh", target="/usr/bin/dash"),
                Alternative(link="/usr/bin/vi", target="/usr/bin/vim"),
            ],
        )
    ]
    made = links(facts, {"/usr/bin/dash"})
    assert [(entry.path, entry.target) for entry in made.files] == [("/usr/bin/sh", "/usr/bin/dash")]


def test_alternatives_that_disagree() -> None:
    facts = [
        PackageFacts(name=name, alternatives=[Alternative(link="/usr/bin/awk", target=f"/usr/bin/{name}")])
        for name in ("gawk", "mawk")
    ]
    with pytest.raises(BadInput, match="/usr/bin/awk"):
        links(facts, {"/usr/bin/gawk", "/usr/bin/mawk"})


def test_os_release_quotes() -> None:
    name = ImageName("bedplate", 'The "Plate"', "1.0", "", "container", "Container host", "1.0.3", "abc")
    text = os_release(name).decode()
    assert 'NAME="The \\"Plate\\""\n' in text
    assert "IMAGE_VERSION=1.0.3\n" in text
    assert "HOME_URL" not in text


def test_cache_refuses_what_is_not_whole(tmp_path: Path) -> None:
    made = accounts(IDS)
    cache = StageCache(tmp_path)
    cache.put("key", made)
    assert cache.get("key") == made
    data = (tmp_path / "key").read_bytes()
    (tmp_path / "key").write_bytes(data[:-1] + b"?")
    assert cache.get("key") is None
    assert unpack(data[: len(data) // 2]) is None
    assert unpack(pack(made)) == made


def test_key_follows_what_the_stage_can_see() -> None:
    stage = CaBundle()
    one = plan(package("a", {"/usr/share/ca-certificates/x.crt": b"1", "/usr/bin/a": b"1"}))
    other = plan(package("a", {"/usr/share/ca-certificates/x.crt": b"1", "/usr/bin/a": b"2"}))
    changed = plan(package("a", {"/usr/share/ca-certificates/x.crt": b"2", "/usr/bin/a": b"1"}))
    keys = [stage_key(stage, select_inputs(tree, stage.inputs), "tools") for tree in (one, other, changed)]
    assert keys[0] == keys[1] != keys[2]


def test_ca_bundle_is_sorted_and_cached(tmp_path: Path) -> None:
    source = package("ca", {"/usr/share/ca-certificates/b.crt": b"B", "/usr/share/ca-certificates/a.crt": b"A\n\n"})
    toolbox: Toolbox = None  # type: ignore[assignment] - this stage runs no tool
    for _ in range(2):
        (made,) = run_stages(
            [CaBundle()],
            plan(source),
            contents_of(source),
            toolbox,
            "tools",
            StageCache(tmp_path / "c"),
            tmp_path / "s",
        )
        assert made.contents[BUNDLE] == b"A\nB\n"
    assert source.reads == 1
    assert not list((tmp_path / "s").glob("*"))


@pytest.mark.tools
def test_presets_and_masks(tmp_path: Path, toolbox: Toolbox) -> None:
    unit = b"[Service]\nExecStart=true\n[Install]\nWantedBy=multi-user.target\n"
    units = package(
        "u",
        {
            "/usr/lib/systemd/system/on.service": unit,
            "/usr/lib/systemd/system/off.service": unit,
            "/usr/lib/systemd/system-preset/10.preset": b"enable on.service\ndisable *\n",
        },
    )
    (made,) = run_stages(
        [Presets(("bad.service",))],
        plan(units),
        contents_of(units),
        toolbox,
        "t",
        StageCache(tmp_path / "c"),
        tmp_path / "s",
    )
    assert {entry.path: entry.target for entry in made.files} == {
        "/etc/systemd/system/bad.service": "/dev/null",
        "/etc/systemd/system/multi-user.target.wants/on.service": "/usr/lib/systemd/system/on.service",
    }


@pytest.mark.tools
def test_hwdb_does_not_depend_on_where_it_is_made(tmp_path: Path, toolbox: Toolbox) -> None:
    source = package("udev", {"/usr/lib/udev/hwdb.d/20-x.hwdb": b"mouse:*\n ID_X=1\n"})
    made = [
        run_stages(
            [Hwdb()],
            plan(source),
            contents_of(source),
            toolbox,
            "t",
            StageCache(tmp_path / n / "c"),
            tmp_path / n / "s",
        )
        for n in ("one", "another-place")
    ]
    assert made[0] == made[1]
    assert b"tmp" not in made[0][0].contents["/usr/lib/udev/hwdb.bin"]
