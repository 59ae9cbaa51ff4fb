"""``bedplate lock``: which packages an image is made of; made, checked, moved and explained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bedplate.cli.options import Json
from bedplate.cli.state import STATE

if TYPE_CHECKING:
    from bedplate.model.lock import Lock
    from bedplate.resolve.diff import LockDiff


class _MakeByDefault(TyperGroup):
    """``bedplate lock TRACK`` is ``bedplate lock make TRACK``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_MakeByDefault, help="Locks: make, check, move, explain.", no_args_is_help=True)


@app.command()
def make(
    track: Annotated[str, typer.Argument(help="A track, or tools, or tools-SET for a tool set")],
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail when the lock is stale")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="With --check: look at the definition alone")] = False,
    update: Annotated[
        list[str] | None,
        typer.Option("--update", help="Move only this package (or source) and what must move with it; may be repeated"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Resolve a track and write its lock. Example: bedplate lock container --update openssl"""
    from bedplate.flows.lock import lock_tools, lock_track

    workspace = STATE.begin(as_json)
    if check:
        _check(track, offline)
        return
    if track == "tools" or track.startswith("tools-"):
        result = lock_tools(workspace, track.removeprefix("tools-"))
    else:
        result = lock_track(workspace, track, tuple(update or ()))
    body = {"path": str(result.path), "packages": len(result.lock.packages), "diff": _diff_json(result.diff)}
    changes = "\n".join(result.diff.lines()) if result.diff is not None else "there was no lock before"
    STATE.output.result(body, f"{changes}\n{len(result.lock.packages)} packages locked in {result.path}")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A lock file, or a track: its committed lock")],
    new: Annotated[str, typer.Argument(help="A lock file; left out: what locking now would give")] = "",
    as_json: Json = False,
) -> None:
    """Say what differs between two locks and why. Example: bedplate lock diff old.toml new.toml"""
    from bedplate.flows.lock import preview_lock
    from bedplate.flows.locks import read_lock_file
    from bedplate.resolve.diff import diff_locks

    workspace = STATE.begin(as_json)
    before = _lock_named(old)
    if new:
        result = diff_locks(before, read_lock_file(Path(new)))
    else:
        after, solution = preview_lock(workspace, before.track)
        result = diff_locks(before, after, solution=solution)
    STATE.output.result(_diff_json(result), "\n".join(result.lines()))


def _lock_named(name: str) -> Lock:
    from bedplate.flows.locks import committed_path, read_lock_file

    path = Path(name)
    return read_lock_file(path if path.is_file() else committed_path(STATE.begin(STATE.output.as_json), name))


def _check(track: str, offline: bool) -> None:
    from bedplate.flows.lock import check_track
    from bedplate.model.errors import Level

    findings = check_track(STATE.begin(STATE.output.as_json), track, offline=offline)
    stale = any(finding.level is Level.ERROR for finding in findings)
    lines = [f"{f.level.value}: {f.cause}" + (f" ({f.remedy})" if f.remedy else "") for f in findings]
    text = "\n".join([*lines, f"the lock of {track} is {'stale' if stale else 'up to date'}"])
    STATE.output.result({"stale": stale, "findings": [asdict(finding) for finding in findings]}, text)
    if stale:
        raise typer.Exit(1)


def _diff_json(diff: LockDiff | None) -> dict[str, Any] | None:
    return None if diff is None else {**asdict(diff), "size_change": diff.size_change}
