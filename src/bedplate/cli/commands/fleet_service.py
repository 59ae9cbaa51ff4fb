"""``bedplate fleet`` commands that speak to a running update service."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bedplate.cli.options import Json
from bedplate.cli.state import STATE

if TYPE_CHECKING:
    from bedplate.serve.client import ServiceClient

rollout = typer.Typer(help="Roll-outs: start, pause, resume, abort, rollback, show, list.", no_args_is_help=True)
token = typer.Typer(help="Tokens of people: create, list, revoke.", no_args_is_help=True)

Url = Annotated[str, typer.Option("--url", help="The service; else BEDPLATE_URL", show_default=False)]
Token = Annotated[str, typer.Option("--token", help="Your token; else BEDPLATE_TOKEN", show_default=False)]
Id = Annotated[str, typer.Argument(help="The roll-out's id, see: bedplate fleet rollout list")]
Why = Annotated[str, typer.Option(help="Why; everybody who looks is shown it")]
Revision = Annotated[
    int | None, typer.Option(help="The revision you looked at; left out: the one it has now", show_default=False)
]


def _client(url: str, secret: str, as_json: bool) -> ServiceClient:
    from bedplate.model.errors import BadInput
    from bedplate.serve.client import ServiceClient

    STATE.begin(as_json)
    secret = secret or os.environ.get("BEDPLATE_TOKEN", "")
    if not secret:
        raise BadInput("no token is given", where="--token", remedy="make one with: bedplate serve token NAME")
    return ServiceClient(url or os.environ.get("BEDPLATE_URL", "http://127.0.0.1:8080"), secret)


def _show(row: dict[str, Any]) -> None:
    lines = [
        f"{row['id']}  {row['track']} {row['version']} in {row['channel']}: {row['status']}"
        + (f" ({row['why']})" if row["why"] else ""),
        f"{'ring':16}{'share':>8}{'nodes':>8}"
        f"{'offered':>9}{'loading':>9}{'reboot':>8}{'healthy':>9}{'fell b.':>9}{'timed o.':>9}",
    ]
    for ring in row["rings"]:
        share = "-" if ring["share"] is None else f"{ring['share']:.0%}"
        lines.append(
            f"{ring['name']:16}{share:>8}{ring['nodes']:>8}{ring['offered']:>9}{ring['downloading']:>9}"
            f"{ring['rebooting']:>8}{ring['healthy']:>9}{ring['fell_back']:>9}{ring['timed_out']:>9}"
        )
    STATE.output.result(row, "\n".join(lines))


@rollout.command()
def start(
    track: Annotated[str, typer.Argument(help="The release's track")],
    version: Annotated[str, typer.Argument(help="The release's version")],
    channel: Annotated[str, typer.Option(help="The channel whose rings get it")] = "stable",
    urgent: Annotated[bool, typer.Option("--urgent", help="Every ring at once; the stop rule still holds")] = False,
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Begin to roll a release out. Example: bedplate fleet rollout start container 1.2.0 --channel stable"""
    body = {"track": track, "version": version, "channel": channel, "pace": "urgent" if urgent else "gradual"}
    _show(_client(url, secret, as_json).call("POST", "/api/v1/rollouts", body))


@rollout.command()
def show(id: Id, url: Url = "", secret: Token = "", as_json: Json = False) -> None:
    """Where a roll-out stands. Example: bedplate fleet rollout show 1a2b3c4d5e6f"""
    _show(_client(url, secret, as_json).call("GET", f"/api/v1/rollouts/{id}"))


@rollout.command(name="list")
def list_rollouts(url: Url = "", secret: Token = "", as_json: Json = False) -> None:
    """Roll-outs, newest first. Example: bedplate fleet rollout list"""
    rows = _client(url, secret, as_json).call("GET", "/api/v1/rollouts")
    text = "\n".join(f"{r['id']}  {r['channel']:10} {r['track']:12} {r['version']:20} {r['status']}" for r in rows)
    STATE.output.result(rows, text or "no roll-out yet")


def _order(id: str, command: str, why: str, revision: int | None, client: ServiceClient, **more: Any) -> None:
    if revision is None:
        revision = client.call("GET", f"/api/v1/rollouts/{id}")["revision"]
    _show(client.call("POST", f"/api/v1/rollouts/{id}/{command}", {"revision": revision, "why": why, **more}))


