"""The tree plan: which paths an image has, whose each one is, and where its bytes come from. Pure.

Every path has one owner. What two packages, or a package and an owned set, both bring is an error unless it is the
same to the last bit or the set declares that it stands in for the package's path. All problems are reported at once.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bedplate.compose import capabilities
from bedplate.compose.groups import ContentGroup, GroupFile
from bedplate.compose.modules import KernelModule, is_module
from bedplate.compose.owned import OwnedSet
from bedplate.model.definition.facts import Ids, PackageFacts
from bedplate.model.errors import BadInput
from bedplate.model.globs import matcher
from bedplate.model.package import FileEntry, FileFlag, FileKind
from bedplate.model.tree import FromGroup, Transform, TreeEntry

FILESYSTEM_PACKAGE = "filesystem"
_SHOWN_PROBLEMS = 40


class Times(StrEnum):
    """Whose modification time a file has: the image's, or its package's, which the package database compares."""

    IMAGE = "image"
    PACKAGE = "package"


@dataclass(frozen=True, slots=True)
class PlannedPackage:
    """What the plan needs to know of a package."""

    name: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a stage adds. ``replaces`` are patterns of paths it stands in for; contents of files are by path."""

    name: str
    files: tuple[FileEntry, ...]
    contents: Mapping[str, bytes] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """How a tree entry names this stage."""
        return f"stage:{self.name}"


@dataclass(frozen=True, slots=True)
class TreePlan:
    """The tree and its content groups: entries sorted by path ("/" first), groups sorted by owner."""

    entries: tuple[TreeEntry, ...]
    groups: tuple[ContentGroup, ...]

    def by_path(self) -> dict[str, TreeEntry]:
        """Entries keyed by path."""
        return {entry.path: entry for entry in self.entries}

    def sources(self) -> dict[str, tuple[ContentGroup, GroupFile]]:
        """For each regular file's path (hard links too) the group and file its bytes come from."""
        groups = {group.key: group for group in self.groups}
        return {
            e.path: (groups[e.content.group], groups[e.content.group].by_path[e.content.path])
            for e in self.entries
            if e.content is not None
        }


@dataclass(frozen=True, slots=True)
class _Claim:
    """One path as one owner wants it, before ids are numbers."""

    owner: str
    entry: FileEntry
    transform: Transform = Transform.NONE
    source: str = ""

    def same_as(self, other: _Claim) -> bool:
        """Whether both would give the same inode."""
        one, two = self.entry, other.entry
        alike: tuple[str, ...] = ("kind", "mode", "user", "group", "target", "capabilities", "sha256", "size")
        if one.kind is FileKind.SYMLINK:
            alike = ("kind", "target")
        return all(getattr(one, name) == getattr(two, name) for name in alike) and self.transform is other.transform


@dataclass(slots=True)
class _Tree:
    claims: dict[str, _Claim] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, claim: _Claim) -> None:
        path = claim.entry.path
        if not path.startswith("/") or posixpath.normpath(path) != path or path.startswith("//"):
            self.problems.append(f"{claim.owner}: {path!r} is not an absolute, normal path")
            return
        known = self.claims.get(path)
        if known is None:
            self.claims[path] = claim
        elif not known.same_as(claim):
            self._settle(path, known, claim)

    def _settle(self, path: str, known: _Claim, claim: _Claim) -> None:
        both_directories = known.entry.kind is claim.entry.kind is FileKind.DIRECTORY
        if both_directories and f"package:{FILESYSTEM_PACKAGE}" in (known.owner, claim.owner):
            if claim.owner == f"package:{FILESYSTEM_PACKAGE}":
                self.claims[path] = claim
            return
        self.problems.append(f"{path}: {known.owner} ({_describe(known)}) and {claim.owner} ({_describe(claim)})")


def _describe(claim: _Claim) -> str:
    entry = claim.entry
    what = f"{entry.kind.value} {entry.mode:04o} {entry.user}:{entry.group}"
    if entry.kind is FileKind.SYMLINK:
        return f"link to {entry.target}"
    return f"{what} {entry.sha256[:12]}".strip()


