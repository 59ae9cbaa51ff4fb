"""What a stage is, what it is given, and how its inputs come to lie in a scratch directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bedplate.compose.groups import ContentGroup, GroupSource
from bedplate.compose.plan import StageOutput, TreePlan
from bedplate.model.digest import identity, sha256
from bedplate.model.globs import matcher
from bedplate.model.package import FileEntry, FileKind
from bedplate.model.tree import TreeEntry
from bedplate.toolchain.run import Toolbox


@dataclass(frozen=True, slots=True)
class Staged:
    """A scratch root that holds a stage's inputs and nothing else; the stage's program writes below it."""

    root: Path
    toolbox: Toolbox

    def read(self, path: str) -> bytes:
        """Content of a path of the image that was staged or made."""
        return (self.root / path.lstrip("/")).read_bytes()

    def found(self, path: str) -> bool:
        """Whether the path is there."""
        return (self.root / path.lstrip("/")).is_file()


class Stage(Protocol):
    """One step. ``inputs`` are patterns of the paths it may read; its result depends on them, on ``parameters`` and on
    the tools alone. ``revision`` counts changes of its code that change the result."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> int: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def parameters(self) -> object: ...

    def run(self, staged: Staged) -> StageOutput: ...


@dataclass(frozen=True)
class StageInputs:
    """The part of a plan one stage may see."""

    entries: tuple[TreeEntry, ...]
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[list[object]]:
        """Plain data that changes when anything the stage can see changes."""
        return [[e.path, e.kind.value, e.mode, e.target, self.files.get(e.path, "")] for e in self.entries]


def select_inputs(plan: TreePlan, patterns: Iterable[str]) -> StageInputs:
    """Entries of ``plan`` that match a stage's patterns, with the digests of their contents."""
    wanted = matcher(patterns)
    digests = {group.key: group.by_path for group in plan.groups}
    entries = tuple(e for e in plan.entries if wanted(e.path))
    files = {e.path: digests[e.content.group][e.content.path].sha256 for e in entries if e.content is not None}
    return StageInputs(entries, files)


def stage_key(stage: Stage, inputs: StageInputs, tools: str) -> str:
    """The name of the stage's result in a cache; ``tools`` is the identity of the tools tree."""
    return identity(["stage", 1, stage.name, stage.revision, stage.parameters, tools, inputs.rows])


def populate(root: Path, plan: TreePlan, inputs: StageInputs, source: GroupSource) -> None:
    """Write a stage's inputs below ``root``, reading each package once."""
    groups = {group.key: group for group in plan.groups}
    wanted: dict[str, dict[str, list[str]]] = {}
    for entry in inputs.entries:
        path = root / entry.path.lstrip("/")
        if entry.kind is FileKind.DIRECTORY:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind is FileKind.SYMLINK:
            path.symlink_to(entry.target)
        elif entry.content is not None:
            by_path = wanted.setdefault(entry.content.group, {})
            by_path.setdefault(entry.content.path, []).append(entry.path)
    for key, paths in sorted(wanted.items()):
        group: ContentGroup = groups[key]
        for name, data in source.read(group, paths):
            for place in paths[name]:
                (root / place.lstrip("/")).write_bytes(data)


def file_output(
    path: str, data: bytes, mode: int = 0o644, user: str = "root", group: str = "root"
) -> tuple[FileEntry, bytes]:
    """A regular file a stage makes, with its content."""
    return FileEntry(path, FileKind.FILE, mode, user, group, size=len(data), sha256=sha256(data)), data


def output(
    name: str,
    files: Iterable[tuple[FileEntry, bytes]] = (),
    links: Mapping[str, str] | None = None,
    replaces: tuple[str, ...] = (),
) -> StageOutput:
    """The result of a stage from its files and its symbolic links (path -> target)."""
    made = list(files)
    entries = [entry for entry, _ in made]
    entries += [FileEntry(path, FileKind.SYMLINK, 0o777, target=target) for path, target in (links or {}).items()]
    entries.sort(key=lambda e: e.path)
    return StageOutput(name, tuple(entries), {entry.path: data for entry, data in made}, replaces)