@rollout.command()
def pause(
    id: Id, why: Why = "", revision: Revision = None, url: Url = "", secret: Token = "", as_json: Json = False
) -> None:
    """Offer the release to nobody new. Example: bedplate fleet rollout pause 1a2b3c4d5e6f --why "a holiday" """
    _order(id, "pause", why, revision, _client(url, secret, as_json))


@rollout.command()
def resume(
    id: Id, why: Why = "", revision: Revision = None, url: Url = "", secret: Token = "", as_json: Json = False
) -> None:
    """Go on with a roll-out that is paused or stopped. Example: bedplate fleet rollout resume 1a2b3c4d5e6f"""
    _order(id, "resume", why, revision, _client(url, secret, as_json))


@rollout.command()
def abort(
    id: Id, why: Why = "", revision: Revision = None, url: Url = "", secret: Token = "", as_json: Json = False
) -> None:
    """End a roll-out for good. Example: bedplate fleet rollout abort 1a2b3c4d5e6f --why "it eats disks" """
    _order(id, "abort", why, revision, _client(url, secret, as_json))


@rollout.command()
def rollback(
    id: Id,
    version: Annotated[str, typer.Argument(help="The signed release to go back to")],
    why: Why = "",
    revision: Revision = None,
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Take nodes back to another release. Example: bedplate fleet rollout rollback 1a2b3c4d5e6f 1.1.1"""
    _order(id, "rollback", why, revision, _client(url, secret, as_json), version=version)


def nodes(
    text: Annotated[str, typer.Argument(help="Found anywhere in id, ring or version")] = "",
    ring: Annotated[str, typer.Option(help="Only of this ring")] = "",
    version: Annotated[str, typer.Option(help="Only those that run this")] = "",
    stage: Annotated[str, typer.Option(help="Only in this state: offered, downloading, rebooting, healthy, …")] = "",
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Nodes and what they run. Example: bedplate fleet nodes --stage fell-back"""
    rows = list(_client(url, secret, as_json).nodes(text=text, ring=ring, version=version, stage=stage))
    lines = [f"{'node':34}{'ring':12}{'version':20}{'state':14}{'target':20}seen"]
    now = time.time()
    for row in rows:
        seen = f"{now - row['seen']:.0f} s ago" if row["seen"] else "never"
        state = "revoked" if row["revoked"] else row["stage"]
        lines.append(f"{row['id']:34}{row['ring']:12}{row['version']:20}{state:14}{row['target']:20}{seen}")
    STATE.output.result(rows, "\n".join(lines) if rows else "no such node")


def node(
    id: Annotated[str, typer.Argument(help="The node's machine id")],
    ring: Annotated[str | None, typer.Option(help="Put it into this ring", show_default=False)] = None,
    pin: Annotated[str | None, typer.Option(help="Pin it to a version; empty: no longer", show_default=False)] = None,
    hold: Annotated[str | None, typer.Option(help="Hold it, and why; empty: no longer", show_default=False)] = None,
    forgive: Annotated[
        str | None, typer.Option(help="A version it fell back from and may be offered again", show_default=False)
    ] = None,
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Show a node, or change what people decide of it. Example: bedplate fleet node 0123… --ring canary"""
    client = _client(url, secret, as_json)
    wanted = {"ring": ring, "pin": pin, "held": hold, "forgive": forgive}
    patch = {name: value for name, value in wanted.items() if value is not None}
    if patch:
        client.call("PATCH", f"/api/v1/nodes/{id}", patch)
    found = client.call("GET", f"/api/v1/nodes/{id}")
    row = found["node"]
    lines = [f"{name:10} {row[name]}" for name in ("id", "track", "ring", "version", "stage", "target", "pin", "held")]
    lines.append(f"{'decision':10} {found['decision']}")
    lines += [
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(one['at']))}  {one['sentence']}" for one in found["history"]
    ]
    STATE.output.result(found, "\n".join(lines))


def revoke(
    id: Annotated[str, typer.Argument(help="The node's machine id")],
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Shut a node out. Example: bedplate fleet revoke 0123456789abcdef0123456789abcdef"""
    _client(url, secret, as_json).call("DELETE", f"/api/v1/nodes/{id}")
    STATE.output.result({"revoked": id}, f"{id} is shut out")


def slots(
    free: Annotated[str, typer.Option(help="Take the slot from this node: it is gone, or was made anew")] = "",
    why: Why = "",
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Reboot slots that nodes hold (FleetLock). Example: bedplate fleet slots --free 0123… --why scrapped"""
    client = _client(url, secret, as_json)
    if free:
        client.call("POST", f"/api/v1/slots/{free}/free", {"why": why})
    rows = client.call("GET", "/api/v1/slots")
    lines = [
        f"{one['node']}  {one['ring']:16} since {time.strftime('%Y-%m-%d %H:%M', time.gmtime(one['since']))} UTC"
        + ("  overdue" if one["overdue"] else "")
        for one in rows
    ]
    STATE.output.result(rows, "\n".join(lines) or "no node holds a reboot slot")


def omaha(
    track: Annotated[str, typer.Argument(help="The track's id")],
    as_json: Json = False,
) -> None:
    """The application id Omaha clients of a track have. Example: bedplate fleet omaha container"""
    from bedplate.model.release import require_track
    from bedplate.serve.foreign.omaha import application_id

    STATE.begin(as_json)
    found = application_id(require_track(track, "TRACK"))
    STATE.output.result({"track": track, "application": found}, found)


def enroll(
    track: Annotated[str, typer.Option(help="The nodes' track")] = "container",
    ring: Annotated[str, typer.Option(help="Their ring")] = "broad",
    count: Annotated[int, typer.Option(min=1, max=1000, help="For how many nodes")] = 1,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long the way in is open")] = 7,
    trade: Annotated[
        bool, typer.Option("--trade", help="One token to trade by POST /v1/enroll, in place of ready credentials")
    ] = False,
    tpm: Annotated[bool, typer.Option("--tpm", help="The token is good only with a TPM-bound key")] = False,
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Make ways in for nodes; secrets are shown once. Example: bedplate fleet enroll --ring canary --count 10"""
    body = {"kind": "token" if trade or tpm else "node", "track": track, "ring": ring, "count": count, "days": days}
    rows = _client(url, secret, as_json).call("POST", "/api/v1/enrolments", body | {"tpm": tpm})
    STATE.output.result(rows, "\n".join(row["secret"] for row in rows))


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="Who it is for")],
    role: Annotated[str, typer.Option(help="viewer, operator or release-manager")] = "viewer",
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long it is good for")] = 90,
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """Make a token for a person or a program. Example: bedplate fleet token create dashboard --role viewer"""
    body = {"name": name, "role": role, "days": days}
    row = _client(url, secret, as_json).call("POST", "/api/v1/tokens", body)
    STATE.output.result(row, f"{row['secret']}\nthis is shown once")


@token.command(name="list")
def list_tokens(url: Url = "", secret: Token = "", as_json: Json = False) -> None:
    """Tokens, without their secrets. Example: bedplate fleet token list"""
    rows = _client(url, secret, as_json).call("GET", "/api/v1/tokens")
    text = "\n".join(f"{r['id']}  {r['name']:24} {r['role']:16} {'revoked' if r['revoked'] else ''}" for r in rows)
    STATE.output.result(rows, text)


@token.command(name="revoke")
def revoke_token(
    id: Annotated[str, typer.Argument(help="The token's id, see list")],
    url: Url = "",
    secret: Token = "",
    as_json: Json = False,
) -> None:
    """End a token now. Example: bedplate fleet token revoke 0123456789abcdef"""
    _client(url, secret, as_json).call("DELETE", f"/api/v1/tokens/{id}")
    STATE.output.result({"revoked": id}, f"{id} is ended")


def attach(app: typer.Typer) -> None:
    """Add these commands to ``bedplate fleet``."""
    app.add_typer(rollout, name="rollout")
    app.command()(nodes)
    app.command()(node)
    app.command()(slots)
    app.command()(omaha)
    app.command()(enroll)
    app.command()(revoke)
    app.add_typer(token, name="token")
