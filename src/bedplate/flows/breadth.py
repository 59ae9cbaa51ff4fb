"""Packages beyond the images: a set, or single names, with all they require, imported into the repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.compose.owned import load_sets
from bedplate.flows.advisories import advisories_for
from bedplate.flows.definition import read_definition
from bedplate.flows.imports import describe_files, download, import_files, script_ledger
from bedplate.flows.own import build_own_packages, own_candidates
from bedplate.flows.repository import Finished, ImportResult, finished_kernels, own_finished, publish, state_store
from bedplate.flows.upstream import Offer, all_drop_rules, open_offer
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.definition.sets import PackageGroup, PackageSet, parse_set
from bedplate.model.errors import BadInput, Finding
from bedplate.model.package import Candidate
from bedplate.packages.collisions import collisions
from bedplate.packages.comps import comps
from bedplate.packages.gate import check_import
from bedplate.packages.importer import ExecutorFactory, ImportedPackage
from bedplate.packages.rpm.reader import RpmPackage
from bedplate.packages.scripts.ledger import Ledger
from bedplate.resolve.request import Exclusion, Request
from bedplate.resolve.solver import solve
from bedplate.resolve.why import solution_findings
from bedplate.toolchain.workers import worker_pool
from bedplate.upstream.download import Wanted


@dataclass(frozen=True)
class Resolved:
    """What a set comes to: its packages with the chain that leads to each, and what a person should know of it."""

    wanted: PackageSet
    offer: Offer
    packages: tuple[Candidate, ...]
    why: Mapping[str, tuple[str, ...]]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Converted:
    """A resolved set as packages of ours."""

    resolved: Resolved
    imported: tuple[ImportedPackage, ...]
    ledger: Ledger


def read_set(workspace: Workspace, name: str) -> tuple[PackageSet, str]:
    """The set called ``name`` (``distro/sets/NAME.toml``) or in the file of that path, and where it stands.

    Raises:
        BadInput: there is none, or it has mistakes.
    """
    known = workspace.distro / "sets" / f"{name}.toml"
    path = known if known.is_file() else Path(name)
    try:
        return parse_set(path.read_text(), str(path)), f"distro/sets/{path.name}" if path == known else str(path)
    except (FileNotFoundError, IsADirectoryError):
        names = sorted(one.stem for one in (workspace.distro / "sets").glob("*.toml"))
        raise BadInput(
            f"no package set {name!r}", where=str(workspace.distro / "sets"), remedy=f"known: {', '.join(names)}"
        ) from None


def named(names: Sequence[str], base: PackageSet | None) -> PackageSet:
    """A set of just these names, with the preferences and owned files of ``base``."""
    wanted = PackageGroup(title="Named", packages=list(names))
    if base is None:
        return PackageSet(title=", ".join(names), groups={"named": wanted})
    return base.model_copy(update={"title": ", ".join(names), "groups": {"named": wanted}, "apart": []})


def resolve_set(workspace: Workspace, definition: DefinitionSet, wanted: PackageSet, where: str) -> Resolved:
    """Choose the packages of a set: those that stand beside one another together, those apart each by itself.

    Raises:
        Unresolvable: packages of the set cannot be had, or not together.
    """
    together = wanted.names()
    asked = sorted({*together, *(name for one in wanted.apart for name in one.packages)})
    offer = open_offer(workspace, definition, asked)
    candidates = [*own_candidates(definition), *offer.candidates]
    request = Request(
        asker="the set",
        install=together,
        where=where,
        exclude=tuple(Exclusion(name, where) for name in wanted.exclude),
        prefer=tuple(wanted.prefer),
    )
    solution = solve(candidates, request, known_names=offer.names)
    chosen = {one.nevra: one for one in solution.packages}
    why = {name: found.chain for name, found in solution.why.items()}
    findings = solution_findings(solution, where)
    for one in wanted.apart:
        alone = replace(request, install=tuple(sorted(one.packages)), favour=tuple(chosen))
        more = solve(candidates, alone, known_names=offer.names)
        chosen.update((package.nevra, package) for package in more.packages)
        why = {**{name: found.chain for name, found in more.why.items()}, **why}
        findings += solution_findings(more, where)
    packages = tuple(sorted(chosen.values(), key=lambda package: package.nevra))
    return Resolved(wanted, offer, packages, why, tuple(dict.fromkeys(findings)))


def convert_set(
    workspace: Workspace,
    definition: DefinitionSet,
    wanted: PackageSet,
    where: str,
    executor_factory: ExecutorFactory = worker_pool,
) -> Converted:
    """Resolve a set, hold its versions and relations against RPM's rules, download and import it, and account for every
    script. Nothing is published.

    Raises:
        BadInput: a relation would change its meaning, or a package holds a surprise.
    """
    resolved = resolve_set(workspace, definition, wanted, where)
    upstream = [resolved.offer.package_of(one) for one in resolved.packages if one.location is not None]
    with workspace.progress.task("compare version orders"):
        check_import(upstream, resolved.offer.packages.values(), all_drop_rules(definition)).require()
    store = download(workspace, definition, [Wanted(one.location, one.suite, one.name) for one in upstream])
    with workspace.progress.task("read control data"):
        described = describe_files(workspace, store, upstream)
    imported = import_files(workspace, definition, described, store, executor_factory)
    owned = {entry.path for one in load_sets(workspace.distro / "files", wanted.files) for entry in one.files}
    with workspace.progress.task("account for scripts"):
        ledger = script_ledger(workspace, definition, imported, owned)
    return Converted(resolved, tuple(imported), ledger)


def import_set(
    workspace: Workspace, wanted: PackageSet, where: str, executor_factory: ExecutorFactory = worker_pool
) -> ImportResult:
    """Import a set with all it requires into the repository.

    Raises:
        BadInput: a script is not accounted for, a finished package requires what none of them provides, or two of them
            disagree about a path.
    """
    definition = read_definition(workspace)
    converted = convert_set(workspace, definition, wanted, where, executor_factory)
    converted.ledger.require()
    resolved = converted.resolved
    finished = [
        Finished(one.nevra, one.path, one.rpm_sha256, resolved.why.get(one.nevra.name, ()))
        for one in converted.imported
    ]
    finished += own_finished(
        workspace, definition, [one.nevra.name for one in resolved.packages if one.location is None]
    )
    finished += finished_kernels(workspace, definition, finished)
    with workspace.progress.task("check that the packages fit together"):
        _require_whole(finished, where, _there_already(workspace, definition))
    groups = comps(wanted.groups, {one.nevra.name for one in finished})
    extra = {"group": groups} if set(wanted.groups) != {"named"} else {}
    with workspace.progress.task("look for security fixes"):
        advisories = advisories_for(workspace, definition, converted.imported)
    return publish(workspace, definition, finished, comment=wanted.title, extra=extra, advisories=advisories)


def set_ledger(workspace: Workspace, name: str) -> Ledger:
    """The script ledger of a set's packages."""
    wanted, where = read_set(workspace, name)
    return convert_set(workspace, read_definition(workspace), wanted, where).ledger


