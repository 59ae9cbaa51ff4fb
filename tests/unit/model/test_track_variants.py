"""A track that extends another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.flows.tracks import named_tracks
from bedplate.model.definition.load import load_definition
from bedplate.model.errors import BadInput

DISTRO = Path(__file__).resolve().parents[3] / "distro"
VARIANT = """
id = "variant"
extends = "server"
title = "Variant"
packages = ["one-more", "dnf"]
[kernel]
command_line = ["fips=1"]
[limits]
packages = 400
"""


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    found = [p for p in DISTRO.rglob("*.toml") if p.relative_to(DISTRO).parts[0] not in ("locks", "files")]
    return {str(path.relative_to(DISTRO)): path.read_text() for path in found}


def test_lists_are_added_to_tables_merged_and_the_rest_replaced(files: dict[str, str]) -> None:
    definition = load_definition({**files, "tracks/variant.toml": VARIANT})
    server, variant = definition.track("server"), definition.track("variant")
    assert variant.packages == [*server.packages, "one-more"]
    assert variant.kernel.command_line == [*server.kernel.command_line, "fips=1"]
    assert variant.kernel.initrd_modules == server.kernel.initrd_modules
    assert (variant.title, variant.limits.packages, variant.limits.root_mib) == ("Variant", 400, server.limits.root_mib)
    assert variant.extends == "server"


@pytest.mark.parametrize("base", ["nothing", "variant"])
def test_what_is_extended_must_be_a_track_that_extends_none(files: dict[str, str], base: str) -> None:
    text = VARIANT.replace('extends = "server"', f'extends = "{base}"')
    with pytest.raises(BadInput) as caught:
        load_definition({**files, "tracks/variant.toml": text})
    assert any(line.startswith("tracks/variant.toml: extends:") for line in caught.value.details)


def test_a_mistake_in_a_variant_is_named_in_its_own_file(files: dict[str, str]) -> None:
    with pytest.raises(BadInput) as caught:
        load_definition({**files, "tracks/variant.toml": VARIANT + "rooms = 1\n"})
    assert list(caught.value.details) == ["tracks/variant.toml: limits.rooms: no such key"]


def test_a_variant_is_built_when_it_is_named(files: dict[str, str]) -> None:
    definition = load_definition({**files, "tracks/variant.toml": VARIANT})
    assert {"container", "server"} <= set(named_tracks(definition, []))
    assert "variant" not in named_tracks(definition, [])
    assert named_tracks(definition, ["variant"]) == ["variant"]


def test_only_an_ext4_root_can_be_encrypted(files: dict[str, str]) -> None:
    text = files["tracks/container.toml"].replace("[root]", '[root]\nencryption = "offered"')
    with pytest.raises(BadInput, match="mistake") as caught:
        load_definition({**files, "tracks/container.toml": text})
    assert any("only an ext4 root can be encrypted" in line for line in caught.value.details)


def test_a_variant_leaves_out_what_it_does_not_take_over(files: dict[str, str]) -> None:
    more = '[without]\npackages = ["dnf"]\n"kernel.profiles" = ["preempt"]\n"limits.setid" = ["/usr/bin/sudo"]\n'
    definition = load_definition({**files, "tracks/variant.toml": VARIANT.replace(', "dnf"', "") + more})
    server, variant = definition.track("server"), definition.track("variant")
    assert set(server.packages) - set(variant.packages) == {"dnf"}
    assert (len(server.kernel.profiles), variant.kernel.profiles) == (1, [])
    assert "/usr/bin/sudo" in server.limits.setid and "/usr/bin/sudo" not in variant.limits.setid


@pytest.mark.parametrize(
    "left_out",
    ['packages = ["no-such-package"]', 'limits = ["root_mib"]', '"limits.root_mib" = ["1"]', '"no.such" = ["1"]'],
)
def test_what_is_not_there_cannot_be_left_out(files: dict[str, str], left_out: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_definition({**files, "tracks/variant.toml": f"{VARIANT}[without]\n{left_out}\n"})
    assert any(line.startswith("tracks/variant.toml: without.") for line in caught.value.details)


def test_only_a_root_that_never_changes_has_state_beside_it(files: dict[str, str]) -> None:
    text = files["tracks/server.toml"].replace("[root]", '[root]\nstate = "kept"')
    with pytest.raises(BadInput, match="mistake") as caught:
        load_definition({**files, "tracks/server.toml": text})
    assert any("`state` of ext4 must be none" in line for line in caught.value.details)