def plan_tree(
    packages: Sequence[PlannedPackage],
    sets: Sequence[OwnedSet],
    facts: Mapping[str, PackageFacts],
    ids: Ids,
    drop: Sequence[str],
    modules: Mapping[str, KernelModule] | None,
    epoch: int,
    times: Times = Times.IMAGE,
) -> TreePlan:
    """The tree of packages and owned files.

    Args:
        packages: Name and files of each package that enters the root.
        sets: Owned files; a set may take over package paths it declares in ``replaces``, never another set's.
        facts: Per package: modes that upstream sets by script.
        ids: User and group numbers.
        drop: Patterns of package paths left out.
        modules: The kernel modules to keep, by name, unpacked; all others are left out. None: all, as shipped.
        epoch: Modification time of everything, seconds since 1970.
        times: Whether what a package dates keeps its own time instead.

    Raises:
        BadInput: paths with two owners, paths below a link or a file, unknown users or groups: all of them at once.
    """
    tree = _Tree()
    dropped, replaced = matcher(drop), matcher([p for s in sets for p in s.replaces])
    kept_modules = None if modules is None else {module.path: module for module in modules.values()}
    for package in sorted(packages, key=lambda p: p.name):
        modes = facts[package.name].modes if package.name in facts else {}
        for entry in package.files:
            if entry.flags & FileFlag.GHOST or dropped(entry.path):
                continue
            if replaced(entry.path):
                continue
            claim = _package_claim(package.name, entry, kept_modules)
            if claim is None:
                continue
            mode = modes.get(claim.entry.path)
            if mode is not None:
                changed = replace(claim.entry, mode=int(mode.mode, 8), user=mode.user, group=mode.group)
                claim = replace(claim, entry=changed)
            tree.add(claim)
    for owned in sets:
        for entry in owned.files:
            tree.add(_Claim(owned.owner, entry))
    return _finish(tree, ids, epoch, times=times)


def add_stages(
    plan: TreePlan, outputs: Sequence[StageOutput], ids: Ids, epoch: int, times: Times = Times.IMAGE
) -> TreePlan:
    """``plan`` with the outputs of stages; the rules of :func:`plan_tree` hold.

    Raises:
        BadInput: a stage's path is already owned and not declared as replaced.
    """
    tree = _Tree()
    replaced = matcher([pattern for output in outputs for pattern in output.replaces])
    user_names = {user.uid: name for name, user in ids.users.items()}
    group_names = {gid: name for name, gid in group_numbers(ids).items()}
    sources = plan.sources()
    for planned in plan.entries:
        if replaced(planned.path):
            continue
        file = sources[planned.path][1] if planned.path in sources else None
        entry = FileEntry(
            planned.path,
            planned.kind,
            planned.mode,
            user_names[planned.uid],
            group_names[planned.gid],
            planned.mtime,
            size=planned.size,
            sha256=file.sha256 if file else "",
            target=planned.target,
            hardlink=planned.hardlink,
        )
        transform = file.transform if file else Transform.NONE
        tree.claims[planned.path] = _Claim(planned.owner, entry, transform, file.source if file else "")
    xattrs = {entry.path: entry.xattrs for entry in plan.entries if entry.xattrs}
    for output in outputs:
        for added in output.files:
            tree.add(_Claim(output.owner, added))
    return _finish(tree, ids, epoch, xattrs, times)


def _package_claim(package: str, entry: FileEntry, modules: Mapping[str, KernelModule] | None) -> _Claim | None:
    owner = f"package:{package}"
    if modules is None or not is_module(entry.path):
        return _Claim(owner, entry)
    module = modules.get(entry.path)
    if module is None:
        return None
    plain = replace(entry, path=module.image_path, size=module.size, sha256=module.sha256, hardlink="")
    return _Claim(owner, plain, module.transform, entry.path)


def group_numbers(ids: Ids) -> dict[str, int]:
    """Every group's number: the declared ones and one for each user that has its own."""
    own = {name: user.uid for name, user in ids.users.items() if not user.group}
    return {**own, **ids.groups}


