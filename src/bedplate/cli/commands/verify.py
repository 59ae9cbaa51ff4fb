"""``bedplate verify``: checks of a finished image, and the proof that it can be built again."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.look import findings_text, rebuild_text
from bedplate.cli.options import Json
from bedplate.cli.state import STATE

app = typer.Typer(help="Verify: an image, or that it can be built again.", no_args_is_help=True)

Image = Annotated[str, typer.Argument(help="A track, a build's directory, or a disk image")]


@app.command()
def image(
    image: Image,
    release: Annotated[
        bool, typer.Option("--release", help="Check as a release: a development signature is an error")
    ] = False,
    certificate: Annotated[
        list[Path] | None,
        typer.Option(help="Certificate (PEM) whose signature is accepted; may be repeated; else the keys in use"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check signatures, hashes, contents and limits; fails on an error. Example: bedplate verify image container"""
    from bedplate.flows.images import find_image
    from bedplate.flows.inspect import trusted_signers, verify_image
    from bedplate.verify.findings import Purpose

    workspace = STATE.begin(as_json)
    purpose = Purpose.RELEASE if release else Purpose.DEVELOPMENT
    signers = trusted_signers(workspace, certificate or [])
    verdict = verify_image(workspace, find_image(workspace, image), purpose, signers)
    body = {
        "image": verdict.inspection.image,
        "track": verdict.inspection.track,
        "version": verdict.inspection.version,
        "development": verdict.inspection.development,
        "good": verdict.good,
        "findings": [asdict(finding) for finding in verdict.findings],
    }
    STATE.output.result(body, findings_text(verdict.findings, color=sys.stdout.isatty()))
    if not verdict.good:
        raise typer.Exit(1)


@app.command()
def rebuild(
    image: Image,
    from_nothing: Annotated[
        bool, typer.Option("--from-nothing", help="Download again too, instead of sharing the checked downloads")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the rebuilt image in this new directory", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an image again from its lock, in a fresh cache, and compare. Example: bedplate verify rebuild container"""
    from bedplate.flows.images import find_image
    from bedplate.flows.rebuild import Downloads, verify_rebuild

    workspace = STATE.begin(as_json)
    downloads = Downloads.AGAIN if from_nothing else Downloads.SHARED
    report = verify_rebuild(workspace, find_image(workspace, image), downloads, keep.absolute() if keep else None)
    STATE.output.result(report.to_json(), rebuild_text(report, color=sys.stdout.isatty()))
    if not report.same:
        raise typer.Exit(1)
