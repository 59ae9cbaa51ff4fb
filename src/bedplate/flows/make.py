"""Making an image: lock, packages, tools and keys brought together, and the compose engine called."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bedplate.compose.build import BuildPlaces, build_image
from bedplate.compose.inputs import BootKeys, BuildInputs
from bedplate.compose.kernels import flavour_of
from bedplate.compose.owned import OwnedSet
from bedplate.compose.result import BuildResult
from bedplate.flows.cache import part
from bedplate.flows.finished import KEY_NAME, Question
from bedplate.flows.images import LOCK_NAME
from bedplate.flows.imports import import_locked, script_ledger
from bedplate.flows.kernels import kernel_packages
from bedplate.flows.locks import Relock
from bedplate.flows.own import build_own
from bedplate.flows.tools import prepare_tools, tools_identity
from bedplate.flows.track import TrackLock, locked_track
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.facts import accounts_of
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.definition.track import Track
from bedplate.model.lock import Lock, format_lock
from bedplate.packages.importer import ImportedPackage
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpmdb import make_rpmdb
from bedplate.toolchain.run import Toolbox
from bedplate.trust.keys import KeyStore
from bedplate.trust.sign_efi import sign_efi as attach_signature


def make_image(wanted: Question, relock: Relock) -> tuple[BuildResult, bool, dict[str, float]]:
    """Build the image; gives its record, whether another lock than the committed one was made, and seconds by step."""
    workspace, definition, track, sets = wanted.workspace, wanted.definition, wanted.track, wanted.sets
    seconds: dict[str, float] = {}
    clock = _Laps(seconds)
    toolbox = prepare_tools(workspace, "tools", relock)
    clock.lap("tools")
    if wanted.lock is not None:
        chosen = TrackLock(wanted.lock, wanted.output / LOCK_NAME, committed=True)
    else:
        chosen = locked_track(workspace, definition, track.id, relock)
    clock.lap("download")
    imported = import_locked(workspace, definition, chosen.lock)
    clock.lap("import")
    owned = frozenset(entry.path for one in sets for entry in one.files)
    script_ledger(workspace, definition, imported, owned).require()
    clock.lap("scripts")
    packages = opened_packages(workspace, definition, chosen.lock, imported)
    inputs = image_inputs(definition, track, sets, packages, wanted.keys, toolbox, wanted.image_version)
    packages += kernel_packages(workspace, inputs, wanted.keys, _own_kernel(track, packages))
    inputs = replace(
        inputs, packages=packages, package_database=_DATABASES[track.package_database](toolbox, track, packages)
    )
    clock.lap("open packages")
    beside = {LOCK_NAME: format_lock(chosen.lock).encode(), KEY_NAME: wanted.key(chosen.lock).encode()}
    places = BuildPlaces(part(workspace, "compose"), wanted.output)
    result = build_image(inputs, places, toolbox, workspace.progress, workspace.jobs, beside)
    seconds.update(result.seconds if not result.reused else {})
    return result, not chosen.committed, seconds


def image_inputs(
    definition: DefinitionSet,
    track: Track,
    sets: Sequence[OwnedSet],
    packages: Sequence[RpmPackage],
    keys: KeyStore,
    toolbox: Toolbox,
    version: str,
) -> BuildInputs:
    """What an image of ``track`` out of ``packages`` depends on; without a database of its packages."""
    return BuildInputs(
        distro=definition.distro,
        track=track,
        ids=accounts_of(definition.ids, definition.facts, {one.nevra.name for one in packages}),
        facts=definition.facts,
        sets=sets,
        packages=packages,
        version=version,
        keys=_boot_keys(keys, toolbox),
        tools=tools_identity(toolbox),
    )


def _own_kernel(track: Track, packages: Sequence[RpmPackage]) -> list[RpmPackage]:
    return [one for one in packages if flavour_of(track.kernel, one.nevra.name) == track.kernel.flavour]


def _no_database(toolbox: Toolbox, track: Track, packages: Sequence[RpmPackage]) -> None:
    return None


def _rpm_database(toolbox: Toolbox, track: Track, packages: Sequence[RpmPackage]) -> Callable[[Sequence[str]], bytes]:
    paths = [package.path for package in packages if package.nevra.name not in track.boot_packages]
    return partial(make_rpmdb, toolbox, paths)


_DATABASES: Mapping[str, Callable[..., Callable[[Sequence[str]], bytes] | None]] = {
    "none": _no_database,
    "rpm": _rpm_database,
}


class _Laps:
    """Seconds since the last lap, by name."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._seconds[name] = now - self._last
        self._last = now


def opened_packages(
    workspace: Workspace, definition: DefinitionSet, lock: Lock, imported: Sequence[ImportedPackage]
) -> list[RpmPackage]:
    """All packages of a lock: those that were imported, and our own."""
    paths = [one.path for one in imported] + [one.path for one in build_own(workspace, definition, lock)]
    return [RpmPackage.open(path) for path in paths]


def _boot_keys(keys: KeyStore, toolbox: Toolbox) -> BootKeys:
    certificate = keys.boot_key_paths()[1]
    pcr_public = keys.pcr_key_paths()[1]
    boot = keys.signer("boot")

    def sign_efi(source: Path, target: Path) -> None:
        if boot.key_file is not None:
            toolbox.run("sbsign", "--key", boot.key_file, "--cert", certificate, "--output", target, source)
        else:
            target.write_bytes(attach_signature(source.read_bytes(), boot.public, boot.sign, str(source)))

    return BootKeys(
        pcr_public_key=pcr_public.read_bytes(),
        boot_certificate=certificate.read_bytes(),
        pcr_sign=keys.signer("pcr").sign,
        sign_efi=sign_efi,
    )
