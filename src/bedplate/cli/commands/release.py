"""``bedplate release``: making releases, channels, and looking at what is there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bedplate.cli.commands import release_keys
from bedplate.cli.console import human_bytes
from bedplate.cli.options import Json, Relock, relock_policy
from bedplate.cli.state import STATE

if TYPE_CHECKING:
    from bedplate.flows.release_store import StorePlace
    from bedplate.flows.workspace import Workspace
    from bedplate.model.release import Channel, Release
    from bedplate.release.repository import Outcome

app = typer.Typer(help="Releases: create, publish, promote, withdraw, look, compare, keys.", no_args_is_help=True)
app.add_typer(release_keys.app, name="keys")

Store = Annotated[
    str,
    typer.Option(
        help="A directory or s3://bucket/prefix; else BEDPLATE_STORE, else releases/ among the images",
        show_default=False,
    ),
]
Tracks = Annotated[list[str] | None, typer.Option("--track", help="Only this track; may be repeated")]


def begin(store: str, as_json: bool) -> tuple[Workspace, StorePlace]:
    """The workspace and the store the options name."""
    from bedplate.flows.release_store import release_place

    workspace = STATE.begin(as_json)
    return workspace, release_place(workspace, store)


@app.command()
def init(store: Store = "", as_json: Json = False) -> None:
    """Make a release store with the keys in use. Example: bedplate release init --store s3://releases/bedplate"""
    from bedplate.flows.release_store import initialise

    workspace, place = begin(store, as_json)
    initialise(workspace, place)
    root = place.pins / "root.json"
    STATE.output.result(
        {"store": place.objects.url, "root": str(root)},
        f"the store is {place.objects.url}\nits root, for those who read it: {root}",
    )


