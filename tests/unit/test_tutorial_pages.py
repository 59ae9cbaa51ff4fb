"""Pages that can be run say where each block is typed and what it shows; one that does not is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.tutorial import Step, steps

DOCS = Path(__file__).resolve().parents[2] / "docs/tutorial"


def test_blocks_are_read_with_what_they_must_show() -> None:
    page = "# T\n\n```sh desk\na\nb\n```\n<!-- shows: x+ -->\n<!-- fails with 3, shows: y -->\n\n```sh server\nc\n```\n"
    assert steps(page) == [Step(3, "desk", "a\nb\n", 3, ("x+", "y")), Step(10, "server", "c\n")]


@pytest.mark.parametrize(
    "page", ["```sh\na\n```\n", "```sh moon\na\n```\n", "```sh desk\na\n```\n<!-- show: x -->\n", "```\na\n```\n"]
)
def test_a_block_nobody_could_run_is_an_error(page: str) -> None:
    with pytest.raises(ValueError, match=r"line \d|fenced"):
        steps(page)


def test_the_first_server_can_be_run() -> None:
    found = steps((DOCS / "first-server.md").read_text())
    places = [step.place for step in found]
    assert places.count("desk login") == 1 and "server" in places
    assert places.index("desk background") < places.index("desk login") < places.index("server")
