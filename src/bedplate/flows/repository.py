"""Our packages signed and published as an rpm-md repository, every state of which is kept."""

from __future__ import annotations

import gzip
import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bedplate.flows.advisories import advisories_for
from bedplate.flows.cache import part
from bedplate.flows.definition import read_definition
from bedplate.flows.imports import import_locked
from bedplate.flows.keys import key_store
from bedplate.flows.locks import Relock
from bedplate.flows.own import build_own_packages
from bedplate.flows.track import locked_track
from bedplate.flows.workspace import Workspace
from bedplate.model.advisory import Advisory
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.digest import identity, sha256
from bedplate.model.errors import BadInput
from bedplate.model.package import Nevra
from bedplate.packages.atomic import caching
from bedplate.packages.repository import Repository, RepositoryPackage, write_repository
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.sign import sign_rpms
from bedplate.packages.rpm.tags import Tag
from bedplate.packages.states import HeldPackage, State, StateStore, merged
from bedplate.packages.updateinfo import merged_advisories, read_updateinfo, write_updateinfo
from bedplate.trust.roles import Kind

KEPT_VERSIONS = 3
"""Versions of one package that a repository holds: the newest, and older ones to go back to."""

ARCHITECTURE = "x86_64"


@dataclass(frozen=True)
class Finished:
    """A finished package on its way into the repository: our unsigned RPM, its digest, and who asked for it."""

    nevra: Nevra
    path: Path
    rpm_sha256: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportResult:
    """What an import did: the repository, the state it is in now, and what was brought in."""

    repository: Repository
    state: State
    packages: tuple[Nevra, ...]


def import_track(workspace: Workspace, name: str, relock: Relock = Relock.NEVER) -> ImportResult:
    """Import everything a track's lock names, sign it, and publish it in the repository."""
    definition = read_definition(workspace)
    lock = locked_track(workspace, definition, name, relock).lock
    why = {locked.nevra: (*locked.why.split(" > "),) for locked in lock.packages}
    imported = import_locked(workspace, definition, lock)
    finished = [Finished(one.nevra, one.path, one.rpm_sha256, why.get(one.nevra, ())) for one in imported]
    names = [locked.nevra.name for locked in lock.packages if locked.location is None]
    finished += own_finished(workspace, definition, names)
    advisories = advisories_for(workspace, definition, imported)
    finished += finished_kernels(workspace, definition, finished, relock)
    return publish(workspace, definition, finished, comment=f"track {name}", advisories=advisories)


def own_finished(workspace: Workspace, definition: DefinitionSet, names: Iterable[str]) -> list[Finished]:
    """Packages made from the definition, ready to be published."""
    return [
        Finished(one.nevra, one.path, one.rpm_sha256, (one.nevra.name,))
        for one in build_own_packages(workspace, definition, names)
    ]


def repository_root(workspace: Workspace) -> Path:
    """The directory a web server serves: dnf's address of the repository leads to it."""
    return part(workspace, "repository")


def finished_kernels(
    workspace: Workspace, definition: DefinitionSet, finished: Sequence[Finished], relock: Relock = Relock.NEVER
) -> list[Finished]:
    """For each kernel among ``finished`` the packages with its signed image, ready to be published.

    Raises:
        BadInput: the repository holds another package of that name, version and release, and release keys signed it:
            machines that have it would never take this one.
    """
    from bedplate.flows.kernel_imports import kernels_among  # heavy, and not needed where no kernel is among them

    made = kernels_among(workspace, definition, [(one.nevra, one.path) for one in finished], relock)
    state = state_store(workspace, definition).current()
    known = {one.nevra: one.sha256 for one in (state.packages if state else ())}
    changed = [str(one.nevra) for one in made if known.get(one.nevra, one.digest) != one.digest]
    if changed:
        cause = "kernel images changed although their version and release did not"
        remedy = "raise kernel.revision of the track, so that machines take the new ones"
        if key_store(workspace, definition).ensure("packages").kind is not Kind.DEVELOPMENT:
            raise BadInput(cause, where="the repository", details=changed, remedy=remedy)
        workspace.progress.say(f"{cause}: {', '.join(changed)}; {remedy}")
    return [Finished(one.nevra, one.path, one.digest, (one.nevra.name,)) for one in made]


def state_store(workspace: Workspace, definition: DefinitionSet) -> StateStore:
    """The states of the repository of the definition's stream."""
    return StateStore(repository_root(workspace), f"{definition.distro.stream}/{ARCHITECTURE}")


