"""``bedplate store``: what the cache holds, and what of it can go."""

from __future__ import annotations

from typing import Annotated

import typer

from bedplate.cli.console import human_bytes
from bedplate.cli.options import Json
from bedplate.cli.state import STATE

app = typer.Typer(help="The cache: its size, and removing what no lock needs.", no_args_is_help=True)

_DAY = 24 * 3600.0


@app.command()
def size(as_json: Json = False) -> None:
    """Show how much the cache holds, part by part. Example: bedplate store size"""
    from bedplate.flows.cache import cache_sizes

    sizes = cache_sizes(STATE.begin(as_json))
    lines = [f"{name:12} {human_bytes(part.size):>10}  {part.files} files" for name, part in sizes.items()]
    value = {name: {"bytes": part.size, "files": part.files} for name, part in sizes.items()}
    STATE.output.result(value, "\n".join(lines))


@app.command()
def gc(
    older_than: Annotated[
        float, typer.Option(min=0, help="Keep what was made or downloaded in the last so many days")
    ] = 14.0,
    as_json: Json = False,
) -> None:
    """Remove downloads and tools no lock needs, and old results. Example: bedplate store gc --older-than 7

    What was made (RPMs, objects, stage outputs) is made again when it is needed; do not run this beside a build.
    """
    from bedplate.flows.garbage import collect_garbage

    removed = collect_garbage(STATE.begin(as_json), older_than * _DAY)
    value = {"removed": removed.files, "removed_bytes": removed.size}
    STATE.output.result(value, f"removed {removed.files} files, {human_bytes(removed.size)}")


@app.command()
def check(as_json: Json = False) -> None:
    """Read every downloaded file and remove those whose bytes have rotted. Example: bedplate store check"""
    from bedplate.flows.cache import content_store

    store = content_store(STATE.begin(as_json))
    corrupt = store.check()
    for digest in corrupt:
        store.discard(digest)
    text = "every file is whole" if not corrupt else "removed, to be downloaded again:\n" + "\n".join(corrupt)
    STATE.output.result({"removed": corrupt}, text)
