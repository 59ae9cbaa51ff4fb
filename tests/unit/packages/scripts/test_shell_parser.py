"""The parser: what it takes apart, and what it refuses."""

from __future__ import annotations

import pytest

from bedplate.packages.scripts.shell import NotUnderstoodError, parse
from bedplate.packages.scripts.syntax import Case, For, Function, If, Simple, commands, words_of


def simples(text: str) -> list[list[str | None]]:
    """The literal words of every simple command."""
    found = [command for command in commands(parse(text)) if isinstance(command, Simple)]
    return [["".join(getattr(part, "text", "$") for part in word.parts) for word in words_of(one)] for one in found]


def test_lists_and_pipes_come_apart_into_commands() -> None:
    assert simples("a b; c && d || e | f &\ng") == [["a", "b"], ["c"], ["d"], ["e"], ["f"], ["g"]]


def test_quotes_hide_operators() -> None:
    assert simples("""echo 'a; b' "c && d" e\\;f""") == [["echo", "a; b", "c && d", "e;f"]]


def test_comments_end_with_their_line_and_start_with_a_word() -> None:
    assert simples("a # b; c\nd e#f") == [["a"], ["d", "e#f"]]


def test_substitutions_hold_commands_of_their_own() -> None:
    assert simples('a "$(b "$(c)")" `d \\`e\\`` ${x:-$(f)} $((1 + $(g)))')[1:] == [
        ["b", "$"],
        ["c"],
        ["d", "$"],
        ["e"],
        ["f"],
        ["g"],
    ]


def test_here_documents_belong_to_their_commands() -> None:
    text = "cat <<A\none $(x)\nA\ncat <<'B'\n$(y)\nB\nz\n"
    assert [words[0] for words in simples(text)] == ["cat", "x", "cat", "z"]
    bodies = [redirect for one in commands(parse(text)) if isinstance(one, Simple) for redirect in one.redirects]
    assert [(body.first, body.last) for body in bodies] == [(2, 3), (5, 6)]


def test_here_document_with_tabs() -> None:
    assert simples("if a; then\n\tcat <<-E\n\t\ttext\n\tE\n\tb\nfi\n")[-1] == ["b"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("if a; then b; elif c; then d; else e; fi", If),
        ("case $1 in (a|b) c;; *) d; esac", Case),
        ("for x in a b\ndo\nc\ndone", For),
        ("for x; do c; done", For),
        ("f() { a; }", Function),
        ("f ( ) ( a )", Function),
    ],
)
def test_compound_commands(text: str, kind: type) -> None:
    assert isinstance(next(commands(parse(text))), kind)


def test_reserved_words_are_words_elsewhere() -> None:
    assert simples("echo if then fi done") == [["echo", "if", "then", "fi", "done"]]


def test_lines_are_counted_across_everything_that_spans_them() -> None:
    tree = parse("a 'x\ny' \\\n b\nc <<E\n1\n2\nE\nd\n")
    assert [(one.first, one.last) for one in commands(tree) if isinstance(one, Simple)] == [(1, 3), (4, 4), (8, 8)]


@pytest.mark.parametrize(
    "text",
    [
        "if a; then b",
        "a &&",
        "a | | b",
        "a ;; b",
        "(a",
        "a)",
        "{ a; ",
        "case x in a) b",
        "for 1 in a; do b; done",
        "fi",
        "echo 'a",
        'echo "a',
        "echo `a",
        "echo $(a",
        "echo ${a",
        "cat <<E\na",
        "cat <<E; echo 'x'\nE\n",
        "a\r\nb",
        "a \0",
        "echo $'a'",
        'echo $"a"',
        "echo $[1]",
        "a &> b",
        "a |& b",
        "cat <<< a",
        "diff <(a) <(b)",
        "a=(1 2)",
        "((1))",
        "[[ a ]]",
        "function f { a; }",
        "echo ${a/b/c}",
        "echo ${a:1:2}",
        "echo ${!a}",
        "if ; then a; fi",
        "f() a",
        "a() { b; } c",
    ],
)
def test_what_shells_read_differently_or_not_at_all_is_refused(text: str) -> None:
    with pytest.raises(NotUnderstoodError):
        parse(text)
