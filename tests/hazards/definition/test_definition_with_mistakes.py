"""A definition with mistakes in several files: all of them are reported at once, with file and key."""

from __future__ import annotations

import pytest

from bedplate.model.definition.load import load_definition
from bedplate.model.errors import BadInput

_GOOD = {
    "distro.toml": ('id = "demo"\nname = "Demo"\nversion = "1"\nstream = "1"\nsource_date_epoch = 1\nupstreams = []\n'),
    "tools.toml": "[sets.tools]\npackages = []\n",
    "ids.toml": "[users]\nroot = { uid = 0 }\n[groups]\nadm = 4\n",
    "packages/base.toml": '[[package]]\nname = "dash"\n',
    "own/filesystem.toml": 'name = "filesystem"\nrelease = "1"\nsummary = "x"\ndescription = "x"\n',
}


def test_a_good_definition_is_read() -> None:
    definition = load_definition(_GOOD)
    assert definition.distro.id == "demo"
    assert set(definition.facts) == {"dash"}
    assert set(definition.own) == {"filesystem"}


def test_definition_with_five_mistakes_reports_all_five() -> None:
    mistakes = {
        "distro.toml": 'id = "Not Allowed"\nname = "Demo"\nversion = "1"\nstream = "1"\nupstreams = []\n',
        "ids.toml": "[users]\nroot = { uid = zero }\n",
        "packages/base.toml": '[[package]]\nname = "dash"\nmodes = { "/bin/x" = { mode = "rwx" } }\n',
        "own/filesystem.toml": _GOOD["own/filesystem.toml"] + 'colour = "blue"\n',
    }
    with pytest.raises(BadInput) as caught:
        load_definition({**_GOOD, **mistakes})
    lines = sorted(caught.value.details)
    assert len(lines) == 5
    assert lines[0].startswith("distro.toml: id: ")
    assert lines[1] == "distro.toml: source_date_epoch: is missing"
    assert lines[2].startswith("ids.toml: not valid TOML")
    assert lines[3] == "own/filesystem.toml: colour: no such key"
    assert lines[4].startswith("packages/base.toml: package[0].modes./bin/x.mode: ")
    assert caught.value.exit_code == 2


def test_a_missing_file_and_a_package_said_twice_are_mistakes() -> None:
    files = {**_GOOD, "own/other.toml": _GOOD["own/filesystem.toml"]}
    del files["tools.toml"]
    with pytest.raises(BadInput) as caught:
        load_definition(files)
    assert sorted(caught.value.details) == [
        "own/other.toml: package 'filesystem' is defined twice",
        "tools.toml: is missing",
    ]
