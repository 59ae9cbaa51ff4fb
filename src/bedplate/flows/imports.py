"""From a lock to our packages: download what it names, import it, account for its scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from bedplate.flows.cache import content_store, part
from bedplate.flows.upstream import all_drop_rules, find_all_mirrors
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.errors import BadInput
from bedplate.model.lock import Lock
from bedplate.model.package import Location, UpstreamPackage
from bedplate.packages.formats import FORMATS
from bedplate.packages.importer import ExecutorFactory, ImportedPackage, ImportRules, import_packages, require_no_errors
from bedplate.packages.own import owned_directories
from bedplate.packages.scripts.ledger import Ledger, PackageScripts, account
from bedplate.packages.scripts.store import ClassificationStore
from bedplate.toolchain.workers import worker_pool
from bedplate.upstream.download import Wanted, fetch
from bedplate.upstream.store import ContentStore


def import_rules(definition: DefinitionSet) -> ImportRules:
    """The definition's part of an import."""
    rules = all_drop_rules(definition)
    return ImportRules(definition.facts, definition.ids, rules, owned_directories(definition.own.values()))


def download(workspace: Workspace, definition: DefinitionSet, wanted: Iterable[Wanted]) -> ContentStore:
    """Bring files into the content store and give the store; what is there costs nothing.

    Raises:
        MovedOnError: the mirrors no longer carry some of them.
    """
    store = content_store(workspace)
    missing = [one for one in wanted if not store.has(one.location.sha256, one.location.size)]
    if missing:
        fetch(missing, store, find_all_mirrors(workspace, definition), progress=workspace.progress)
    return store


def import_locked(workspace: Workspace, definition: DefinitionSet, lock: Lock) -> list[ImportedPackage]:
    """Our package of every upstream package of a lock, in the lock's order.

    Raises:
        MovedOnError: the mirrors no longer carry a locked version.
        BadInput: a package is damaged, holds a surprise, or imports to other bytes than the lock says.
    """
    located = [(locked, locked.location) for locked in lock.packages if locked.location is not None]
    wanted = [Wanted(location, locked.suite, str(locked.nevra)) for locked, location in located]
    store = download(workspace, definition, wanted)
    described = [_describe(workspace, store, place, one.format, one.suite) for one, place in located]
    imported = import_files(workspace, definition, described, store)
    for (locked, _), done in zip(located, imported, strict=True):
        if locked.rpm_sha256 and done.rpm_sha256 != locked.rpm_sha256:
            raise BadInput(
                f"{done.nevra} imports to {done.rpm_sha256[:16]}…, the lock says {locked.rpm_sha256[:16]}…",
                where=f"lock of {lock.track}",
                remedy=f"the importer or the package's facts have changed: bedplate lock {lock.track}",
            )
    return imported


def import_files(
    workspace: Workspace,
    definition: DefinitionSet,
    packages: Sequence[UpstreamPackage],
    store: ContentStore,
    executor_factory: ExecutorFactory = worker_pool,
) -> list[ImportedPackage]:
    """Import upstream packages whose files are in the store; a surprise in one of them stops.

    Raises:
        BadInput: a package is damaged or holds a surprise (an undeclared set-id file, an unknown user).
    """
    imported = import_packages(
        [(package, store.path(package.location.sha256)) for package in packages],
        import_rules(definition),
        part(workspace, "rpms"),
        jobs=workspace.jobs,
        progress=workspace.progress,
        executor_factory=executor_factory,
    )
    require_no_errors(imported)
    return imported


def describe_files(
    workspace: Workspace, store: ContentStore, packages: Iterable[UpstreamPackage]
) -> list[UpstreamPackage]:
    """The packages as their own files describe them: what an import is made from, whatever index named them."""
    return [_describe(workspace, store, one.location, one.format, one.suite) for one in packages]


def script_ledger(
    workspace: Workspace, definition: DefinitionSet, imported: Sequence[ImportedPackage], owned: Iterable[str] = ()
) -> Ledger:
    """The account of every script of the imported packages."""
    scripts = [PackageScripts(one.nevra.name, one.scripts) for one in imported if one.scripts]
    store = ClassificationStore(part(workspace, "descriptions"))
    return account(scripts, definition.facts, definition.ids, frozenset(owned), store)


def _describe(
    workspace: Workspace, store: ContentStore, location: Location, package_format: str, suite: str
) -> UpstreamPackage:
    """Kept by the file's digest: reading a package's control data again tells nothing new."""
    record = part(workspace, "descriptions") / f"{location.sha256}.json"
    known = _read_description(record, location, suite)
    if known is not None:
        return known
    package = FORMATS[package_format].describe(store.path(location.sha256), location, suite)
    body = {key: value for key, value in asdict(package).items() if key not in ("location", "suite")}
    temporary = record.with_suffix(f".{id(package):x}")
    temporary.write_text(json.dumps(body))
    temporary.rename(record)
    return package


def _read_description(record: Path, location: Location, suite: str) -> UpstreamPackage | None:
    try:
        body = json.loads(record.read_text())
        body["fields"] = {key: tuple(texts) for key, texts in body["fields"].items()}
        return UpstreamPackage(location=location, suite=suite, **body)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not there, or damaged: it is made again from the file
