"""``bedplate build``: an image from the definition and the lock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.options import Json, Relock, relock_policy
from bedplate.cli.render import build_json, image_text
from bedplate.cli.state import STATE


def build(
    track: Annotated[str, typer.Argument(help="Which track to build")],
    output: Annotated[Path | None, typer.Option(help="Directory for images; out/ by default")] = None,
    image_version: Annotated[
        str, typer.Option(help="Version of the image (IMAGE_VERSION), such as 1.0.7; the distribution's by default")
    ] = "",
    relock: Relock = False,
    as_json: Json = False,
) -> None:
    """Build a track's image: same definition, lock and keys, same bytes. Example: bedplate build container"""
    from bedplate.flows.build import build_track

    outcome = build_track(STATE.begin(as_json, output), track, relock_policy(relock), version=image_version)
    text = image_text(outcome) + ("\nnothing has changed since it was built" if outcome.reused else "")
    STATE.output.result(build_json(outcome), text)
