"""Building a track: lock, packages, tools and keys brought together, and the compose engine called."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.compose.build import BuildPlaces, build_image
from bedplate.compose.inputs import BootKeys, BuildInputs, code_digest
from bedplate.compose.owned import OwnedSet
from bedplate.compose.result import BuildResult, read_result, untouched
from bedplate.flows.cache import part
from bedplate.flows.definition import read_definition
from bedplate.flows.images import LOCK_NAME
from bedplate.flows.imports import import_locked, script_ledger
from bedplate.flows.locks import Relock, usable_locks
from bedplate.flows.own import build_own, key_store
from bedplate.flows.owned import owned_sets
from bedplate.flows.tools import prepare_tools, tools_identity
from bedplate.flows.track import TrackLock, locked_track
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.definition.track import Track
from bedplate.model.digest import identity
from bedplate.model.lock import Lock, format_lock
from bedplate.model.package import PackageContent
from bedplate.packages.importer import ImportedPackage
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.toolchain.run import Toolbox
from bedplate.trust.keys import KeyStore
from bedplate.trust.roles import Kind

_KEY_NAME = "inputs.sha256"


@dataclass(frozen=True)
class BuildOutcome:
    """A finished image: its directory and record.

    ``seconds`` are of each step of this run (those of the flow and those of the compose engine), ``reused`` says that
    nothing had changed since the image was built, ``relocked`` that the committed lock could not be had any more,
    ``development`` that development keys signed it.
    """

    directory: Path
    build: BuildResult
    seconds: dict[str, float]
    reused: bool
    relocked: bool
    development: bool


def build_track(
    workspace: Workspace, name: str, relock: Relock = Relock.NEVER, *, lock: Lock | None = None
) -> BuildOutcome:
    """Build the image of a track below ``workspace.output``, or return it when nothing has changed.

    Args:
        lock: Build from this lock instead of the definition's (an image's own, to build it again).

    Raises:
        MovedOnError: the mirrors no longer carry a locked version and ``relock`` does not allow another lock.
        BadInput: the definition, the lock or a package is wrong; a script is not accounted for; a limit is not kept.
        TrustError: a download is not what it must be.
    """
    started = time.monotonic()
    definition = read_definition(workspace)
    track = definition.track(name)
    output = workspace.output / name
    keys = key_store(workspace, definition)
    sets = owned_sets(workspace, track)
    known = _finished(workspace, definition, track, sets, keys, output, lock)
    if known is not None:
        result, relocked = known
        return _outcome(output, replace(result, reused=True), keys, relocked, {"total": time.monotonic() - started})
    seconds: dict[str, float] = {}
    clock = _Laps(seconds)
    toolbox = prepare_tools(workspace, "tools", relock)
    clock.lap("tools")
    chosen = TrackLock(lock, output / LOCK_NAME, True) if lock else locked_track(workspace, definition, name, relock)
    clock.lap("download")
    imported = import_locked(workspace, definition, chosen.lock)
    clock.lap("import")
    owned = frozenset(entry.path for one in sets for entry in one.files)
    script_ledger(workspace, definition, imported, owned).require()
    clock.lap("scripts")
    inputs = BuildInputs(
        distro=definition.distro,
        track=track,
        ids=definition.ids,
        facts=definition.facts,
        sets=sets,
        packages=_contents(workspace, definition, chosen.lock, imported),
        version=definition.distro.version,
        keys=_boot_keys(keys, toolbox),
        tools=tools_identity(toolbox),
    )
    clock.lap("open packages")
    beside = {
        LOCK_NAME: format_lock(chosen.lock).encode(),
        _KEY_NAME: _key(workspace, definition, track, sets, keys, chosen.lock).encode(),
    }
    places = BuildPlaces(part(workspace, "compose"), output)
    result = build_image(inputs, places, toolbox, workspace.progress, workspace.jobs, beside)
    seconds.update(result.seconds if not result.reused else {})
    seconds["total"] = time.monotonic() - started
    return _outcome(output, result, keys, not chosen.committed, seconds)


class _Laps:
    """Seconds since the last lap, by name."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._seconds[name] = now - self._last
        self._last = now


def _outcome(
    output: Path, result: BuildResult, keys: KeyStore, relocked: bool, seconds: dict[str, float]
) -> BuildOutcome:
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    development = any(keys.ensure(role).kind is Kind.DEVELOPMENT for role in ("boot", "pcr"))
    return BuildOutcome(output, result, rounded, result.reused, relocked, development)


def _finished(
    workspace: Workspace,
    definition: DefinitionSet,
    track: Track,
    sets: Sequence[OwnedSet],
    keys: KeyStore,
    output: Path,
    lock: Lock | None,
) -> tuple[BuildResult, bool] | None:
    """The image that is there, when all its inputs are the same: told from digests, without opening a package."""
    result = read_result(output)
    recorded = output / _KEY_NAME
    if result is None or not recorded.is_file() or not untouched(result):
        return None
    text = recorded.read_text()
    if lock is not None:
        return (result, False) if text == _key(workspace, definition, track, sets, keys, lock) else None
    digest = definition.resolution_digest(track)
    for number, (_, usable) in enumerate(usable_locks(workspace, track.id, track=track.id, definition=digest)):
        if text == _key(workspace, definition, track, sets, keys, usable):
            return result, number > 0
    return None


def _key(
    workspace: Workspace,
    definition: DefinitionSet,
    track: Track,
    sets: Sequence[OwnedSet],
    keys: KeyStore,
    lock: Lock,
) -> str:
    facts = [fact.model_dump(mode="json") for _, fact in sorted(definition.facts.items())]
    own = [package.model_dump(mode="json") for _, package in sorted(definition.own.items())]
    parts = [
        format_lock(lock),
        definition.distro.model_dump(mode="json"),
        track.model_dump(mode="json"),
        definition.ids.model_dump(mode="json"),
        facts,
        own,
        [owned.digest for owned in sets],
        keys.public_digests(),
        definition.tool_set("tools").model_dump(mode="json"),
        code_digest(),
    ]
    return identity(parts)


def _contents(
    workspace: Workspace, definition: DefinitionSet, lock: Lock, imported: Sequence[ImportedPackage]
) -> list[PackageContent]:
    paths = [one.path for one in imported] + [one.path for one in build_own(workspace, definition, lock)]
    return [RpmPackage.open(path) for path in paths]


def _boot_keys(keys: KeyStore, toolbox: Toolbox) -> BootKeys:
    private, certificate = keys.boot_key_paths()
    pcr_public = keys.pcr_key_paths()[1]

    def sign_efi(source: Path, target: Path) -> None:
        toolbox.run("sbsign", "--key", private, "--cert", certificate, "--output", target, source)

    return BootKeys(
        pcr_public_key=pcr_public.read_bytes(),
        boot_certificate=certificate.read_bytes(),
        pcr_sign=keys.signer("pcr").sign,
        sign_efi=sign_efi,
    )
