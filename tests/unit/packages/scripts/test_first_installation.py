"""Which lines of a script a first installation reaches, and what it says of the others."""

from __future__ import annotations

import pytest

from bedplate.model.package import Script
from bedplate.packages.scripts.claims import Kind
from bedplate.packages.scripts.classify import Classification, classify


def classified(body: str, kind: str = "postinst", *, triggered: bool = False) -> Classification:
    return classify(Script(kind, "/bin/sh", f"#!/bin/sh\n{body}\n"), triggered=triggered)


def gaps(body: str, kind: str = "postinst", *, triggered: bool = False) -> list[int]:
    return [
        number for gap in classified(body, kind, triggered=triggered).gaps for number in range(gap.first, gap.last + 1)
    ]


ALIVE = [
    'if [ "$1" = configure ]; then\nevil\nfi',
    'if [ -z "$2" ]; then\nevil\nfi',
    'if [ ! -n "$2" ]; then\nevil\nfi',
    'if test "x$1" = xconfigure -a -z "$2"; then\nevil\nfi',
    'if ! [ "$1" = remove ]; then\nevil\nfi',
    'if dpkg --compare-versions "$2" lt 1.0; then\nevil\nfi',
    'if dpkg --compare-versions "$2" gt-nl 1.0; then\nevil\nfi',
    'if [ "$#" -eq 2 ]; then\nevil\nfi',
    'action="$1"\nif [ "$action" = configure ]; then evil\nfi',
    "if [ -e /etc/hostname ]; then\nevil\nfi",
    '[ "$1" = configure ] && \\\nevil',
    '[ "$1" = remove ] || \\\nevil',
    'case "$1" in\nconf*) evil ;;\nesac',
    'case "$1" in\nremove) ;;\n*) evil ;;\nesac',
    'shift\nif [ -z "$1" ]; then evil\nfi',
    'f() {\nevil "$1"\n}\nf "$@"',
    'f() {\n"$@"\n}\nf evil',
    'if [ "${DPKG_ROOT:-}" = "" ]; then\nevil\nfi',
    'X=${1:-remove}\n[ "$X" = configure ] && evil',
    'for x in a b; do\nif [ "$x" = b ]; then evil; fi\ndone',
    "f() { return 0; }\nf\nevil",
    "f() { exit 0; }\n[ -e /x ] && f\nevil",
    'X=no; [ -e /x ] && X=yes\n[ "$X" = yes ] && evil',
    'X=no; : "${X:=yes}"; unset X\n[ "$X" = no ] || evil',
    'X=no; X=yes :\n[ "$X" = yes ] && evil',
    'x=no; f() { local x; x=yes; }; f\n[ "$x" = no ] && evil',
    "for i in 1; do ldconfig() {\nevil\n}; done\nldconfig",
    "while [ -e /x ]; do ldconfig; ldconfig() {\nevil\n}; done",
    "ldconfig() { :; }\nevil() { :; }\ncommand evil",
    'X=no; Y=X=yes; : $((Y))\n[ "$X" = no ] || evil',
    'read X\nif [ "$X" = y ]; then\nevil\nfi',
]

DEAD = [
    'if [ "$1" = upgrade ]; then\nevil\nfi',
    'if [ "$1" = remove ] || [ "$1" = purge ]; then\nevil\nfi',
    'if [ -n "$2" ]; then\nevil\nfi',
    '[ "$2" ] && evil',
    'if [ "$1" = configure ] && [ -n "$2" ] && dpkg --compare-versions "$2" lt 2; then\nevil\nfi',
    'if dpkg --compare-versions "$2" lt-nl 1.0; then\nevil\nfi',
    'if dpkg --compare-versions "$2" ge 1.0; then\nevil\nfi',
    'if [ "x$1" != xconfigure ]; then\nevil\nfi',
    'case "$1" in\nconfigure) ;;\n*) evil ;;\nesac',
    'case "$1" in\nabort-*|remove)\nevil ;;\nesac',
    'if [ "$1" != configure ]; then\nexit 0\nfi\nexit 0\nevil',
    "if [ -d /run/systemd/system ]; then\nevil\nfi",
    'if [ -n "${DPKG_ROOT}" ]; then\nevil\nfi',
    "never_called() {\nevil\n}",
    'action=$1\nif [ "$action" = upgrade ]; then\nevil\nfi',
    'f() {\nif [ "$1" = b ]; then\nevil\nfi\n}\nf a',
    'if [ "$1" = configure ]; then\n:\nelse\nevil\nfi',
    "exit 0\nevil",
]


@pytest.mark.parametrize("body", ALIVE)
def test_lines_that_may_run_are_judged(body: str) -> None:
    assert any("evil" in gap.reason for gap in classified(body).gaps)


@pytest.mark.parametrize("body", DEAD)
def test_lines_that_cannot_run_are_never(body: str) -> None:
    found = classified(body)
    assert found.gaps == ()
    assert Kind.NEVER in {piece.kind for piece in found.pieces}


def test_preinst_is_started_with_install_and_no_version() -> None:
    body = 'if [ "$1" = install ] && [ -z "$2" ]; then\nevil\nfi'
    assert gaps(body, "preinst") == [3]
    assert gaps(body, "postinst") == []


def test_config_is_judged_like_postinst() -> None:
    assert gaps("evil", "config") == [2]


@pytest.mark.parametrize("kind", ["prerm", "postrm", "%preun", "%postun", "%transfiletriggerun"])
def test_scripts_of_removal_never_run_whatever_they_hold(kind: str) -> None:
    found = classify(Script(kind, "/usr/bin/perl", "#!/usr/bin/perl\nevil()\n"), triggered=False)
    assert found.gaps == ()
    assert {piece.kind for piece in found.pieces} == {Kind.NEVER}


def test_branch_for_triggers_counts_only_with_an_interest() -> None:
    body = 'if [ "$1" = triggered ]; then\nevil\nfi'
    assert gaps(body, triggered=True) == [3]
    assert gaps(body, triggered=False) == []


def test_names_of_triggers_are_not_known() -> None:
    body = 'if [ "$1" = triggered ]; then\nshift\nfor t in "$@"; do\ncase "$t" in\n/usr/x) evil ;;\nesac\ndone\nfi'
    assert gaps(body, triggered=True) == [6]


def test_gap_says_why() -> None:
    (gap,) = classified("frobnicate --all").gaps
    assert gap.reason == "frobnicate is of no known kind"
