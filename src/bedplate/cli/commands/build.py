"""``bedplate build``: images from the definition and the locks, in the forms they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.options import Json, Relock, relock_policy
from bedplate.cli.render import build_json, image_text
from bedplate.cli.state import STATE

# The registry itself is heavy to load; a test holds these to it.
FORMAT_NAMES = ("raw", "qcow2", "vhd", "oci", "wsl", "installer")


def build(
    track: Annotated[str, typer.Argument(help="Which track to build; all but variants when none is named")] = "",
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"A form to make of the image ({', '.join(FORMAT_NAMES)}); may be repeated",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Directory for images; out/ by default")] = None,
    image_version: Annotated[
        str, typer.Option(help="Version of the image (IMAGE_VERSION), such as 1.0.7; the distribution's by default")
    ] = "",
    relock: Relock = False,
    as_json: Json = False,
) -> None:
    """Build images: same definition, lock and keys, same bytes. Example: bedplate build server --format qcow2"""
    from bedplate.flows.tracks import build_tracks

    workspace, policy = STATE.begin(as_json, output), relock_policy(relock)
    outcomes = build_tracks(workspace, [track] if track else [], formats or [], policy, version=image_version)
    texts = [
        image_text(one) + ("\nnothing has changed since it was built" if one.reused else "") for one in outcomes.builds
    ]
    if track:
        STATE.output.result(build_json(outcomes.builds[0]), texts[0])
        return
    body = {"tracks": {one.build.track: build_json(one) for one in outcomes.builds}, "seconds": outcomes.seconds}
    total = f"{len(texts)} images in {outcomes.seconds['total']:.1f} s"
    STATE.output.result(body, "\n\n".join([*texts, total]))
