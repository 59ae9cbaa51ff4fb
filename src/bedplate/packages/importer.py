"""Upstream files become our unsigned RPMs: in parallel, cached by all that decides their bytes, never half done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedplate.model.definition.facts import DroppedRequirement, Ids, PackageFacts
from bedplate.model.digest import identity
from bedplate.model.dropped import drop_requirements
from bedplate.model.errors import BadInput, BedplateError, Finding, Level
from bedplate.model.evr import Evr
from bedplate.model.package import Candidate, Nevra, Script, SourceRef, UpstreamPackage
from bedplate.model.progress import NoProgress, Progress
from bedplate.packages.accounts import snippet
from bedplate.packages.draft import PayloadStore, Recipe
from bedplate.packages.formats import candidate, format_of
from bedplate.packages.rpm.writer import WRITER_VERSION, write_rpm

IMPORTER_VERSION = "1"
"""Part of every cache key: raise it when the same inputs give other bytes."""

ExecutorFactory = Callable[[int], Executor]
"""Makes an executor for so many workers; anything with the ``concurrent.futures`` interface."""


@dataclass(frozen=True, slots=True)
class ImportedPackage:
    """One imported package: our unsigned RPM in the cache, and what was learnt on the way.

    ``rpm_sha256`` and ``size`` are of the file at ``path``. ``scripts`` are upstream's maintainer scripts or
    scriptlets, for the ledger; the RPM has none. ``users`` and ``groups`` are those of its files.
    """

    nevra: Nevra
    source: SourceRef
    path: Path
    rpm_sha256: str
    size: int
    scripts: tuple[Script, ...]
    findings: tuple[Finding, ...]
    users: tuple[str, ...]
    groups: tuple[str, ...]
    upstream: UpstreamPackage


@dataclass(frozen=True, slots=True)
class ImportRules:
    """What ``distro/`` says about imports.

    ``dropped`` are the requirement rules (of the relation files and of single packages), ``directories`` the paths
    that ``filesystem`` owns.
    """

    facts: Mapping[str, PackageFacts]
    ids: Ids
    dropped: tuple[DroppedRequirement, ...] = ()
    directories: frozenset[str] = frozenset()

    def recipe(self, package: UpstreamPackage) -> Recipe:
        """All that decides what becomes of ``package``, besides its bytes."""
        facts = self.facts.get(package.name)
        (kept,), _ = drop_requirements([candidate(package, facts)], self.dropped)
        accounts = snippet(self.ids.only(facts.users, facts.groups), package.name) if facts else ""
        return Recipe(package, kept, facts, self.directories, accounts)


@dataclass(frozen=True, slots=True)
class _Job:
    recipe: Recipe
    source: Path
    target: Path


def import_packages(
    wanted: Sequence[tuple[UpstreamPackage, Path]],
    rules: ImportRules,
    cache_dir: Path,
    *,
    jobs: int = 2,
    progress: Progress | None = None,
    executor_factory: ExecutorFactory = ProcessPoolExecutor,
) -> list[ImportedPackage]:
    """Import every package, in the order given.

    The bytes of a result depend on the upstream file, the package's facts, its relations and the importer's version
    alone; what the cache holds is not made again. An interrupted import leaves whole packages only.

    Args:
        wanted: Each package with its upstream file, whose digest the content store has checked.
        cache_dir: Where finished RPMs are kept; shared by any number of processes.
        jobs: Worker processes.

    Raises:
        BadInput: packages that are damaged, hostile, cannot be mapped or have files of unknown users: all of them.
        BedplateError: the cache cannot be written, or a worker died.
    """
    progress = progress or NoProgress()
    plan = [_Job(recipe := rules.recipe(package), path, _target(cache_dir, recipe)) for package, path in wanted]
    found = {job.target: _load(job) for job in plan}
    missing = sorted(
        (job for job in plan if found[job.target] is None),
        key=lambda job: (-job.recipe.package.location.size, job.recipe.package.name),
    )
    if missing:
        _make_folder(cache_dir)
        with progress.task("import", total=len(missing), unit="packages") as task:
            _run(missing, jobs, executor_factory, task.advance)
        found |= {job.target: _load(job) for job in missing}
    done = [_require(found[job.target], job) for job in plan]
    _check_owners(done, rules.ids)
    return done


def require_no_errors(imported: Iterable[ImportedPackage]) -> None:
    """Stop when a finding of some package is an error.

    Raises:
        BadInput: it lists every such finding, and what to do.
    """
    errors = [finding for one in imported for finding in one.findings if finding.level is Level.ERROR]
    if errors:
        raise BadInput(
            f"imported packages hold {len(errors)} {'surprise' if len(errors) == 1 else 'surprises'}",
            details=[f"{finding.where}: {finding.cause}" for finding in errors],
            remedy="; ".join(dict.fromkeys(finding.remedy for finding in errors)),
        )


def convert(recipe: Recipe, source: Path, target: Path) -> None:
    """Make our RPM of one upstream file at ``target``, its record beside it last. Runs in a worker process.

    Raises:
        BadInput: the package is damaged or hostile.
        BedplateError: a file cannot be read or written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        expected = source.stat().st_size * 4
        with PayloadStore(expected, target.parent) as store:
            draft = format_of(recipe.package).draft(recipe, source, store)
            written = write_rpm(draft.spec, draft.contents, target)
        record = {
            "rpm_sha256": written.sha256,
            "size": written.size,
            "nevra": [draft.spec.nevra.name, str(draft.spec.nevra.evr), draft.spec.nevra.arch],
            "source": [draft.spec.source.name, str(draft.spec.source.evr)],
            "users": sorted({entry.user for entry in draft.spec.files}),
            "groups": sorted({entry.group for entry in draft.spec.files}),
            "scripts": [asdict(script) for script in draft.scripts],
            "findings": [asdict(finding) for finding in draft.findings],
        }
        _write_record(_record_path(target), record)
    except OSError as error:
        raise BedplateError(
            f"cannot import ({error.strerror or error})",
            where=f"{recipe.package.name} ({error.filename or target})",
            remedy="free some space (`bedplate store gc`) or name another cache, and run again: finished packages stay",
        ) from error


