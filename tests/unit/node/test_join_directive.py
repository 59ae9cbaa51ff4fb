"""The directive for a first boot: what is asked for, and every mistake with its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bedplate_join.cli import main
from bedplate_join.directive import parse_directive, parse_join
from bedplate_join.errors import BadInput
from bedplate_join.first_boot import accounts

GOOD = {"domain": "Example.Test", "user": "joiner", "password_credential": "join.password"}


def mistakes(values: object) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        parse_directive(values)
    return caught.value.mistakes


def test_a_full_directive() -> None:
    join = {**GOOD, "server": "10.9.0.1", "computer_ou": "OU=Servers", "admins": ["Server Admins"], "login": "all"}
    found = parse_directive({"shell": "/bin/zsh", "join": join})
    assert found.shell == "/bin/zsh"
    assert found.join is not None
    assert (found.join.domain, found.join.realm) == ("example.test", "EXAMPLE.TEST")
    assert found.join.admins == ("Server Admins",)
    assert found.join.login is None


def test_what_was_asked_for_can_be_kept_and_read_again() -> None:
    for login in ("all", ["one", "two"], []):
        request = parse_join({**GOOD, "login": login})
        assert parse_join(json.loads(json.dumps(request.as_json()))) == request


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"domian": "x.test"}, "bedplate.join.domian: no such key; did you mean domain?"),
        ({"colour": 1}, "bedplate.join.colour: no such key; there are domain, server"),
        ({"domain": "one"}, "bedplate.join.domain: 'one' does not fit"),
        ({"domain": 7}, "bedplate.join.domain: 7 does not fit"),
        ({"server": "a b"}, "bedplate.join.server: 'a b' does not fit"),
        ({"server": "--evil"}, "bedplate.join.server: '--evil' does not fit"),
        ({"user": "-x"}, "bedplate.join.user: '-x' does not fit"),
        ({"user": "X\\joiner"}, "bedplate.join.user: "),
        ({"computer_ou": "Servers"}, "bedplate.join.computer_ou: 'Servers' does not fit"),
        ({"password_credential": "../shadow"}, "bedplate.join.password_credential: '../shadow' does not fit"),
        ({"admins": "one"}, "bedplate.join.admins: write a list of groups"),
        ({"admins": ["a, b"]}, "bedplate.join.admins: write a list of groups"),
        ({"admins": ["x ALL=(ALL) NOPASSWD: ALL\n%y"]}, "bedplate.join.admins: write a list of groups"),
        ({"login": ["a\n[sssd]"]}, "bedplate.join.login: write a list of groups without their domain or the word all"),
        ({"one_time_password": "x"}, "bedplate.join.one_time_password: stands alone"),
    ],
)
def test_a_mistake_is_named_by_its_key(change: dict[str, Any], said: str) -> None:
    (found,) = mistakes({"join": {**GOOD, **change}})
    assert found.startswith(said)


def test_all_mistakes_are_named_at_once() -> None:
    found = mistakes({"shel": "zsh", "join": {"user": "joiner", "sever": "x"}})
    assert [one.split(":")[0] for one in found] == [
        "bedplate.shel",
        "bedplate.join.sever",
        "bedplate.join.domain",
        "bedplate.join.password_credential",
    ]


def test_a_password_in_user_data_is_refused_and_not_repeated() -> None:
    found = mistakes({"join": {"domain": "example.test", "user": "joiner", "password": "s3cret-word"}})
    assert found[0].startswith("bedplate.join.password: ")
    assert "password_credential" in found[0]
    assert "s3cret-word" not in " ".join(found)


@pytest.mark.parametrize("values", [None, [], "zsh", 4, {"join": None}, {"join": []}, {"shell": ["zsh"]}])
def test_another_form_is_a_mistake_not_a_crash(values: object) -> None:
    assert mistakes(values)


def test_accounts_without_a_shell_of_their_own() -> None:
    users = ["default", {"name": "ada"}, {"name": "bob", "shell": "/bin/sh"}, "carl", {"gecos": "x"}, 4]
    assert accounts(users, "admin") == ["admin", "ada", "carl"]
    assert accounts(None, "admin") == ["admin"]


def test_check_reads_user_data_and_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "user-data"
    file.write_text("#cloud-config\nbedplate:\n  join: {domain: example.test, user: joiner, password_credential: p}\n")
    assert main(["check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["join"]["domain"] == "example.test"
    file.write_text("#cloud-config\nbedplate:\n  join: {domian: example.test}\n")
    assert main(["check", str(file)]) == 2
    assert "did you mean domain?" in capsys.readouterr().err
    file.write_text("bedplate: [\n")
    assert main(["check", str(file)]) == 2
    assert main(["check", str(tmp_path / "none")]) == 2
