"""Scripts that make files: accounted for only when the package's facts make them too."""

from __future__ import annotations

import pytest

from bedplate.model.definition.facts import AddedFile, Mode, PackageFacts
from bedplate.model.package import Script
from bedplate.packages.scripts.ledger import PackageScripts, account

HELPER = ". /usr/lib/php/php-maintscript-helper\n"


def accounted(body: str, facts: PackageFacts | None = None) -> bool:
    script = Script("postinst", "/bin/sh", f"#!/bin/sh\nset -e\n{body}\n")
    known = {"demo": facts} if facts else {}
    return not account([PackageScripts("demo", (script,))], known).unaccounted


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ("mkdir -p /var/lib/demo", PackageFacts(name="demo", directories={"/var/lib/demo": Mode(mode="0755")})),
        ("ln -s ../a /etc/demo/on", PackageFacts(name="demo", links={"/etc/demo/on": "../a"})),
        ("echo x > /etc/demo.conf", PackageFacts(name="demo", files={"/etc/demo.conf": AddedFile(content="x")})),
        ("ucf /usr/share/a /etc/a", PackageFacts(name="demo", files={"/etc/a": AddedFile(copy_of="/usr/share/a")})),
        (
            "setcap cap_net_raw+ep /usr/bin/x",
            PackageFacts(name="demo", modes={"/usr/bin/x": Mode(mode="0755", capabilities="cap_net_raw=ep")}),
        ),
        (
            HELPER + "php_invoke enmod 8.4 ALL curl",
            PackageFacts(name="demo", links={"/etc/php/8.4/cli/conf.d/20-curl.ini": "x"}),
        ),
    ],
    ids=["directory", "link", "redirect", "ucf", "capability", "module"],
)
def test_what_a_script_makes_must_be_a_fact(body: str, facts: PackageFacts) -> None:
    assert accounted(body, facts)
    assert not accounted(body, PackageFacts(name="demo"))


@pytest.mark.parametrize(
    "body",
    [
        "php_invoke enmod 8.4 ALL curl",
        "mkdir -p /etc/../root/.ssh",
        "ln -s a b",
        "cp /usr/share/a /etc/",
        "mv /etc/passwd /etc/shadow",
        "setcap cap_sys_admin+ep $program",
        "hostname evil",
        "python3.13 -c 'import os'",
    ],
    ids=[
        "a-helper-that-was-not-read",
        "a-path-that-climbs",
        "a-relative-link",
        "a-copy-into-a-directory",
        "a-move-of-real-files",
        "a-program-not-known",
        "a-name-that-is-set",
        "python-that-runs-anything",
    ],
)
def test_what_only_looks_like_a_known_kind_is_a_gap(body: str) -> None:
    everything = PackageFacts(
        name="demo",
        links={"/etc/php/8.4/cli/conf.d/20-curl.ini": "x"},
        files={"/etc/a": AddedFile(content="x"), "/etc/shadow": AddedFile(content="x")},
    )
    assert not accounted(body, everything)
