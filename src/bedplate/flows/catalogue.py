"""Answers about the packages the repository holds: what a maintainer asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bedplate.flows.definition import read_definition
from bedplate.flows.repository import state_store
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.errors import BadInput
from bedplate.model.package import FileEntry
from bedplate.model.relation import relation_names
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.rpm.tags import Tag
from bedplate.packages.states import Change, HeldPackage, State, StateSummary, compare


@dataclass(frozen=True)
class Reason:
    """Why a package is in the repository: the chain from what was asked for, and the packages that require it directly,
    each with the requirements it meets."""

    package: HeldPackage
    chain: tuple[str, ...]
    required_by: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Described:
    """One package in full. ``facts`` names the kinds of facts ``distro/packages`` has of it, ``verdicts`` holds script,
    verdict and reason of each reviewed script."""

    package: HeldPackage
    licence: str
    url: str
    description: str
    conflicts: tuple[str, ...]
    obsoletes: tuple[str, ...]
    files: int
    installed_size: int
    facts: tuple[str, ...]
    verdicts: tuple[tuple[str, str, str], ...]
    versions: tuple[str, ...]


def current_state(workspace: Workspace, wanted: str = "current") -> State:
    """The state of the repository that ``wanted`` means.

    Raises:
        BadInput: nothing was imported yet, or no such state is kept.
    """
    store = state_store(workspace, read_definition(workspace))
    if wanted == "current":
        state = store.current()
        if state is None:
            raise BadInput(
                "the repository is empty",
                where=str(store.served),
                remedy="import something: bedplate packages import --set server",
            )
        return state
    return store.find(wanted)


def snapshots(workspace: Workspace) -> list[StateSummary]:
    """Every kept state of the repository, the newest first."""
    return state_store(workspace, read_definition(workspace)).summaries()


def search(workspace: Workspace, words: Sequence[str]) -> list[HeldPackage]:
    """Packages whose name, summary or source holds every word, names first."""
    lowered = [word.lower() for word in words]
    found = []
    for package in current_state(workspace).newest().values():
        text = f"{package.name} {package.source} {package.summary}".lower()
        if all(word in text for word in lowered):
            in_name = all(word in package.name.lower() for word in lowered)
            found.append((not in_name, package.name, package))
    return [package for _, _, package in sorted(found, key=lambda one: one[:2])]


def why(workspace: Workspace, name: str) -> Reason:
    """Why the repository holds a package.

    Raises:
        BadInput: it does not hold it.
    """
    state = current_state(workspace)
    package = _named(state, name)
    offered = {text.partition(" ")[0] for text in package.provides} | {package.name}
    asking: dict[str, tuple[str, ...]] = {}
    for other in state.newest().values():
        if other.name == name:
            continue
        met = tuple(text for text in other.requires if offered & set(relation_names(text)))
        if met:
            asking[other.name] = met
    return Reason(package, package.why, dict(sorted(asking.items())))


def describe(workspace: Workspace, name: str) -> Described:
    """All there is to say about one package of the repository.

    Raises:
        BadInput: the repository does not hold it.
    """
    definition = read_definition(workspace)
    state = current_state(workspace)
    package = _named(state, name)
    rpm = RpmPackage.open(state_store(workspace, definition).served / package.location)
    versions = sorted((one.nevra.evr for one in state.packages if one.name == name), key=lambda evr: evr, reverse=True)
    facts, verdicts = _facts(definition, name)
    return Described(
        package=package,
        licence=rpm.header.text(Tag.LICENSE),
        url=rpm.header.text(Tag.URL),
        description=rpm.header.text(Tag.DESCRIPTION),
        conflicts=rpm.conflicts,
        obsoletes=rpm.obsoletes,
        files=len(rpm.files),
        installed_size=sum(entry.size for entry in rpm.files),
        facts=facts,
        verdicts=verdicts,
        versions=tuple(str(evr) for evr in versions),
    )


def files(workspace: Workspace, name: str) -> tuple[FileEntry, ...]:
    """The files of a package of the repository, sorted by path.

    Raises:
        BadInput: the repository does not hold it.
    """
    state = current_state(workspace)
    store = state_store(workspace, read_definition(workspace))
    return RpmPackage.open(store.served / _named(state, name).location).files


def difference(workspace: Workspace, old: str, new: str) -> list[Change]:
    """What changed between two kept states.

    Raises:
        BadInput: one of them is not kept.
    """
    return compare(current_state(workspace, old), current_state(workspace, new))


def _named(state: State, name: str) -> HeldPackage:
    newest = state.newest()
    if name in newest:
        return newest[name]
    providing = sorted(
        one.name for one in newest.values() if any(text.partition(" ")[0] == name for text in one.provides)
    )
    alike = sorted(one for one in newest if name in one)[:8]
    remedy = f"{name} is provided by {', '.join(providing)}" if providing else f"alike: {', '.join(alike)}"
    raise BadInput(
        f"the repository holds no package {name!r}",
        remedy=remedy if providing or alike else f"import it: bedplate packages import {name}",
    )


def _facts(definition: DefinitionSet, name: str) -> tuple[tuple[str, ...], tuple[tuple[str, str, str], ...]]:
    known = definition.facts.get(name)
    if known is None:
        return (), ()
    said = known.model_dump(exclude_defaults=True, exclude={"name", "scripts"})
    return tuple(said), tuple((one.script, one.verdict, one.reason) for one in known.scripts)
