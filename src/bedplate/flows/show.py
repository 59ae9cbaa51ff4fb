"""Answers about the packages of a track."""

from __future__ import annotations

from typing import Any

from bedplate.flows.definition import read_definition
from bedplate.flows.imports import import_locked, script_ledger
from bedplate.flows.locks import committed_path, read_lock_file
from bedplate.flows.owned import owned_paths
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput
from bedplate.model.lock import Lock
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.scripts.ledger import Ledger


def track_ledger(workspace: Workspace, name: str) -> Ledger:
    """The script ledger of all packages a track's lock names."""
    definition = read_definition(workspace)
    lock = read_lock_file(committed_path(workspace, name))
    imported = import_locked(workspace, definition, lock)
    return script_ledger(workspace, definition, imported, owned_paths(workspace, definition.track(name)))


def describe_package(workspace: Workspace, track: str, name: str) -> dict[str, Any]:
    """Header, relations, files and origin of one locked package, JSON-ready.

    Raises:
        BadInput: the lock does not hold it.
    """
    definition = read_definition(workspace)
    lock = read_lock_file(committed_path(workspace, track))
    locked = lock.by_name().get(name)
    if locked is None or locked.location is None:
        raise BadInput(f"no imported package {name!r} in the lock of {track}", remedy="see: bedplate packages list")
    alone = Lock(lock.track, lock.definition, (locked,), lock.indexes)
    (imported,) = import_locked(workspace, definition, alone)
    package = RpmPackage.open(imported.path)
    return {
        "name": package.nevra.name,
        "evr": str(package.nevra.evr),
        "arch": package.nevra.arch,
        "source": str(package.source),
        "suite": locked.suite,
        "why": locked.why,
        "upstream": locked.location.path,
        "upstream_sha256": locked.location.sha256,
        "rpm_sha256": imported.rpm_sha256,
        "rpm": str(imported.path),
        "requires": list(package.requires),
        "provides": list(package.provides),
        "conflicts": list(package.conflicts),
        "files": [f"{entry.mode:04o} {entry.user}:{entry.group} {entry.path}" for entry in package.files],
    }
