"""``bedplate release keys``: which keys a release store believes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bedplate.cli.options import Json
from bedplate.cli.state import STATE

if TYPE_CHECKING:
    from bedplate.flows.release_store import StorePlace
    from bedplate.flows.workspace import Workspace
    from bedplate.release.repository import Outcome

app = typer.Typer(help="Keys a release store believes: list, trust, retire, revoke.", no_args_is_help=True)

Store = Annotated[str, typer.Option(help="The release store, see bedplate release", show_default=False)]


def _begin(store: str, as_json: bool) -> tuple[Workspace, StorePlace]:
    from bedplate.flows.release_store import release_place

    workspace = STATE.begin(as_json)
    return workspace, release_place(workspace, store)


def _show(outcome: Outcome, done: str) -> None:
    from bedplate.cli.commands.release import show_outcome

    show_outcome(outcome, done)


@app.command(name="list")
def list_keys(store: Store = "", as_json: Json = False) -> None:
    """List the keys a store believes. Example: bedplate release keys list"""
    from bedplate.flows.release_admin import list_keys as known

    _, place = _begin(store, as_json)
    keys = known(place)
    lines = [
        f"{key.role:9} {key.state.value:8} {key.id[:24]:24}{' DEVELOPMENT' if key.development else ''}" for key in keys
    ]
    STATE.output.result([asdict(key) for key in keys], "\n".join(lines))


@app.command()
def trust(
    key: Annotated[str, typer.Argument(help="Id of a key of yours (bedplate keys list), or a file with a public key")],
    role: Annotated[str, typer.Option(help="For a file: what the key is for")] = "release",
    following: Annotated[
        bool, typer.Option("--next", help="Announce it: it counts, but another one is in use for now")
    ] = False,
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Let a store believe a key. Example: bedplate release keys trust release-1a2b3c4d5e6f7a8b"""
    from bedplate.flows.release_admin import trust_key
    from bedplate.release.policy import KeyState

    workspace, place = _begin(store, as_json)
    state = KeyState.NEXT if following else KeyState.ACTIVE
    _show(trust_key(workspace, place, key, role, state), f"the store believes {key}")


@app.command()
def retire(
    key: Annotated[str, typer.Argument(help="Fingerprint, see list")], store: Store = "", as_json: Json = False
) -> None:
    """Sign nothing new with a key; what it signed holds. Example: bedplate release keys retire 1a2b3c4d5e6f7a8b"""
    from bedplate.flows.release_admin import set_key_state
    from bedplate.release.policy import KeyState

    workspace, place = _begin(store, as_json)
    _show(set_key_state(workspace, place, key, KeyState.RETIRED), f"{key} is retired")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Fingerprint, see list")], store: Store = "", as_json: Json = False
) -> None:
    """Make void what a key signed. Example: bedplate release keys revoke 1a2b3c4d5e6f7a8b

    Releases it signed are no longer offered. Withdraw them too, so that people read why.
    """
    from bedplate.flows.release_admin import set_key_state
    from bedplate.release.policy import KeyState

    workspace, place = _begin(store, as_json)
    _show(set_key_state(workspace, place, key, KeyState.REVOKED), f"{key} is revoked")
