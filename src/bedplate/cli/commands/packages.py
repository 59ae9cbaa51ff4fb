"""``bedplate packages``: import packages into the repository, look at them, and account for their scripts."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.options import Json, Relock, relock_policy
from bedplate.cli.state import STATE

app = typer.Typer(help="Packages: import, search, show, why, diff, snapshots, serve, scripts.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a package in the repository")]
Track = Annotated[str, typer.Option("--track", help="Whose lock says which packages")]


@app.command(name="import")
def import_(
    names: Annotated[list[str] | None, typer.Argument(help="Packages to import with all they require")] = None,
    package_set: Annotated[str, typer.Option("--set", help="A set: its name below distro/sets, or a file")] = "",
    track: Annotated[str, typer.Option("--track", help="Instead: what this track's lock names")] = "",
    cluster: Annotated[str, typer.Option("--cluster", help="Scheduler of a dask cluster, tcp://HOST:PORT")] = "",
    relock: Relock = False,
    as_json: Json = False,
) -> None:
    """Import packages into the signed repository and keep its state. Example: bedplate packages import --set server"""
    from bedplate.flows import breadth
    from bedplate.flows.repository import import_track
    from bedplate.model.errors import BadInput
    from bedplate.packages.importer import ExecutorFactory
    from bedplate.toolchain.workers import worker_pool

    workspace = STATE.begin(as_json)
    if sum(1 for one in (names, package_set, track) if one) > 1:
        raise BadInput("name packages, a set, or a track, not several of these", remedy="import one after the other")
    factory: ExecutorFactory = worker_pool
    if cluster:
        from bedplate.flows.cluster import cluster_executor

        factory = cluster_executor(cluster)
    if names:
        base, _ = breadth.read_set(workspace, "server")
        result = breadth.import_set(workspace, breadth.named(names, base), "the command line", factory)
    elif package_set:
        wanted, where = breadth.read_set(workspace, package_set)
        result = breadth.import_set(workspace, wanted, where, factory)
    else:
        result = import_track(workspace, track or "container", relock_policy(relock))
    repository = result.repository
    body = {
        "directory": str(repository.directory),
        "repomd_sha256": repository.repomd_sha256,
        "state": result.state.id,
        "packages": [str(nevra) for nevra in result.packages],
        "held": repository.packages,
    }
    STATE.output.result(
        body,
        f"{len(result.packages)} packages imported, {repository.packages} in {repository.directory}\n"
        f"state {result.state.id}",
    )


@app.command(name="list")
def list_packages(track: Track = "container", as_json: Json = False) -> None:
    """List a track's locked packages and who asked for each. Example: bedplate packages list"""
    from bedplate.flows.locks import committed_path, read_lock_file

    lock = read_lock_file(committed_path(STATE.begin(as_json), track))
    rows = [
        {
            "name": p.nevra.name,
            "evr": str(p.nevra.evr),
            "arch": p.nevra.arch,
            "source": str(p.source),
            "suite": p.suite,
            "why": p.why,
        }
        for p in lock.packages
    ]
    width = max((len(row["name"]) for row in rows), default=0)
    STATE.output.result(rows, "\n".join(f"{r['name']:{width}}  {r['evr']}  for {r['why']}" for r in rows))


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show a package of the repository in full. Example: bedplate packages show nginx"""
    from bedplate.cli.catalogue import described_text
    from bedplate.flows.catalogue import describe

    body = describe(STATE.begin(as_json), name)
    STATE.output.result(asdict(body), described_text(body))


@app.command()
def files(name: Name, as_json: Json = False) -> None:
    """List a package's files with modes and owners. Example: bedplate packages files nginx-common"""
    from bedplate.cli.catalogue import file_json, file_line
    from bedplate.flows.catalogue import files as package_files

    found = package_files(STATE.begin(as_json), name)
    STATE.output.result([file_json(entry) for entry in found], "\n".join(file_line(entry) for entry in found))


@app.command()
def search(words: Annotated[list[str], typer.Argument(help="Words to look for")], as_json: Json = False) -> None:
    """Find packages by name, source and summary. Example: bedplate packages search postgres client"""
    from bedplate.flows.catalogue import search as find

    found = find(STATE.begin(as_json), words)
    width = max((len(one.name) for one in found), default=0)
    rows = [{"name": one.name, "evr": one.evr, "arch": one.arch, "summary": one.summary} for one in found]
    STATE.output.result(rows, "\n".join(f"{one.name:{width}}  {one.summary}" for one in found) or "nothing found")


