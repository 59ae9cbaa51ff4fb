"""``bedplate tools``: the tools tree."""

from __future__ import annotations

from typing import Annotated

import typer

from bedplate.cli.options import Json, Relock, relock_policy
from bedplate.cli.state import STATE

app = typer.Typer(
    help="The tools tree: the external programs Bedplate runs, from locked packages.", no_args_is_help=True
)


@app.command()
def prepare(
    tool_set: Annotated[
        list[str] | None, typer.Option("--set", help="A set of distro/tools.toml; may be repeated; else the tools")
    ] = None,
    relock: Relock = False,
    as_json: Json = False,
) -> None:
    """Download and unpack tools trees that are not there yet. Example: bedplate tools prepare --set tools --set web"""
    from bedplate.flows.tools import prepare_tools

    workspace = STATE.begin(as_json)
    names = tool_set or ["tools"]
    trees = {name: prepare_tools(workspace, name, relock_policy(relock)).tree for name in names}
    STATE.output.result(
        {name: {"root": str(tree.root), "wrappers": str(tree.wrappers)} for name, tree in trees.items()},
        "\n".join(str(tree.root) for tree in trees.values()),
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context) -> None:
    """Run a program of the tools tree on this terminal. Example: bedplate tools run -- rpm --version"""
    from bedplate.flows.tools import prepare_tools

    workspace = STATE.begin(as_json=False)
    if not context.args:
        raise typer.BadParameter("name the program to run")
    toolbox = prepare_tools(workspace, "tools")
    with toolbox.start(context.args[0], *context.args[1:], stdin=None, stdout=None, stderr=None) as process:
        code = process.wait()
    raise typer.Exit(code)


@app.command(name="list")
def list_tools(as_json: Json = False) -> None:
    """Show the packages of the tools tree. Example: bedplate tools list"""
    from bedplate.flows.tools import tools_lock

    workspace = STATE.begin(as_json)
    packages = tools_lock(workspace, "tools").packages
    rows = [{"name": p.nevra.name, "evr": str(p.nevra.evr), "arch": p.nevra.arch} for p in packages]
    STATE.output.result(rows, "\n".join(f"{row['name']} {row['evr']}" for row in rows))