def _finish(
    tree: _Tree,
    ids: Ids,
    epoch: int,
    xattrs: Mapping[str, tuple[tuple[str, bytes], ...]] | None = None,
    times: Times = Times.IMAGE,
) -> TreePlan:
    _add_parents(tree)
    groups = _content_groups(tree)
    entries = _entries(tree, groups, ids, epoch, xattrs or {}, times)
    if tree.problems:
        raise BadInput(
            "the image's tree has conflicts",
            details=[
                *tree.problems[:_SHOWN_PROBLEMS],
                *([f"and {len(tree.problems) - _SHOWN_PROBLEMS} more"] if len(tree.problems) > _SHOWN_PROBLEMS else []),
            ],
            remedy="drop one of the paths in the track, or let an owned set declare that it replaces it",
        )
    return TreePlan(tuple(entries), tuple(sorted(groups.values(), key=lambda g: g.owner)))


def _add_parents(tree: _Tree) -> None:
    claims = tree.claims
    for path in sorted(claims):
        claim, parent = claims[path], posixpath.dirname(path)
        while path != "/":
            above = claims.get(parent)
            if above is not None:
                if above.entry.kind is FileKind.SYMLINK:
                    tree.problems.append(
                        f"{path} of {claim.owner} lies below {parent}, a link to {above.entry.target} of {above.owner}"
                    )
                elif above.entry.kind is FileKind.FILE:
                    tree.problems.append(f"{path} of {claim.owner} lies below {parent}, a file of {above.owner}")
                break
            claims[parent] = _Claim(claim.owner, FileEntry(parent, FileKind.DIRECTORY, 0o755))
            path, parent = parent, posixpath.dirname(parent)  # noqa: PLW2901 - climbing up to the root
    claims.setdefault("/", _Claim(f"package:{FILESYSTEM_PACKAGE}", FileEntry("/", FileKind.DIRECTORY, 0o755)))


def _content_groups(tree: _Tree) -> dict[str, ContentGroup]:
    by_owner: dict[str, list[GroupFile]] = {}
    linked: set[tuple[str, str]] = set()
    for path, claim in sorted(tree.claims.items()):
        entry = claim.entry
        if entry.kind is not FileKind.FILE:
            continue
        if entry.hardlink:
            # One content for all names of an inode: the first name that is left in the image carries it.
            if (claim.owner, entry.hardlink) in linked:
                continue
            linked.add((claim.owner, entry.hardlink))
        file = GroupFile(path, entry.size, entry.sha256, claim.transform, claim.source)
        by_owner.setdefault(claim.owner, []).append(file)
    return {owner: ContentGroup(owner, tuple(files)) for owner, files in by_owner.items()}


def _entries(
    tree: _Tree,
    groups: Mapping[str, ContentGroup],
    ids: Ids,
    epoch: int,
    xattrs: Mapping[str, tuple[tuple[str, bytes], ...]],
    times: Times,
) -> Iterable[TreeEntry]:
    gids = group_numbers(ids)
    links: dict[tuple[str, str], list[str]] = {}
    for path, claim in sorted(tree.claims.items()):
        if claim.entry.hardlink:
            links.setdefault((claim.owner, claim.entry.hardlink), []).append(path)
    result = []
    for path, claim in sorted(tree.claims.items()):
        entry = claim.entry
        user = ids.users.get(entry.user)
        if user is None:
            tree.problems.append(f"{path} of {claim.owner} belongs to user {entry.user!r}, who is not in ids.toml")
        if entry.group not in gids:
            tree.problems.append(f"{path} of {claim.owner} belongs to group {entry.group!r}, which is not in ids.toml")
        names = links.get((claim.owner, entry.hardlink), []) if entry.hardlink else []
        is_file = entry.kind is FileKind.FILE
        extra = ((capabilities.XATTR, capabilities.encode(entry.capabilities)),) if entry.capabilities else ()
        result.append(
            TreeEntry(
                path=path,
                kind=entry.kind,
                mode=0o777 if entry.kind is FileKind.SYMLINK else entry.mode,
                uid=user.uid if user else 0,
                gid=gids.get(entry.group, 0),
                mtime=entry.mtime if times is Times.PACKAGE and claim.owner.startswith("package:") else epoch,
                owner=claim.owner,
                size=entry.size if is_file else 0,
                target=entry.target,
                content=FromGroup(groups[claim.owner].key, names[0] if names else path) if is_file else None,
                hardlink=names[0] if len(names) > 1 else "",
                xattrs=extra or xattrs.get(path, ()),
            )
        )
    return result
