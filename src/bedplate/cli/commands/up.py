"""``bedplate up``: build the container host and boot it before your eyes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bedplate.cli.options import Json
from bedplate.cli.render import image_text, report_text
from bedplate.cli.state import STATE


def up(
    track: Annotated[str, typer.Option("--track", help="Which track")] = "container",
    as_json: Json = False,
) -> None:
    """Build an image, boot it with Secure Boot and TPM, and say what that proved. Example: bedplate up"""
    from bedplate.flows.boot import boot_image, check_report
    from bedplate.flows.build import build_track
    from bedplate.flows.images import find_image
    from bedplate.flows.locks import Relock

    workspace = STATE.begin(as_json)
    outcome = build_track(workspace, track, Relock.WHEN_NEEDED)
    report = boot_image(workspace, find_image(workspace, str(outcome.directory)), relock=Relock.WHEN_NEEDED)
    build = outcome.build
    body = {
        **report.to_json(),
        "track": build.track,
        "version": build.version,
        "directory": str(outcome.directory),
        "root_bytes": build.root_bytes,
        "uki_bytes": build.uki_bytes,
        "packages": build.package_count,
        "relocked": outcome.relocked,
        "build_seconds": outcome.seconds,
    }
    next_steps = (
        f"look inside          bedplate inspect {track}\n"
        f"log in               bedplate boot {track} --ssh\n"
        f"same bytes?          bedplate verify rebuild {track}\n"
        f"change it            edit distro/tracks/{track}.toml, then: bedplate lock {track} && bedplate build {track}"
    )
    findings = check_report(workspace, track, report)
    body["findings"] = [asdict(finding) for finding in findings]
    wrong = "".join(f"\nWRONG                {finding.cause} {finding.where}" for finding in findings)
    text = f"{image_text(outcome)}\n\n{report_text(report)}{wrong}\n\n{next_steps}"
    STATE.output.result(body, text)
    if findings:
        raise typer.Exit(1)
