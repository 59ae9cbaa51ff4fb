"""``bedplate serve``: the update service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bedplate.cli.options import Json
from bedplate.cli.state import STATE

if TYPE_CHECKING:
    from bedplate.flows.workspace import Workspace
    from bedplate.serve.database import Database

app = typer.Typer(help="The update service: run it, migrate its database, make the first token, check its audit log.")

DatabaseUrl = Annotated[
    str,
    typer.Option(
        help="sqlite:///FILE or postgresql://…; else BEDPLATE_DATABASE, else fleet.db among the images",
        show_default=False,
    ),
]


def _database(workspace: Workspace, url: str) -> Database:
    from bedplate.serve.database import Database

    wanted = url or os.environ.get("BEDPLATE_DATABASE", "")
    if not wanted:
        workspace.output.mkdir(parents=True, exist_ok=True)
        wanted = f"sqlite:///{workspace.output / 'fleet.db'}"
    return Database(wanted)


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    listen: Annotated[str, typer.Option(help="ADDRESS:PORT to listen on")] = "127.0.0.1:8080",
    store: Annotated[str, typer.Option(help="The release store, as for bedplate release", show_default=False)] = "",
    cdn: Annotated[str, typer.Option(help="Address of a copy of the store: artefacts are redirected there")] = "",
    database: DatabaseUrl = "",
    policy: Annotated[
        Path | None, typer.Option(help="Policy to begin with (TOML); later ones go through the API")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM); without it plain HTTP")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM)")] = None,
    tpm_roots: Annotated[
        Path | None, typer.Option(help="Roots (PEM) that must vouch for TPMs that enrol; without it any TPM may")
    ] = None,
    public_url: Annotated[str, typer.Option(help="The address nodes know the service by (Omaha hands it out)")] = "",
) -> None:
    """Run the update service until it is told to stop. Example: bedplate serve --listen 0.0.0.0:8080"""
    if context.invoked_subcommand is not None:
        return
    from bedplate.fleet.policy import parse_policy
    from bedplate.flows.release_store import reader, release_place
    from bedplate.model.errors import BadInput
    from bedplate.serve.pages.site import routes
    from bedplate.serve.run import Listen, log_as_json, run_loop
    from bedplate.serve.run import serve as run
    from bedplate.serve.service import Service
    from bedplate.serve.store_catalog import StoreCatalog
    from bedplate.serve.tpm_roots import read_roots

    workspace = STATE.begin(as_json=False)
    address, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise BadInput("not ADDRESS:PORT", where=f"--listen {listen}", remedy="write it like 127.0.0.1:8080")
    if public_url and not public_url.startswith(("http://", "https://")):
        raise BadInput(
            "not an address", where=f"--public-url {public_url}", remedy="write it like https://updates.example"
        )
    catalog = StoreCatalog(reader(release_place(workspace, store)), cdn)
    wanted = parse_policy(policy.read_text(), where=str(policy)) if policy is not None else None
    roots = read_roots(tpm_roots) if tpm_roots is not None else ()
    log_as_json()

    async def main() -> None:
        service = Service(_database(workspace, database), catalog, policy=wanted, tpm_roots=roots)
        await run(
            service, Listen(address.strip("[]"), int(port), tls_cert, tls_key, public_url=public_url), extra=routes()
        )

    run_loop(main())


@app.command()
def migrate(database: DatabaseUrl = "", as_json: Json = False) -> None:
    """Bring the database to this version's schema (serve does it by itself). Example: bedplate serve migrate"""
    revision = _database(STATE.begin(as_json), database).migrate()
    STATE.output.result({"revision": revision}, f"the schema is at {revision}")


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Who it is for")],
    role: Annotated[str, typer.Option(help="viewer, operator or release-manager")] = "release-manager",
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long it is good for")] = 90,
    database: DatabaseUrl = "",
    as_json: Json = False,
) -> None:
    """Make a token beside the database: the first one. Example: bedplate serve token alice --role operator"""
    import time

    from bedplate.model.errors import BadInput
    from bedplate.serve.people import People, Role

    opened = _database(STATE.begin(as_json), database)
    if role not in list(Role):
        raise BadInput(f"no role {role!r}", where="--role", remedy=f"one of: {', '.join(Role)}")
    opened.migrate()
    info, secret = People(opened).create(name, Role(role), days * 86400.0, actor="console", now=time.time())
    STATE.output.result(
        {"id": info.id, "name": info.name, "role": info.role, "expires": info.expires, "secret": secret},
        f"{secret}\nthis is shown once; use it with --token or BEDPLATE_TOKEN",
    )


@app.command()
def audit(database: DatabaseUrl = "", as_json: Json = False) -> None:
    """Check that nobody changed the audit log. Example: bedplate serve audit"""
    from bedplate.serve.audit import verify

    with _database(STATE.begin(as_json), database).reading() as connection:
        lines, digest = verify(connection)
    STATE.output.result({"lines": lines, "digest": digest}, f"{lines} lines, unbroken; the last is {digest}")
