"""``bedplate packages``: import, look at, and account for the packages of a track."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bedplate.cli.options import Json, Relock, relock_policy
from bedplate.cli.state import STATE

app = typer.Typer(help="Packages: import, list, show, scripts.", no_args_is_help=True)

Track = Annotated[str, typer.Option("--track", help="Whose lock says which packages")]


@app.command(name="import")
def import_(track: Track = "container", relock: Relock = False, as_json: Json = False) -> None:
    """Import and sign a track's packages into the repository. Example: bedplate packages import --track container"""
    from bedplate.flows.repository import import_track

    result = import_track(STATE.begin(as_json), track, relock_policy(relock))
    repository = result.repository
    body = {
        "directory": str(repository.directory),
        "repomd_sha256": repository.repomd_sha256,
        "packages": [str(nevra) for nevra in result.packages],
    }
    STATE.output.result(body, f"{repository.packages} packages in {repository.directory}")


@app.command(name="list")
def list_packages(track: Track = "container", as_json: Json = False) -> None:
    """List a track's locked packages and who asked for each. Example: bedplate packages list"""
    from bedplate.flows.locks import committed_path, read_lock_file

    lock = read_lock_file(committed_path(STATE.begin(as_json), track))
    rows = [
        {
            "name": p.nevra.name,
            "evr": str(p.nevra.evr),
            "arch": p.nevra.arch,
            "source": str(p.source),
            "suite": p.suite,
            "why": p.why,
        }
        for p in lock.packages
    ]
    width = max((len(row["name"]) for row in rows), default=0)
    STATE.output.result(rows, "\n".join(f"{r['name']:{width}}  {r['evr']}  for {r['why']}" for r in rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a locked package")],
    track: Track = "container",
    as_json: Json = False,
) -> None:
    """Show what a package of ours holds and asks for. Example: bedplate packages show chrony"""
    from bedplate.flows.show import describe_package

    body = describe_package(STATE.begin(as_json), track, name)
    lines = [f"{key:12} {value}" for key, value in body.items() if isinstance(value, str | int)]
    for key in ("requires", "provides", "conflicts", "files"):
        lines += [f"{key}:", *(f"  {entry}" for entry in body[key])]
    STATE.output.result(body, "\n".join(lines))


@app.command()
def scripts(
    track: Track = "container",
    everything: Annotated[bool, typer.Option("--all", help="Show the scripts of known kind too")] = False,
    as_json: Json = False,
) -> None:
    """Show the ledger of maintainer scripts; fails when one is not accounted for. Example: bedplate packages scripts"""
    from bedplate.flows.show import track_ledger

    ledger = track_ledger(STATE.begin(as_json), track)
    rows = ledger.rows()
    lines = [
        f"{row.status:12} {row.package} {row.script}: " + (row.reason or ", ".join(row.kinds))
        for row in rows
        if everything or row.status != "covered"
    ]
    for entry in ledger.unaccounted:
        lines += [f"{entry.package} {entry.script}, lines not covered:", *entry.uncovered_lines()]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    lines.append(f"{len(rows)} scripts: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items())))
    STATE.output.result([asdict(row) for row in rows], "\n".join(lines))
    if ledger.unaccounted:
        raise typer.Exit(1)