def _target(cache_dir: Path, recipe: Recipe) -> Path:
    key = identity(
        {
            "importer": IMPORTER_VERSION,
            "writer": WRITER_VERSION,
            "upstream": recipe.package.location.sha256,
            "format": recipe.package.format,
            "facts": _facts_that_matter(recipe.facts or PackageFacts(name=recipe.package.name)),
            "candidate": _plain(recipe.candidate),
            "directories": sorted(recipe.directories),
            **({"accounts": recipe.accounts} if recipe.accounts else {}),
        }
    )
    return cache_dir / key[:2] / f"{key}.rpm"


def _facts_that_matter(facts: PackageFacts) -> Any:
    # A reviewed script verdict or a link changes no byte of the package.
    matter = facts.model_dump(mode="json", include={"provides", "drop"})
    matter["modes"] = {path: mode.model_dump(mode="json", exclude_defaults=True) for path, mode in facts.modes.items()}
    added = facts.model_dump(mode="json", include={"directories", "links", "files", "tmpfiles"}, exclude_defaults=True)
    return {**matter, **added}


def _plain(one: Candidate) -> list[Any]:
    relations = (one.requires, one.provides, one.conflicts, one.obsoletes, one.recommends, one.suggests)
    return [str(one.nevra), str(one.source), *(list(relation) for relation in relations)]


def _record_path(target: Path) -> Path:
    return target.with_suffix(".json")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BedplateError(f"cannot create the cache ({error.strerror})", where=str(path)) from error


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(record, stream, ensure_ascii=True, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _run(missing: Sequence[_Job], jobs: int, executor_factory: ExecutorFactory, advance: Callable[[int], None]) -> None:
    """Convert ``missing`` (distinct targets only), biggest first."""
    distinct = {job.target: job for job in missing}
    failures: dict[str, BedplateError] = {}
    with executor_factory(max(1, min(jobs, len(distinct)))) as executor:
        running: dict[Future[None], _Job] = {
            executor.submit(convert, job.recipe, job.source, job.target): job for job in distinct.values()
        }
        try:
            for future in as_completed(running):
                job = running[future]
                try:
                    future.result()
                except BedplateError as error:
                    failures[job.recipe.package.name] = error
                advance(1)
        except BrokenProcessPool as error:
            raise BedplateError(
                "a worker process was killed, most likely for want of memory",
                remedy="run again with fewer jobs (--jobs 1); finished packages are kept",
            ) from error
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    _raise_failures([failures[name] for name in sorted(failures)])


def _raise_failures(failures: Sequence[BedplateError]) -> None:
    if not failures:
        return
    if len(failures) == 1:
        raise failures[0]
    kind = BadInput if all(isinstance(failure, BadInput) for failure in failures) else BedplateError
    raise kind(
        f"{len(failures)} packages could not be imported",
        details=[f"{failure.where}: {failure.message}" for failure in failures],
        remedy="; ".join(dict.fromkeys(failure.remedy for failure in failures if failure.remedy)),
    )


def _require(done: ImportedPackage | None, job: _Job) -> ImportedPackage:
    if done is None:
        raise BedplateError(
            f"the package of {job.recipe.package.name} was made and is gone or damaged again",
            where=str(job.target),
            remedy="something else writes to this cache: stop it, or name another cache",
        )
    return done


def _load(job: _Job) -> ImportedPackage | None:
    """What the cache holds of a job; None when that is nothing, or something damaged, which is then made anew."""
    path = _record_path(job.target)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        size = job.target.stat().st_size
        if size != record["size"]:
            return None
        name, evr, arch = record["nevra"]
        return ImportedPackage(
            nevra=Nevra(name, Evr.parse(evr), arch),
            source=SourceRef(record["source"][0], Evr.parse(record["source"][1])),
            path=job.target,
            rpm_sha256=record["rpm_sha256"],
            size=size,
            scripts=tuple(Script(**script) for script in record["scripts"]),
            findings=tuple(Finding(**{**finding, "level": Level(finding["level"])}) for finding in record["findings"]),
            users=tuple(record["users"]),
            groups=tuple(record["groups"]),
            upstream=job.recipe.package,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_owners(imported: Iterable[ImportedPackage], ids: Ids) -> None:
    users: Collection[str] = ids.users
    groups = {*ids.groups, *(name for name, user in ids.users.items() if not user.group)}
    problems = [
        f"{one.nevra.name}: {kind} {name!r}"
        for one in imported
        for kind, names, known in (("user", one.users, users), ("group", one.groups, groups))
        for name in names
        if name not in known
    ]
    if problems:
        raise BadInput(
            "files belong to users or groups that have no frozen id",
            where="distro/ids.toml",
            details=problems,
            remedy="add each with a number of its own",
        )