def _there_already(workspace: Workspace, definition: DefinitionSet) -> set[str]:
    """What an import can rely on: what the repository holds provides, and the distribution's own packages, whose
    accounts and directories every system has."""
    state = state_store(workspace, definition).current()
    found = {text.partition(" ")[0] for one in (state.packages if state else ()) for text in one.provides}
    for one in build_own_packages(workspace, definition, definition.own):
        found.update(text.partition(" ")[0] for text in RpmPackage.open(one.path).provides)
    return found


def _require_whole(finished: Sequence[Finished], where: str, there: set[str]) -> None:
    """What a finished package requires by name must be provided by name, also what only its files ask for; and no two
    packages may disagree about a path."""
    packages = [RpmPackage.open(one.path) for one in finished]
    provided = set(there)
    for package in packages:
        provided.update(text.partition(" ")[0] for text in package.provides)
        provided.update(entry.path for entry in package.files)
    missing = [
        f"{package.nevra.name} requires {text}"
        for package in packages
        for text in package.requires
        if not text.startswith("(") and text.partition(" ")[0] not in provided
    ]
    if missing:
        raise BadInput(
            f"{len(missing)} requirements of finished packages are met by none of them",
            where=where,
            details=missing,
            remedy="add what is missing to the set, or the provide to distro/packages",
        )
    disagreeing = collisions(packages)
    if disagreeing:
        raise BadInput(
            f"packages disagree about {len(disagreeing)} paths: rpm would not install them together",
            where=where,
            details=[finding.cause for finding in disagreeing],
            remedy=disagreeing[0].remedy,
        )