@app.command()
def why(name: Name, as_json: Json = False) -> None:
    """Say why the repository holds a package. Example: bedplate packages why libpq5"""
    from bedplate.cli.catalogue import reason_text
    from bedplate.flows.catalogue import why as reason

    found = reason(STATE.begin(as_json), name)
    body = {"name": name, "chain": list(found.chain), "required_by": {k: list(v) for k, v in found.required_by.items()}}
    STATE.output.result(body, reason_text(found))


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A state: id, digest, date, previous, current")],
    new: Annotated[str, typer.Argument(help="The other one")] = "current",
    as_json: Json = False,
) -> None:
    """Compare two states of the repository. Example: bedplate packages diff previous current"""
    from bedplate.cli.catalogue import change_line
    from bedplate.flows.catalogue import difference

    changes = difference(STATE.begin(as_json), old, new)
    text = "\n".join(change_line(change) for change in changes) or "the same packages"
    STATE.output.result([asdict(change) for change in changes], text)


@app.command()
def snapshots(as_json: Json = False) -> None:
    """List the kept states of the repository. Example: bedplate packages snapshots"""
    from bedplate.cli.catalogue import snapshot_line
    from bedplate.flows.catalogue import snapshots as kept

    found = kept(STATE.begin(as_json))
    STATE.output.result([asdict(one) for one in found], "\n".join(map(snapshot_line, found)) or "none is kept yet")


@app.command()
def restore(
    state: Annotated[str, typer.Argument(help="A state: id, digest, date, or previous")], as_json: Json = False
) -> None:
    """Serve what a kept state of the repository held again. Example: bedplate packages restore 2026-11-21"""
    from bedplate.flows.repository import restore as serve_again

    found = serve_again(STATE.begin(as_json), state)
    body = {"state": found.id, "repomd_sha256": found.repomd_sha256, "packages": len(found.packages)}
    STATE.output.result(body, f"{found.comment}, {len(found.packages)} packages, is served as {found.id}")


@app.command()
def scripts(
    track: Track = "container",
    package_set: Annotated[str, typer.Option("--set", help="Instead: a set, by name or file")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show the scripts of known kind too")] = False,
    as_json: Json = False,
) -> None:
    """Show the ledger of maintainer scripts; fails when one is not accounted for. Example: bedplate packages scripts"""
    from bedplate.flows.breadth import set_ledger
    from bedplate.flows.show import track_ledger

    workspace = STATE.begin(as_json)
    ledger = set_ledger(workspace, package_set) if package_set else track_ledger(workspace, track)
    rows = ledger.rows()
    lines = [
        f"{row.status:12} {row.package} {row.script}: " + (row.reason or ", ".join(row.kinds))
        for row in rows
        if everything or row.status != "covered"
    ]
    for entry in ledger.unaccounted:
        lines += [f"{entry.package} {entry.script}, lines not covered:", *entry.uncovered_lines()]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    lines.append(f"{len(rows)} scripts: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items())))
    STATE.output.result([asdict(row) for row in rows], "\n".join(lines))
    if ledger.unaccounted:
        raise typer.Exit(1)


@app.command()
def calls(
    package_set: Annotated[str, typer.Option("--set", help="A set: its name below distro/sets, or a file")] = "server",
    as_json: Json = False,
) -> None:
    """Name what units and log rotations start that no package of a set holds. Example: bedplate packages calls"""
    from bedplate.flows.calls import set_calls

    found = set_calls(STATE.begin(as_json), package_set)
    lines = [f"{one.package} {one.path}: {one.program or '(script)'}: {one.cause}" for one in found]
    lines.append(f"{len(found)} calls lead nowhere" if found else "every call leads to a program of the set")
    if found:
        lines.append("say in distro/packages what stands in its place (`files`), or why it may be missing (`absent`)")
    STATE.output.result([asdict(one) for one in found], "\n".join(lines))
    if found:
        raise typer.Exit(1)


@app.command()
def serve(
    directory: Annotated[Path | None, typer.Argument(help="Another repository than the imported one")] = None,
    address: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: one that is free")] = 8090,
    as_json: Json = False,
) -> None:
    """Serve the repository over HTTP until it is interrupted. Example: bedplate packages serve --address 192.0.2.1"""
    from bedplate.flows.repository import repository_root
    from bedplate.packages.serving import repository_server

    root = directory or repository_root(STATE.begin(as_json))
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with repository_server(root, address, port) as used:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{used}"
        STATE.output.result(
            {"url": url, "directory": str(root)},
            f"serving {root}\nwrite this to /etc/dnf/vars/bedplate_url of a machine: {url}",
        )
        sys.stdout.flush()
        signal.sigwait(ends)
