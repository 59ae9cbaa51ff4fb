"""Whether what the units and log rotations of a set's packages start is in one of its packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bedplate.flows.breadth import convert_set, read_set
from bedplate.flows.definition import read_definition
from bedplate.flows.own import build_own_packages
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.facts import PackageFacts
from bedplate.packages.calls import StrayCall, is_calling, stray_calls
from bedplate.packages.rpm.reader import RpmPackage


def set_calls(workspace: Workspace, name: str) -> list[StrayCall]:
    """Calls of a set's packages that lead nowhere and that no fact explains; nothing is published.

    Raises:
        BadInput: see :func:`bedplate.flows.breadth.convert_set`.
    """
    definition = read_definition(workspace)
    wanted, where = read_set(workspace, name)
    imported = convert_set(workspace, definition, wanted, where).imported
    paths = [one.path for one in imported]
    paths += [one.path for one in build_own_packages(workspace, definition, definition.own)]
    with workspace.progress.task("read units and log rotations"):
        return unexplained((RpmPackage.open(path) for path in paths), definition.facts)


def unexplained(packages: Iterable[RpmPackage], facts: Mapping[str, PackageFacts]) -> list[StrayCall]:
    """Calls of these packages that lead nowhere, without those that the facts call absent."""
    # A link of alternatives is made on the machine.
    there = {alternative.link for fact in facts.values() for alternative in fact.alternatives}
    texts: dict[str, tuple[str, str]] = {}
    for package in packages:
        there.update(entry.path for entry in package.files)
        if any(is_calling(entry.path) for entry in package.files):
            for entry, data in package.read(is_calling):
                texts[entry.path] = (package.nevra.name, data.decode("utf-8", "replace"))
    explained = {(name, one) for name, fact in facts.items() for one in fact.absent}
    return [call for call in stray_calls(texts, there) if (call.package, call.program or call.path) not in explained]
