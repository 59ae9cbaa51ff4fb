"""``bedplate inspect``: what is in a finished image."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bedplate.cli.look import inspection_text
from bedplate.cli.options import Json
from bedplate.cli.state import STATE


def inspect(
    image: Annotated[str, typer.Argument(help="A track, a build's directory, a disk image, a UKI or a root image")],
    packages: Annotated[bool, typer.Option("--packages", help="List all packages too")] = False,
    as_json: Json = False,
) -> None:
    """Show partitions, root hash, signatures, packages and sizes of an image. Example: bedplate inspect container"""
    from bedplate.flows.images import find_image
    from bedplate.flows.inspect import inspect_image

    result = inspect_image(find_image(STATE.begin(as_json), image))
    text = "" if as_json else inspection_text(result, color=sys.stdout.isatty(), all_packages=packages)
    STATE.output.result(result.to_json(), text)
