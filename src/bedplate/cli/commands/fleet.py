"""``bedplate fleet simulate``: what a policy does to a fleet, before it does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.options import Json
from bedplate.cli.state import STATE

app = typer.Typer(
    help="Fleets: roll-outs, nodes and tokens of an update service; a policy tried in virtual time.",
    no_args_is_help=True,
)


@app.callback()
def fleet() -> None:
    """Fleets: roll-outs, nodes and tokens of an update service; a policy tried in virtual time."""


@app.command()
def simulate(
    policy: Annotated[
        Path | None, typer.Argument(help="The policy (TOML, or JSON by its suffix); left out: the default policy")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes in the fleet", min=1)] = 100_000,
    channel: Annotated[str, typer.Option(help="The channel whose rings are reached")] = "stable",
    share: Annotated[
        list[str] | None,
        typer.Option(help="RING=SHARE of the nodes, such as canary=0.1%; the last ring has the rest"),
    ] = None,
    fails: Annotated[str, typer.Option(help="Share of nodes on which the release fails and that fall back")] = "0%",
    lost: Annotated[str, typer.Option(help="Share of nodes that never come back")] = "0%",
    seed: Annotated[int, typer.Option(help="Chooses the release and the nodes' luck")] = 1,
    urgent: Annotated[bool, typer.Option("--urgent", help="Every ring at once, as for an urgent release")] = False,
    as_json: Json = False,
) -> None:
    """Roll one release out to a fleet in virtual time. Example: bedplate fleet simulate fleet.toml --fails 2%"""
    from bedplate.cli.rollout import outcome_text
    from bedplate.fleet.policy import DEFAULT_POLICY, parse_policy
    from bedplate.fleet.simulation import Scenario
    from bedplate.fleet.simulation import simulate as run
    from bedplate.fleet.values import Pace

    STATE.begin(as_json)
    chosen = parse_policy(policy.read_text(), where=str(policy)) if policy is not None else DEFAULT_POLICY
    scenario = Scenario(
        nodes=nodes,
        shares=_shares(share or []),
        fails=_share("--fails", fails),
        lost=_share("--lost", lost),
        seed=seed,
        pace=Pace.URGENT if urgent else Pace.GRADUAL,
    )
    with STATE.output.progress.task("virtual time", None, "s") as task:
        passed = 0.0

        def on_tick(seconds: float) -> None:
            nonlocal passed
            task.advance(int(seconds - passed))
            passed = seconds

        outcome = run(chosen, scenario, channel=channel, on_tick=on_tick)
    import sys

    STATE.output.result(outcome.to_json(), outcome_text(outcome, color=sys.stdout.isatty()))


def _shares(words: list[str]) -> dict[str, float]:
    from bedplate.model.errors import BadInput

    result = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise BadInput(f"{word!r} is not RING=SHARE", where="--share", remedy="write it like canary=0.1%")
        result[name] = _share("--share", text)
    return result


def _share(option: str, text: str) -> float:
    from bedplate.fleet.policy import parse_share
    from bedplate.model.errors import BadInput

    try:
        return float(str(parse_share(text)))
    except ValueError as error:
        raise BadInput(str(error), where=option) from error
