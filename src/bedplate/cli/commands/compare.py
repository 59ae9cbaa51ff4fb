"""``bedplate compare``: what two images expose, side by side."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bedplate.cli.options import Json
from bedplate.cli.state import STATE
from bedplate.cli.surface import comparison_markdown, comparison_text


def compare(
    first: Annotated[str, typer.Argument(help="A track, a build's directory, or a disk image")] = "container",
    second: Annotated[str, typer.Argument(help="What it is compared with")] = "server",
    boot: Annotated[bool, typer.Option("--boot", help="Boot both to see what really listens")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the report as Markdown")] = False,
    as_json: Json = False,
) -> None:
    """Compare what two images hold and expose, and how they are hardened. Example: bedplate compare container server"""
    from bedplate.flows.images import find_image
    from bedplate.flows.surface import Sockets, compare_images

    workspace = STATE.begin(as_json)
    images = find_image(workspace, first), find_image(workspace, second)
    result = compare_images(workspace, *images, Sockets.SEEN if boot else Sockets.ALLOWED)
    text = comparison_markdown(result) if markdown else comparison_text(result, color=sys.stdout.isatty())
    STATE.output.result(result.to_json(), text)
