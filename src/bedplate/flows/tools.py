"""The tools tree: locked packages, downloaded, unpacked once into a content-addressed directory, run from there."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path

from bedplate.flows.cache import content_store, part
from bedplate.flows.definition import read_definition
from bedplate.flows.locks import Relock, committed_path, local_path, read_lock_file, usable_locks, write_lock
from bedplate.flows.upstream import find_all_mirrors, open_offer
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.digest import identity
from bedplate.model.lock import Lock
from bedplate.packages.deb.unpack import unpack
from bedplate.resolve.locking import make_lock
from bedplate.resolve.request import Exclusion, Request
from bedplate.resolve.solver import solve
from bedplate.toolchain.run import Toolbox
from bedplate.toolchain.tree import ToolsTree
from bedplate.toolchain.workers import worker_pool
from bedplate.upstream.download import MovedOnError, Wanted, fetch

# Raised when the same packages are unpacked differently.
_LAYOUT = 2
_DROP = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/bash-completion/*",
    "/usr/share/lintian/*",
)
_COMPLETE = "bedplate-complete"


def tools_lock(workspace: Workspace, tool_set: str) -> Lock:
    """The committed lock of a tool set."""
    return read_lock_file(committed_path(workspace, _lock_name(tool_set)))


def resolve_tools(workspace: Workspace, definition: DefinitionSet, tool_set: str) -> Lock:
    """Resolve a tool set against what the upstreams carry now."""
    wanted = definition.tool_set(tool_set)
    offer = open_offer(workspace, definition, wanted.packages)
    request = Request(
        asker=_lock_name(tool_set),
        install=tuple(wanted.packages),
        where="distro/tools.toml",
        exclude=tuple(Exclusion(name, "distro/tools.toml") for name in wanted.exclude),
        prefer=tuple(wanted.prefer),
    )
    solution = solve(offer.candidates, request, known_names=offer.names)
    digest = definition.resolution_digest(wanted, [one.nevra.name for one in solution.packages])
    return make_lock(solution, track=_lock_name(tool_set), definition=digest, indexes=offer.indexes, rpm_digests=None)


def prepare_tools(workspace: Workspace, tool_set: str = "tools", relock: Relock = Relock.NEVER) -> Toolbox:
    """The toolbox of a tool set; its tree is downloaded and unpacked when this machine does not have it yet.

    Raises:
        MovedOnError: the mirrors no longer carry a locked version and ``relock`` does not allow another lock.
        BadInput: the lock does not fit the definition.
        TrustError: a file is not what the lock says.
    """
    definition = read_definition(workspace)
    name = _lock_name(tool_set)
    fitting = partial(definition.resolution_digest, definition.tool_set(tool_set))
    locks = [lock for _, lock in usable_locks(workspace, name, track=name, definition=fitting)]
    epoch = definition.distro.source_date_epoch
    for lock in locks:
        tree = tools_tree(workspace, lock)
        if (tree.root / _COMPLETE).exists():
            return Toolbox(tree, epoch)
    for number, lock in enumerate(locks, start=1):
        try:
            return Toolbox(_make_tree(workspace, definition, lock), epoch)
        except MovedOnError as error:
            if relock is Relock.NEVER and number == len(locks):
                raise
            if number == len(locks):
                gone = ", ".join(wanted.name for wanted in error.gone)
                workspace.progress.say(f"the mirrors no longer carry these locked tools: {gone}")
                workspace.progress.say("locking the tools again; distro/ is left as it is")
    lock = resolve_tools(workspace, definition, tool_set)
    write_lock(local_path(workspace, name), lock)
    return Toolbox(_make_tree(workspace, definition, lock), epoch)


def _lock_name(tool_set: str) -> str:
    return "tools" if tool_set == "tools" else f"tools-{tool_set}"


def tools_tree(workspace: Workspace, lock: Lock) -> ToolsTree:
    """Where the tree of a tools lock is or will be; its name is the digest of its packages."""
    digests = sorted(package.location.sha256 for package in lock.packages if package.location is not None)
    return ToolsTree(part(workspace, "tools") / identity([_LAYOUT, digests])[:32])


def _make_tree(workspace: Workspace, definition: DefinitionSet, lock: Lock) -> ToolsTree:
    tree = tools_tree(workspace, lock)
    store = content_store(workspace)
    located = [(package, package.location) for package in lock.packages if package.location is not None]
    wanted = [Wanted(location, package.suite, str(package.nevra)) for package, location in located]
    fetch(wanted, store, find_all_mirrors(workspace, definition), progress=workspace.progress)
    files = [store.path(location.sha256) for _, location in sorted(located, key=lambda pair: -pair[1].size)]
    scratch = Path(tempfile.mkdtemp(dir=tree.root.parent, prefix=".unpack-"))
    try:
        with (
            workspace.progress.task("unpack the tools", len(files), "packages") as task,
            worker_pool(workspace.jobs) as pool,
        ):
            for _ in pool.map(partial(_unpack, scratch), files):
                task.advance()
        _link_merged_usr(scratch)
        _link_awk(scratch)
        (scratch / _COMPLETE).touch()
        _publish(scratch, tree.root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tree.write_wrappers()
    return tree


def _unpack(root: Path, package: Path) -> int:
    return unpack(package, root, drop=_DROP)


def _link_merged_usr(root: Path) -> None:
    # Not for our own use, which names every path in full: a program that enters the tree looks for its loader there.
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def _link_awk(root: Path) -> None:
    # The one alternative a maintainer script would have set that programs of the tree call by name.
    awk = root / "usr/bin/awk"
    if (root / "usr/bin/mawk").exists() and not awk.is_symlink():
        awk.symlink_to("mawk")


def _publish(scratch: Path, final: Path) -> None:
    scratch.chmod(0o755)
    try:
        scratch.rename(final)
    except OSError:
        if not (final / _COMPLETE).exists():
            raise
        # Another process has made the same tree meanwhile; its content is the same.


def tools_identity(toolbox: Toolbox) -> str:
    """What tells one tools tree from another: the name of its directory is the digest of its packages."""
    return toolbox.tree.root.name
