"""What a machine keeps beside a root that never changes: the list the initrd reads, and what must fit it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from bedplate.compose.initrd import script
from bedplate.compose.roots.erofs import OPENERS

FILES = Path(__file__).resolve().parents[3] / "distro/files"
STATE = "/var/lib/bedplate/state"


def _rows(path: str) -> list[list[str]]:
    return [line.split() for line in (FILES / "state" / path).read_text().splitlines()]


def test_every_place_of_the_machines_own_is_made_and_labelled_as_the_one_it_is_mounted_on() -> None:
    rows = _rows("usr/lib/bedplate/state")
    assert all(len(row) == {"own": 3, "image": 2}[row[0]] for row in rows)
    own = [row[1] for row in rows if row[0] == "own"]
    made = tomllib.loads((FILES / "state.toml").read_text())["directories"]
    assert {STATE + path for path in own} <= set(made)
    labels = dict(_rows("etc/selinux/default/contexts/files/file_contexts.subs"))
    others = {f"{STATE}/etc/upper": "/etc", f"{STATE}/os-release": "/usr/lib/os-release"}
    assert labels == {**others, **{STATE + path: path for path in own}}


def test_nobody_gains_rights_by_what_is_mounted() -> None:
    options = {row[1]: row[2].split(",") for row in _rows("usr/lib/bedplate/state") if row[0] == "own"}
    assert all("nodev" in given for given in options.values())
    assert all("nosuid" in options[path] for path in ("/home", "/root", "/srv"))


def test_the_initrd_knows_the_way_only_where_a_track_asks_for_it() -> None:
    assert b"find_var" in script(OPENERS["kept"])["root.sh"]
    assert b"find_var" not in script(OPENERS["none"])["root.sh"]
