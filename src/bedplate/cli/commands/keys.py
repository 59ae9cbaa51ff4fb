"""``bedplate keys``: the keys images, packages and PCR policies are signed with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bedplate.cli.options import Json
from bedplate.cli.state import STATE

if TYPE_CHECKING:
    from bedplate.trust.keys import KeyInfo, KeyStore

app = typer.Typer(help="Keys: create, list, show. Development keys are made by themselves.", no_args_is_help=True)


def _store(as_json: bool) -> KeyStore:
    from bedplate.flows.keys import open_devices
    from bedplate.trust.keys import KeyStore

    workspace = STATE.begin(as_json)
    open_devices(workspace)
    return KeyStore(workspace.keys)


def _row(info: KeyInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "role": info.role,
        "kind": str(info.kind),
        "fingerprint": info.fingerprint,
        "subject": info.subject,
        "active": info.active,
        "next": info.next,
        "directory": str(info.directory),
    }


def _lines(row: dict[str, Any]) -> str:
    return "\n".join(f"{key:12} {value}" for key, value in row.items())


@app.command()
def create(
    role: Annotated[str, typer.Argument(help="boot, pcr, packages, update; root, release, online")],
    release: Annotated[
        bool, typer.Option("--release", help="A release key; without this the key is marked as a development key")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a new key for a role and put it in use. Example: bedplate keys create boot --release"""
    from bedplate.trust.roles import Kind

    row = _row(_store(as_json).create(role, Kind.RELEASE if release else Kind.DEVELOPMENT))
    STATE.output.result(row, _lines(row))


@app.command()
def add(
    role: Annotated[str, typer.Argument(help="boot, pcr, packages, update; root, release, online")],
    uri: Annotated[str, typer.Argument(help="pkcs11:…, awskms:…, gcpkms:… or azurekms:…")],
    release: Annotated[
        bool, typer.Option("--release", help="A release key; without this the key is marked as a development key")
    ] = False,
    as_json: Json = False,
) -> None:
    """Use a key that lies elsewhere. Example: bedplate keys add boot awskms:alias/boot --release

    Or "pkcs11:token=keys;id=%01?module-path=/usr/lib/libykcs11.so" (RFC 7512). The key signs a certificate for itself,
    which says what it is for; the private key stays where it is.
    """
    from bedplate.trust.roles import Kind

    row = _row(_store(as_json).add(role, uri, Kind.RELEASE if release else Kind.DEVELOPMENT))
    STATE.output.result(row, _lines(row))


@app.command()
def prepare(
    role: Annotated[str, typer.Argument(help="boot, pcr, packages, update; root, release, online")],
    as_json: Json = False,
) -> None:
    """Make the key that will follow the one in use. Example: bedplate keys prepare update

    Images built from now on hold both public keys. When all nodes run such an image: bedplate keys activate.
    """
    row = _row(_store(as_json).prepare(role))
    STATE.output.result(row, _lines(row))


@app.command(name="list")
def list_keys(as_json: Json = False) -> None:
    """List all keys; a star marks the one in use, a plus the next. Example: bedplate keys list"""
    rows = [_row(info) for info in _store(as_json).list()]
    text = "\n".join(
        f"{'*' if row['active'] else '+' if row['next'] else ' '} {row['id']:24} {row['kind']:12} {row['subject']}"
        for row in rows
    )
    STATE.output.result(rows, text or "no keys yet; they are made on first use, or by: bedplate keys create ROLE")


@app.command()
def show(key: Annotated[str, typer.Argument(help="The key's id, see list")], as_json: Json = False) -> None:
    """Show one key without its private part. Example: bedplate keys show boot-1a2b3c4d"""
    row = _row(_store(as_json).show(key))
    STATE.output.result(row, _lines(row))


@app.command()
def activate(key: Annotated[str, typer.Argument(help="The key's id, see list")], as_json: Json = False) -> None:
    """Put a key in use for its role. Example: bedplate keys activate boot-1a2b3c4d"""
    row = _row(_store(as_json).activate(key))
    STATE.output.result(row, _lines(row))
