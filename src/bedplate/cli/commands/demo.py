"""``bedplate demo``: things to watch."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bedplate.cli.options import Json
from bedplate.cli.state import STATE

if TYPE_CHECKING:
    from rich.table import Table

    from bedplate.demo.fleet import Look

app = typer.Typer(help="Things to watch: a small fleet that updates itself.", no_args_is_help=True)


@app.callback()
def demo() -> None:
    """Things to watch: a small fleet that updates itself."""


@app.command()
def fleet(
    nodes: Annotated[int, typer.Option(min=1, max=8, help="Emulated nodes (1 GiB of memory each)")] = 3,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the service, on 127.0.0.1; 0: any free one")] = 8080,
    minutes: Annotated[int, typer.Option(min=1, max=240, help="The longest one chapter may take")] = 30,
    keep: Annotated[
        Path | None, typer.Option(help="Keep releases, database and disks here; else they are removed")
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch nodes take a good release and refuse a bad one. Example: bedplate demo fleet --nodes 2

    Three versions are built and released, the update service and the nodes start, a good release is rolled out to all,
    a broken one is tried by one node, which goes back by itself, and the roll-out stops.
    """
    from bedplate.demo.run import run_demo
    from bedplate.emulator.ssh import free_port

    workspace = STATE.begin(as_json)
    chosen = port or free_port()
    place = keep.absolute() if keep is not None else Path(tempfile.mkdtemp(prefix="bedplate-demo-"))
    place.mkdir(parents=True, exist_ok=True)
    screen = _Screen(live=sys.stderr.isatty() and not as_json)

    def ready(address: str, secret: str) -> None:
        workspace.progress.say(f"the update service is at {address}")
        workspace.progress.say(f"look at it: open {address}/ in a browser, the token is {secret}")
        screen.start()

    try:
        story = run_demo(
            workspace,
            place,
            nodes=nodes,
            port=chosen,
            seconds=minutes * 60.0,
            on_ready=ready,
            on_look=screen.show,
        )
    finally:
        screen.stop()
        if keep is None:
            shutil.rmtree(place, ignore_errors=True)
    STATE.output.result(
        {**asdict(story), "seconds": round(screen.seconds, 1)},
        f"every node took the good release ({story.good}); the bad one was stopped: {story.last.why}",
    )


class _Screen:
    """A table that changes in place on a terminal; elsewhere a line when something has changed."""

    def __init__(self, *, live: bool) -> None:
        self._live_wanted = live
        self._live: object | None = None
        self._last: Look | None = None
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the screen was made."""
        return time.monotonic() - self._begun

    def start(self) -> None:
        """Begin to show."""
        if self._live_wanted:
            from rich.console import Console
            from rich.live import Live

            live = Live(console=Console(stderr=True), refresh_per_second=4)
            live.start()
            self._live = live

    def show(self, look: Look) -> None:
        """One more look at the fleet."""
        from rich.live import Live

        if isinstance(self._live, Live):
            self._live.update(_table(look, self.seconds))
        elif look != self._last:
            self._say(look)
        self._last = look

    def stop(self) -> None:
        """Leave the last picture where it is."""
        from rich.live import Live

        if isinstance(self._live, Live):
            self._live.stop()
            self._live = None

    def _say(self, look: Look) -> None:
        if self._last is None or self._last.chapter != look.chapter:
            print(f"== {look.chapter}", file=sys.stderr)
        nodes = "; ".join(f"{node.name} {node.version or '-'} {_stage(node.stage, node.target)}" for node in look.nodes)
        status = f" [{look.rollout} {look.status}{': ' + look.why if look.why else ''}]" if look.rollout else ""
        print(f"{self.seconds:6.0f} s  {nodes or 'no node has asked yet'}{status}", file=sys.stderr, flush=True)


def _stage(stage: str, target: str) -> str:
    return f"({stage} {target})" if target and stage not in ("", "idle") else ""


_COLOURS = {
    "offered": "cyan",
    "downloading": "cyan",
    "rebooting": "yellow",
    "healthy": "green",
    "fell-back": "red",
    "timed-out": "red",
}


def _table(look: Look, seconds: float) -> Table:
    from rich.table import Table

    status = f"{look.rollout} {look.status}" if look.rollout else ""
    table = Table(
        title=f"{look.chapter}   {seconds:.0f} s", caption=f"{status}  {look.why}".strip(), title_justify="left"
    )
    for heading in ("node", "ring", "runs", "state", "release"):
        table.add_column(heading, min_width=9)
    for node in look.nodes:
        colour = _COLOURS.get(node.stage, "")
        stage = f"[{colour}]{node.stage}[/]" if colour else node.stage
        table.add_row(node.name, node.ring, node.version or "-", stage, node.target)
    return table
