"""One module per command or group of commands. Heavy imports stay inside the functions, so that starting is quick."""

from __future__ import annotations

import typer

from bedplate.cli.commands import (
    boot,
    build,
    compare,
    demo,
    fleet,
    fleet_service,
    inspect,
    keys,
    lock,
    packages,
    release,
    serve,
    store,
    tools,
    up,
    verify,
)


def register(app: typer.Typer) -> None:
    """Attach every command to the application, in the order a newcomer meets them."""
    app.command()(up.up)
    app.command()(build.build)
    app.command()(boot.boot)
    app.command()(inspect.inspect)
    app.command()(compare.compare)
    app.add_typer(verify.app, name="verify")
    app.add_typer(lock.app, name="lock")
    app.add_typer(packages.app, name="packages")
    app.add_typer(keys.app, name="keys")
    app.add_typer(release.app, name="release")
    fleet_service.attach(fleet.app)
    app.add_typer(fleet.app, name="fleet")
    app.add_typer(serve.app, name="serve")
    app.add_typer(demo.app, name="demo")
    app.add_typer(store.app, name="store")
    app.add_typer(tools.app, name="tools")
