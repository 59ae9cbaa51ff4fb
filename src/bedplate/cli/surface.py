"""Two images side by side, as tables for people and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bedplate.cli.console import human_bytes
from bedplate.cli.look import facts_table, render_tables

if TYPE_CHECKING:
    from bedplate.verify.surface import Comparison, Figure, ListComparison

_LONG = 24


def comparison_text(result: Comparison, *, color: bool) -> str:
    """The comparison in tables; long lists are counted (--json and --markdown name everything)."""
    one, two = _names(result)
    tables = [
        facts_table("figures", ("", one, two, f"{one} of {two}"), _figures(result), right=(1, 2, 3)),
        facts_table("lists", ("", f"{one} only", f"{two} only", "both"), [_list_row(row) for row in result.lists]),
    ]
    for name, rows in result.settings.items():
        differing = [(row.name, row.first or "-", row.second or "-") for row in rows if row.first != row.second]
        same = len(rows) - len(differing)
        tables.append(facts_table(f"{name}: {same} the same, {len(differing)} differ", ("", one, two), differing))
    return render_tables(tables, color) + "\n\n" + _closing(result)


def comparison_markdown(result: Comparison) -> str:
    """The whole comparison as Markdown."""
    one, two = _names(result)
    lines = [f"# {one} and {two}", "", _closing(result), "", "## Figures", ""]
    lines += _markdown_table(("", one, two, f"{one} of {two}"), _figures(result))
    for row in result.lists:
        lines += ["", f"## {row.name.capitalize()}", ""]
        for words, items in ((f"{one} only", row.first), (f"{two} only", row.second), ("both", row.both)):
            lines.append(f"- {words} ({len(items)}): {', '.join(f'`{_cell(item)}`' for item in items) or 'none'}")
    for name, rows in result.settings.items():
        lines += ["", f"## {name.capitalize()}", ""]
        lines += _markdown_table(("", one, two), [(row.name, row.first or "-", row.second or "-") for row in rows])
    return "\n".join(lines)


def _names(result: Comparison) -> tuple[str, str]:
    one, two = _plain(result.first.track) or "first", _plain(result.second.track) or "second"
    if one == two:
        return f"{one} {result.first.version} (1)", f"{two} {result.second.version} (2)"
    return one, two


def _closing(result: Comparison) -> str:
    one, two = _names(result)
    by_name = {figure.name: figure for figure in result.figures}
    parts = []
    for name in ("packages", "programs", "set-id files", "interpreters", "contents unpacked"):
        figure = by_name[name]
        if figure.percent is not None:
            parts.append(f"{figure.percent:.0f} % of the {name if figure.unit == '' else 'bytes of its contents'}")
    how = (
        "seen in a boot of each"
        if result.first.booted
        else "by what each track allows, which every boot is checked for"
    )
    return f"{one} has, of {two}: {', '.join(parts)}. Listening sockets are {how}."


def _figures(result: Comparison) -> list[tuple[str, str, str, str]]:
    return [(one.name, _value(one, one.first), _value(one, one.second), _percent(one)) for one in result.figures]


def _value(figure: Figure, value: int) -> str:
    return human_bytes(value) if figure.unit == "bytes" else str(value)


def _percent(figure: Figure) -> str:
    return "-" if figure.percent is None else f"{figure.percent:.0f} %"


def _list_row(row: ListComparison) -> tuple[str, str, str, str]:
    return row.name, _shown(row.first), _shown(row.second), _shown(row.both)


def _shown(items: Sequence[str]) -> str:
    return f"{len(items)}" if len(items) > _LONG else "\n".join(items) or "-"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(_cell(cell) for cell in head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("`", "'")


def _plain(text: str) -> str:
    """Text of an image does not move the cursor."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