@app.command()
def trust(
    root: Annotated[Path, typer.Argument(help="The store's root metadata, as its owner handed it over")],
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Trust a store's root from now on. Example: bedplate release trust root.json --store s3://releases/bedplate"""
    from bedplate.flows.release_store import trust_root

    _, place = begin(store, as_json)
    digest = trust_root(place, root)
    STATE.output.result({"store": place.objects.url, "sha256": digest}, f"trusted: root with SHA-256 {digest}")


@app.command()
def create(
    builds: Annotated[list[str], typer.Argument(help="Tracks (their newest build) or directories of builds")],
    floor: Annotated[str, typer.Option(help="The lowest version from which nodes may go to this one directly")] = "",
    notes: Annotated[str, typer.Option(help="What an operator must know")] = "",
    days: Annotated[float | None, typer.Option(min=0.001, help="Offered to nobody after so many days")] = None,
    without_disk: Annotated[
        bool, typer.Option("--without-disk", help="Leave out the whole disk's image, which updates do not need")
    ] = False,
    state: Annotated[
        str, typer.Option(help="Repository state for machines that follow releases: an id, a date, current, previous")
    ] = "",
    store: Store = "",
    relock: Relock = False,
    as_json: Json = False,
) -> None:
    """Make an immutable, signed release of finished builds. Example: bedplate release create container server"""
    from bedplate.flows.release_create import Terms, create_releases

    workspace, place = begin(store, as_json)
    terms = Terms(floor=floor, notes=notes, days=days, disk=not without_disk, state=state)
    made = create_releases(workspace, place, builds, terms, relock_policy(relock))
    STATE.output.result([one.to_json() for one in made], "\n\n".join(release_text(one) for one in made))


@app.command()
def publish(
    version: Annotated[str, typer.Argument(help="The release's version")],
    channel: Annotated[str, typer.Argument(help="The channel that shall carry it")],
    track: Tracks = None,
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Put a release into a channel. Example: bedplate release publish 1.0.7 edge"""
    from bedplate.flows.release_publish import publish_release

    workspace, place = begin(store, as_json)
    show_outcome(publish_release(workspace, place, version, channel, track or []), f"{channel} carries {version}")


@app.command()
def promote(
    source: Annotated[str, typer.Argument(help="The channel whose newest release is taken")],
    target: Annotated[str, typer.Argument(help="The channel that receives it")],
    track: Tracks = None,
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Publish a channel's newest release in the next channel. Example: bedplate release promote edge stable"""
    from bedplate.flows.release_publish import promote as promote_release

    workspace, place = begin(store, as_json)
    version, outcome = promote_release(workspace, place, source, target, track or [])
    show_outcome(outcome, f"{target} carries {version}")


@app.command()
def withdraw(
    version: Annotated[str, typer.Argument(help="The release's version")],
    reason: Annotated[str, typer.Option(help="Why; nodes' owners will read it")],
    channel: Annotated[list[str] | None, typer.Option(help="Only from this channel; may be repeated")] = None,
    track: Tracks = None,
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Offer a release to nobody any more. Example: bedplate release withdraw 1.0.7 --reason "loses the network" """
    from bedplate.flows.release_publish import withdraw_release

    workspace, place = begin(store, as_json)
    outcomes = withdraw_release(workspace, place, version, reason, channel or [], track or [])
    names = ", ".join(outcome.subject for outcome in outcomes)
    waiting = [outcome for outcome in outcomes if outcome.waiting]
    text = "\n".join(outcome_text(one, f"withdrawn from {one.subject}") for one in outcomes)
    STATE.output.result({"channels": names.split(", "), "waiting": [asdict(one) for one in waiting]}, text)


@app.command(name="list")
def list_releases(store: Store = "", as_json: Json = False) -> None:
    """List channels and releases. Example: bedplate release list"""
    from bedplate.flows.release_look import overview

    _, place = begin(store, as_json)
    seen = overview(place)
    lines = []
    for channel in seen.channels:
        lines.append(f"{channel.name:10} {channel.title}")
        lines += _channel_lines(channel)
    lines.append("created")
    lines += [f"  {one.track:12} {one.version:18} {one.state}" for one in seen.created] or ["  nothing yet"]
    lines += [f"waiting    {one}" for one in seen.waiting]
    STATE.output.result(
        {
            "channels": [asdict(channel) for channel in seen.channels],
            "created": [asdict(one) for one in seen.created],
            "waiting": list(seen.waiting),
            "revision": seen.revision,
            "expires": seen.expires,
        },
        "\n".join(lines),
    )


def _channel_lines(channel: Channel) -> list[str]:
    if not channel.publications:
        return ["  nothing yet"]
    rows = []
    for one in channel.publications:
        gone = channel.withdrawn(one.track, one.version)
        mark = f"WITHDRAWN: {gone.reason}" if gone else ("newest" if channel.newest(one.track) == one.version else "")
        rows.append(f"  {one.track:12} {one.version:18} {mark}".rstrip())
    return rows


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="The release's version")],
    track: Annotated[str, typer.Option(help="The track; needed when more than one was created")] = "",
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Show a release: artefacts, keys, channels. Example: bedplate release show 1.0.7"""
    from bedplate.flows.release_look import look

    _, place = begin(store, as_json)
    seen = [look(place, one, version) for one in ([track] if track else place_tracks(place, version))]
    value = [
        {**one.release.to_json(), "channels": list(one.channels), "withdrawn": one.withdrawn, "keys": list(one.keys)}
        for one in seen
    ]
    text = "\n\n".join(
        release_text(one.release)
        + f"\n{'channels':14} {', '.join(one.channels) or 'none'}"
        + "".join(f"\n{'WITHDRAWN':14} from {name}: {reason}" for name, reason in one.withdrawn.items())
        for one in seen
    )
    STATE.output.result(value, text)


def place_tracks(place: StorePlace, version: str) -> list[str]:
    """Tracks of a version; one that was never created is an error."""
    from bedplate.flows.release_publish import created_tracks
    from bedplate.model.errors import BadInput
    from bedplate.model.version import require_version

    found = created_tracks(place.objects, require_version(version))
    if not found:
        raise BadInput(
            f"no release {version} was created here", where=place.objects.url, remedy="bedplate release list"
        )
    return found


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A version, or a channel: its newest release")],
    new: Annotated[str, typer.Argument(help="A version, or a channel: its newest release")],
    track: Annotated[str, typer.Option(help="The track; needed when there is more than one")] = "",
    cves: Annotated[
        Path | None, typer.Option(help="JSON: CVE id -> list of source packages it concerns, to name those fixed")
    ] = None,
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Say what changes from one release to another. Example: bedplate release diff stable edge"""
    from bedplate.flows.release_look import compare, read_cves

    _, place = begin(store, as_json)
    result = compare(place, track, old, new, read_cves(cves) if cves else {})
    STATE.output.result(result.to_json(), "\n".join(result.lines()))


@app.command()
def verify(
    version: Annotated[str, typer.Argument(help="The release's version")],
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Read every byte of a release and check it. Example: bedplate release verify 1.0.7"""
    from bedplate.flows.release_look import verify_release

    _, place = begin(store, as_json)
    tracks = place_tracks(place, version)
    checked = {track: verify_release(place, track, version) for track in tracks}
    text = "\n".join(f"{track} {version}: {count} artefacts are what was signed" for track, count in checked.items())
    STATE.output.result(checked, text)


@app.command()
def export(
    channel: Annotated[str, typer.Argument(help="The channel")],
    track: Annotated[str, typer.Argument(help="The track")],
    directory: Annotated[Path, typer.Argument(help="Where to; any web server can hand it out")],
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Write a channel's newest release as plain files. Example: bedplate release export stable container /srv/www

    Stock systemd-sysupdate fetches from such a directory without any service. Run it again after each publication.
    """
    from bedplate.flows.release_look import export_channel

    _, place = begin(store, as_json)
    release = export_channel(place, channel, track, directory)
    text = f"{directory} holds {release.track} {release.version}"
    STATE.output.result({"directory": str(directory), "version": release.version}, text)


@app.command()
def refresh(store: Store = "", as_json: Json = False) -> None:
    """Renew the store's freshness, for a daily timer. Example: bedplate release refresh"""
    from bedplate.flows.release_admin import refresh as renew

    workspace, place = begin(store, as_json)
    expires = renew(workspace, place)
    STATE.output.result({"expires": expires}, "renewed")


@app.command()
def approve(
    subject: Annotated[str, typer.Argument(help="What waits (a channel, or keys), or a release's version")],
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Add your signature where more than one is needed. Example: bedplate release approve stable"""
    from bedplate.flows.release_admin import approve as approve_change

    workspace, place = begin(store, as_json)
    show_outcome(approve_change(workspace, place, subject), f"{subject} is in effect")


@app.command()
def configure(store: Store = "", as_json: Json = False) -> None:
    """Give the store the channels and thresholds of distro/channels.toml. Example: bedplate release configure"""
    from bedplate.flows.release_admin import configure as apply

    workspace, place = begin(store, as_json)
    show_outcome(apply(workspace, place), "the store follows distro/channels.toml")


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go")] = False,
    store: Store = "",
    as_json: Json = False,
) -> None:
    """Remove what no channel needs and nobody made lately. Example: bedplate release gc --dry-run"""
    from bedplate.flows.release_admin import collect

    workspace, place = begin(store, as_json)
    found = collect(workspace, place, dry_run=dry_run)
    word = "would go" if dry_run else "removed"
    text = f"{word}: {len(found.paths)} objects, {human_bytes(found.size)}; kept: {found.kept} objects"
    STATE.output.result({"paths": list(found.paths), "bytes": found.size, "kept": found.kept}, text)


def release_text(release: Release) -> str:
    """A release in lines."""
    rows = [
        ("release", f"{release.track} {release.version}" + (f", after {release.replaces}" if release.replaces else "")),
        ("kernel", release.kernel),
        ("root hash", release.root_hash or "none"),
        *((one.kind, f"{human_bytes(one.size):>10}  {one.name}") for one in release.artefacts),
    ]
    if release.floor:
        rows.append(("floor", f"older nodes go to {release.floor} first"))
    if release.notes:
        rows.append(("notes", release.notes))
    development = sorted(role for role, signer in release.signers.items() if signer.development)
    if development:
        rows.append(("signed by", f"DEVELOPMENT keys ({', '.join(development)}): never for a release channel"))
    return "\n".join(f"{name:14} {value}" for name, value in rows)


def outcome_text(outcome: Outcome, done: str) -> str:
    """What became of a change, in words."""
    if not outcome.changed:
        return "nothing to change"
    if outcome.waiting:
        lacking = ", ".join(f"{role} lacks {count}" for role, count in sorted(outcome.missing.items()))
        return f"signed, but more signatures are needed ({lacking}): bedplate release approve {outcome.subject}"
    return done


def show_outcome(outcome: Outcome, done: str) -> None:
    """Print what became of a change."""
    value: dict[str, Any] = {**asdict(outcome), "waiting": outcome.waiting}
    STATE.output.result(value, outcome_text(outcome, done))