def publish(
    workspace: Workspace,
    definition: DefinitionSet,
    finished: Sequence[Finished],
    *,
    comment: str,
    extra: Mapping[str, bytes] | None = None,
    advisories: Sequence[Advisory] = (),
) -> ImportResult:
    """Sign what is ``finished``, add it to what the repository holds, write its metadata and keep the state.

    Of each name the :data:`KEPT_VERSIONS` highest versions are kept. Metadata of types in ``extra`` (``group``) takes
    the place of that of the state before, other types stay. ``advisories`` are added to those published before.
    """
    store = state_store(workspace, definition)
    before = store.current()
    keys = key_store(workspace, definition)
    signer = keys.signer("packages")
    # A signature depends on the key: another key's packages lie elsewhere.
    signed = part(workspace, "signed") / keys.ensure("packages").fingerprint[:16]
    signed.mkdir(parents=True, exist_ok=True)
    work = {one.rpm_sha256: (one.path, signed / f"{one.rpm_sha256}.rpm") for one in finished}
    missing = [(source, target) for source, target in work.values() if not target.exists()]
    if missing:
        with workspace.progress.task("sign", len(missing), "packages") as task:
            task.advance(len(sign_rpms(missing, signer, workspace.jobs)))
    known = {(one.sha256, one.location): one for one in (before.packages if before else ())}
    with ThreadPoolExecutor(workspace.jobs) as pool:
        fresh = list(pool.map(partial(_held, signed, known), finished))
    held, _ = merged(before.packages if before else (), fresh, KEPT_VERSIONS)
    packages = []
    for one in held:
        source = signed / f"{one.sha256}.rpm"
        target = store.served / one.location
        # A package of an earlier state may be signed by a key that is no more: it is served as it was.
        if source.exists():
            _link(source, target)
        packages.append(RepositoryPackage(target, one.location, _served_sha256(source if source.exists() else target)))
    kept = {**_other_metadata(store.served), **(extra or {})}
    said = read_updateinfo(kept.pop("updateinfo")) if "updateinfo" in kept else []
    told = merged_advisories(said, advisories, (one.name for one in held))
    if told:
        kept["updateinfo"] = updateinfo(definition, told)
    repository, state = _write(workspace, definition, packages, held, kept, comment)
    return ImportResult(repository, state, tuple(one.nevra for one in finished))


def _write(
    workspace: Workspace,
    definition: DefinitionSet,
    packages: Sequence[RepositoryPackage],
    held: Sequence[HeldPackage],
    extra: Mapping[str, bytes],
    comment: str,
) -> tuple[Repository, State]:
    """Write and sign the metadata, and keep the state. The revision grows with every change, and never without one: a
    machine refuses a revision lower than it has seen."""
    store = state_store(workspace, definition)
    before = store.current()
    content = identity(
        {
            "packages": {one.location: one.sha256 for one in packages},
            "metadata": {kind: sha256(data) for kind, data in extra.items()},
        }
    )
    if before is not None and before.content == content:
        created = before.created
    else:
        created = max(int(time.time()), before.created + 1 if before is not None else 0)
    repository = write_repository(
        store.served,
        packages,
        revision=created,
        cache=part(workspace, "descriptions") / "rpm-md",
        signer=key_store(workspace, definition).signer("packages"),
        extra=extra,
    )
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(created))
    name = f"{stamp}-{repository.repomd_sha256[:12]}"
    state = State(name, created, repository.repomd_sha256, tuple(held), comment, content)
    return repository, store.keep(state)


def updateinfo(definition: DefinitionSet, advisories: Iterable[Advisory]) -> bytes:
    """Advisories in the form dnf reads, said by the distribution of its stream."""
    distro = definition.distro
    return write_updateinfo(advisories, distro.id, f"{distro.name} {distro.stream}")


def restore(workspace: Workspace, wanted: str) -> State:
    """Serve what a kept state held again, as a new state: machines refuse a repository that went back in time.

    Raises:
        BadInput: no such state is kept.
    """
    definition = read_definition(workspace)
    store = state_store(workspace, definition)
    state = store.find(wanted)
    current = store.current()
    if current is not None and state.id == current.id:
        return state
    store.bring_back(state)
    places = [(store.served / one.location, one.location) for one in state.packages]
    packages = [RepositoryPackage(path, location, _served_sha256(path)) for path, location in places]
    kept = _other_metadata(store.place(state))
    return _write(workspace, definition, packages, state.packages, kept, f"what {state.id} held")[1]


def _held(signed: Path, known: Mapping[tuple[str, str], HeldPackage], one: Finished) -> HeldPackage:
    location = f"Packages/{one.nevra.name[0]}/{one.nevra.filename}"
    before = known.get((one.rpm_sha256, location))
    if before is not None:
        return replace(before, why=one.why or before.why)
    path = signed / f"{one.rpm_sha256}.rpm"
    package = RpmPackage.open(path)
    return HeldPackage(
        name=one.nevra.name,
        evr=str(one.nevra.evr),
        arch=one.nevra.arch,
        source=str(package.source),
        summary=package.header.text(Tag.SUMMARY),
        sha256=one.rpm_sha256,
        location=location,
        size=path.stat().st_size,
        why=one.why,
        requires=package.requires,
        provides=package.provides,
    )


def _served_sha256(path: Path) -> str:
    """The digest of a signed file, kept beside it under its size and time: files of this cache are never changed."""
    status = path.stat()
    record = path.with_name(f".{path.name}.sha256")
    mark = f"{status.st_size} {status.st_mtime_ns}"
    try:
        digest, size, time_ns = record.read_text().split()
        if f"{size} {time_ns}" == mark:
            return digest
    except (FileNotFoundError, ValueError):
        pass
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    with caching(record) as stream:
        stream.write(f"{digest} {mark}\n".encode())
    return digest


def _other_metadata(served: Path) -> dict[str, bytes]:
    """What the repository's metadata holds besides the three kinds that are written anew, by type."""
    repomd = served / "repodata" / "repomd.xml"
    if not repomd.exists():
        return {}
    found: dict[str, bytes] = {}
    # Our own file: written by this program, in this form.
    for kind, href in re.findall(r'<data type="(\w+)">.*?<location href="([^"]+)"/>', repomd.read_text(), re.S):
        if kind not in ("primary", "filelists", "other"):
            found[kind] = gzip.decompress((served / href).read_bytes())
    return found


def _link(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{time.monotonic_ns()}")
    temporary.hardlink_to(source)
    temporary.rename(target)
