"""Properties of any script: every line is accounted for or shown, and what really runs is never called dead."""

from __future__ import annotations

import subprocess

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.model.package import Script
from bedplate.packages.scripts.classify import classify

FRAGMENTS = st.sampled_from(
    [
        *("if", "then", "fi", "else", "for x in a b", "do", "done", "case", "in", "esac", "while", "{", "}", "(", ")"),
        *(
            ";",
            ";;",
            "&&",
            "||",
            "|",
            "&",
            "\n",
            "\n",
            "\n",
            " ",
            " ",
            "\t",
            "\\\n",
            "'",
            '"',
            "`",
            "$(",
            "${",
            "$((",
            "))",
        ),
        *(
            "ldconfig",
            "evil",
            "echo a",
            "[ -x /a ]",
            "$1",
            '"$2"',
            "a=b",
            ">/dev/null",
            "2>&1",
            "<<E",
            "<<-'E'",
            "E",
            "#",
        ),
        *("# note", "set -e", "exit 0", "f()", "f", "true", "!", "*)", "configure)", ":", "x:-y}", "é", "\x0b", "\r"),
    ]
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(FRAGMENTS, max_size=30).map("".join))
def test_no_line_is_outside_both_covered_and_uncovered(body: str) -> None:
    text = "#!/bin/sh\n" + body
    found = classify(Script("postinst", "/bin/sh", text), triggered=True)
    spans = [(piece.first, piece.last) for piece in found.pieces] + [(gap.first, gap.last) for gap in found.gaps]
    accounted = {number for first, last in spans for number in range(first, last + 1)}
    lines = text.split("\n")
    assert all(1 <= number <= len(lines) for number in accounted)
    for number, line in enumerate(lines, 1):
        blank_or_comment = not line.strip(" \t") or line.lstrip(" \t").startswith("#") or line == "\\"
        assert blank_or_comment or number in accounted, (number, line)


# -- against a real shell ------------------------------------------------------------------------------------------

VALUES = st.sampled_from(["configure", "a"])
NAMES = st.sampled_from(["x", "x", "y"])
OPERANDS = st.sampled_from(
    ['"$1"', '"$2"', '"$x"', '"$x"', '"$x"', '"$y"', "configure", "a", "''", '"${x:-a}"', '"$#"']
)


@st.composite
def conditions(draw: st.DrawFn) -> str:
    form = draw(st.integers(0, 8))
    left, right = draw(OPERANDS), draw(OPERANDS)
    return [
        f"[ {left} = {right} ]",
        f"[ {left} != {right} ]",
        f"[ -n {left} ]",
        f"[ -z {left} ]",
        f"! [ {left} = {right} ]",
        f"test {left} = {right} -a -z {left}",
        f"[ {left} = {right} ] || [ -z {right} ]",
        "[ -e / ]",
        f"f {left}",
    ][form]


def statements(depth: int) -> st.SearchStrategy[list[str]]:
    simple = st.one_of(
        st.just(["MARK"]),
        st.tuples(NAMES, OPERANDS).map(lambda pair: [f"{pair[0]}={pair[1]}"]),
        st.tuples(NAMES, VALUES).map(lambda pair: [f"{pair[0]}='{pair[1]}'"]),
        st.tuples(NAMES, OPERANDS).map(lambda pair: [f'{pair[0]}="$(echo {pair[1]})"']),
        st.tuples(NAMES, VALUES).map(lambda pair: [f': ${{{pair[0]}:="{pair[1]}"}}']),
        st.tuples(NAMES, VALUES).map(lambda pair: [f"{pair[0]}='{pair[1]}' :"]),
        st.tuples(NAMES, OPERANDS).map(lambda pair: [f"f {pair[1]}"]),
        st.tuples(NAMES, OPERANDS).map(lambda pair: [f"echo {pair[1]} | read -r {pair[0]}"]),
        NAMES.map(lambda name: [f"unset {name}"]),
        st.sampled_from(
            [["shift"], ["set -- upgrade b"], ["return"], ["break"], ["continue"], ["exit 0"], ["(exit 0)"]]
        ),
        st.sampled_from([["g"], [": $((x=1))"], ["x=1; : $((x))"], ["command g"], ["exit 0 &"], ["local x"]]),
    )
    if depth == 0:
        return simple
    body = st.lists(statements(depth - 1), min_size=1, max_size=3).map(
        lambda parts: [line for part in parts for line in part]
    )
    return st.one_of(
        simple,
        st.tuples(conditions(), body).map(lambda p: [f"if {p[0]}; then", *p[1], "fi"]),
        st.tuples(conditions(), body, body).map(lambda p: [f"if {p[0]}; then", *p[1], "else", *p[2], "fi"]),
        st.tuples(conditions(), body).map(lambda p: [f"{p[0]} && {{", *p[1], "}"]),
        st.tuples(conditions(), body).map(lambda p: [f"{p[0]} || {{", *p[1], "}"]),
        st.tuples(OPERANDS, body, body).map(
            lambda p: [f"case {p[0]} in", "conf*)", *p[1], ";;", "a|b)", *p[2], ";;", "esac"]
        ),
        st.tuples(NAMES, body).map(lambda p: [f"for {p[0]} in a configure '' ; do", *p[1], "done"]),
        st.tuples(body).map(lambda p: ["n=0", "while [ $n -lt 2 ]; do", "n=$((n+1))", *p[0], "done"]),
        st.tuples(body).map(lambda p: ["(", *p[0], ")"]),
        st.tuples(body).map(lambda p: ["f() {", '[ "$deep" ] && return', "deep=1", *p[0], "deep=", "}"]),
        st.tuples(body).map(lambda p: ["g() {", '[ "$deep" ] && return', "deep=1", *p[0], "deep=", "}"]),
    )


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(statements(3), min_size=1, max_size=6))
def test_what_a_shell_runs_is_always_judged(parts: list[list[str]]) -> None:
    lines = [
        "#!/bin/sh",
        'f() { [ -z "$1" ]; }',
        "g() { :; }",
        "x=a",
        *(line for part in parts for line in part),
        "MARK",
        "",
    ]
    runs = [f"echo ran-{number}" if line == "MARK" else line for number, line in enumerate(lines, 1)]
    judged = ["evil" if line == "MARK" else line for line in lines]
    found = classify(Script("postinst", "/bin/sh", "\n".join(judged)), triggered=False)
    gaps = {number for gap in found.gaps for number in range(gap.first, gap.last + 1)}
    run = subprocess.run(
        ["/bin/sh", "-c", "\n".join(runs), "postinst", "configure", ""],
        capture_output=True,
        text=True,
        timeout=20,
        env={},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    ran = {int(word[4:]) for word in run.stdout.split() if word.startswith("ran-") and word[4:].isdigit()}
    assert ran <= gaps, "\n".join(runs)
