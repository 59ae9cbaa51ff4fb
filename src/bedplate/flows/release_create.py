"""A release from a finished build: what is in the image is read from the image, and the artefacts go to the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from bedplate.compose.bootchain import UKI
from bedplate.compose.build import DISK
from bedplate.compose.result import BuildResult, untouched
from bedplate.compose.verity import BLOCK, VeritySuperblock, tree_of
from bedplate.flows.cache import part
from bedplate.flows.definition import read_definition
from bedplate.flows.images import LOCK_NAME, FoundImage, find_image
from bedplate.flows.inspect import inspect_image
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock, read_lock_file
from bedplate.flows.release_facts import FACTS, image_facts
from bedplate.flows.release_store import StorePlace, clock, initialise, store_signers
from bedplate.flows.repository import state_store
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.digest import canonical_json, sha256
from bedplate.model.errors import BadInput, TrustError
from bedplate.model.lock import Lock
from bedplate.model.pe import parse_pe
from bedplate.model.release import ArtefactKind, Release, SignedBy
from bedplate.model.version import compare_versions, require_version, version_key
from bedplate.packages.atomic import caching
from bedplate.packages.states import State
from bedplate.release.create import Names, Part, create
from bedplate.toolchain.run import Toolbox, ToolError
from bedplate.trust.authenticode import signatures
from bedplate.trust.keys import KeyStore
from bedplate.trust.roles import Kind

_DAY = 86400
ROOT, VERITY = "root.erofs", "root.verity"


@dataclass(frozen=True)
class Terms:
    """What a person decides about a release.

    ``floor`` is the lowest version from which nodes may go to it directly, ``notes`` what an operator must know,
    ``days`` until it expires (None: the definition's), ``disk`` False leaves out the whole disk's image, ``state``
    names the repository state that machines which follow releases move to (empty: none).
    """

    floor: str = ""
    notes: str = ""
    days: float | None = None
    disk: bool = True
    state: str = ""


def create_releases(
    workspace: Workspace, place: StorePlace, builds: Sequence[str], terms: Terms, relock: Relock = Relock.NEVER
) -> list[Release]:
    """Make a release of each build (a track's newest, or a build's directory); all must have one version.

    A store that is not there yet is made.

    Raises:
        BadInput: no finished build, one that was changed since, versions that differ, or a version that exists.
        TrustError: the UKI is not signed by a key of this key store.
    """
    found = [_finished(workspace, name) for name in builds]
    versions = {build.version for _, build in found}
    tracks = [build.track for _, build in found]
    if len(versions) != 1 or len(set(tracks)) != len(tracks):
        raise BadInput(
            "a release has one version, and one build of each track",
            details=[f"{build.track} {build.version}" for _, build in found],
            remedy="build the tracks with the same --image-version",
        )
    require_version(versions.pop(), "IMAGE_VERSION")
    initialise(workspace, place)
    toolbox = prepare_tools(workspace, "tools", relock)
    return [_create(workspace, place, image, build, terms, toolbox) for image, build in found]


def _create(
    workspace: Workspace, place: StorePlace, image: FoundImage, build: BuildResult, terms: Terms, toolbox: Toolbox
) -> Release:
    definition = read_definition(workspace)
    keys, now = key_store(workspace, definition), clock()
    with workspace.progress.task("look"):
        inspection = inspect_image(image)
    lock_bytes = build.path(LOCK_NAME).read_bytes()
    lock = read_lock_file(build.path(LOCK_NAME))
    image_id = inspection.uki.os_release.get("IMAGE_ID", "") if inspection.uki else ""
    if not image_id:
        raise BadInput("the image does not say who it is (IMAGE_ID)", where=str(image.disk))
    days = definition.channels.expiry.release if terms.days is None else terms.days
    draft = Release(
        track=build.track,
        version=build.version,
        image=image_id,
        created=now,
        expires=now + int(days * _DAY),
        artefacts=(),
        root_hash=build.root_hash,
        command_line=build.command_line,
        kernel=inspection.uki.kernel_version if inspection.uki else "",
        pcr11=dict(build.pcr11),
        build=build.identity,
        lock_sha256=sha256(lock_bytes),
        replaces=_previous(place, build.track, build.version),
        floor=require_version(terms.floor, "--floor") if terms.floor else "",
        notes=terms.notes,
        signers=_signers(keys, build),
    )
    _check_floor(draft)
    names = Names(image_id, build.version, build.root_hash)
    digests = {artefact.name: artefact.sha256 for artefact in build.artefacts}
    press = _Press(part(workspace, "releases"), toolbox)
    parts: list[Part] = []
    if build.root_hash:
        # What stock systemd-sysupdate fetches: only a verified root has slots to update.
        root, verity, uki = (build.path(file) for file in (ROOT, VERITY, UKI))
        parts += [
            # Not compressed: ranges of it are fetched by nodes that have the rest.
            Part(ArtefactKind.ROOT, names.root, root, digests[ROOT], update=True),
            Part(ArtefactKind.VERITY, names.verity, verity, digests[VERITY], update=True),
            Part(ArtefactKind.UKI, names.uki, uki, digests[UKI], update=True),
            Part(ArtefactKind.UKI_TREE, names.uki_tree, _uki_tree(uki, verity), update=True),
        ]
    if terms.state:
        snapshot = _snapshot(workspace, definition, lock, draft, terms)
        parts.append(Part(ArtefactKind.SNAPSHOT, names.other("snapshot"), snapshot, update=True))
    if terms.disk:
        parts.append(Part(ArtefactKind.DISK, names.disk, build.path(DISK), digests[DISK], press.of(digests[DISK])))
    facts = image_facts(inspection, definition.track(build.track), lock, build)
    parts += [
        Part(ArtefactKind.LOCK, names.other("lock.toml"), lock_bytes),
        Part(ArtefactKind.FACTS, names.other(FACTS), canonical_json(facts)),
    ]
    with workspace.progress.task("store"):
        return create(place.objects, draft, parts, keys.signer("update").sign, store_signers(keys, ["release"]))


def _uki_tree(uki: Path, verity: Path) -> bytes:
    """Block hashes of the UKI under the root's salt: by them a node finds what it has (docs/updates.md)."""
    with verity.open("rb") as stream:
        salt = bytes.fromhex(VeritySuperblock.unpack(stream.read(BLOCK)).salt)
    return tree_of(uki.read_bytes(), salt, UUID(int=0))


def _snapshot(workspace: Workspace, definition: DefinitionSet, lock: Lock, draft: Release, terms: Terms) -> bytes:
    """Which state of the repository the release stands for."""
    state = state_store(workspace, definition).find(terms.state)
    return canonical_json(snapshot_of(state, lock, draft, definition.distro.stream))


def snapshot_of(state: State, lock: Lock, release: Release, stream: str) -> dict[str, Any]:
    """A repository state as what machines of a release move to; ``bedplate-follow`` on the node reads it.

    Raises:
        BadInput: the state lacks packages of the image: a machine that follows and a new one would not be the same.
    """
    newest = {name: held.nevra for name, held in state.newest().items()}
    wrong = [str(one.nevra) for one in lock.packages if newest.get(one.nevra.name) != one.nevra]
    if wrong:
        raise BadInput(
            f"{len(wrong)} packages of the image are not the newest of repository state {state.id}",
            where="--state",
            details=wrong[:10],
            remedy=f"publish what the image holds: bedplate packages import --track {release.track}",
        )
    return {
        "format": 1,
        "track": release.track,
        "version": release.version,
        "expires": release.expires,
        "stream": stream,
        "state": state.id,
        "repomd_sha256": state.repomd_sha256,
    }


def _finished(workspace: Workspace, name: str) -> tuple[FoundImage, BuildResult]:
    image = find_image(workspace, name)
    if image.build is None or image.lock is None:
        raise BadInput(
            "a release is made from a finished build with its lock beside it",
            where=name,
            remedy="bedplate build TRACK --image-version VERSION",
        )
    if not untouched(image.build):
        raise BadInput(
            "files of this build were changed after it was finished",
            where=str(image.build.directory),
            remedy="build it again: bedplate build TRACK",
        )
    return image, image.build


def _previous(place: StorePlace, track: str, version: str) -> str:
    """The newest older version that was created in this store."""
    names = [info.path.split("/")[-1].removesuffix(".json") for info in place.objects.list(f"releases/{track}")]
    older = [name for name in names if compare_versions(name, version) < 0]
    return max(older, key=version_key, default="")


def _check_floor(draft: Release) -> None:
    if draft.floor and compare_versions(draft.floor, draft.version) > 0:
        raise BadInput(f"the floor {draft.floor} is above the release {draft.version}", where="--floor")


def _signers(keys: KeyStore, build: BuildResult) -> dict[str, SignedBy]:
    """Whose keys vouch for the build, read from what was built wherever it says so."""
    known = {(info.role, info.fingerprint): info for info in keys.list()}
    program = parse_pe(build.path(UKI).read_bytes(), str(build.path(UKI)))
    boot = next((s for s in signatures(program) if s.valid and ("boot", s.fingerprint) in known), None)
    if boot is None:
        raise TrustError(
            "the UKI is not signed by a boot key of this key store",
            where=str(build.path(UKI)),
            remedy="build it with the keys in use: bedplate build TRACK",
        )
    found = {"boot": SignedBy(boot.fingerprint, boot.development)}
    policy_key = program.text(".pcrpkey").strip()
    for info in keys.list():
        if info.role == "pcr" and (info.directory / "public.pem").read_text().strip() == policy_key:
            found["pcr"] = SignedBy(info.fingerprint.lower(), info.kind is Kind.DEVELOPMENT)
    if "pcr" not in found:
        raise TrustError("made with a PCR key that is not in this key store", where=str(build.path(UKI)))
    for role in ("packages", "update"):
        info = keys.ensure(role)
        found[role] = SignedBy(info.fingerprint.lower(), info.kind is Kind.DEVELOPMENT)
    return found


class _Press:
    """Compresses with gzip of the tools tree, whose bytes are the same everywhere; what it made is kept by digest."""

    def __init__(self, cache: Path, toolbox: Toolbox) -> None:
        self.cache = cache
        self.toolbox = toolbox

    def of(self, digest: str) -> Callable[[Path], Path]:
        """A compressor for the file with a digest."""
        return lambda source: self._press(source, self.cache / f"{digest}.gz")

    def _press(self, source: Path, target: Path) -> Path:
        if not target.is_file():
            with caching(target) as stream:
                process = self.toolbox.start("gzip", "-6", "-n", "-c", source, stdout=stream)
                error = process.communicate()[1].decode(errors="replace")
                if process.returncode:
                    raise ToolError("gzip", ["gzip", "-6", "-n", "-c", str(source)], process.returncode, error)
        return target
