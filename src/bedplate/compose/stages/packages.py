"""The database of installed packages, for an image whose packages are managed on the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bedplate.compose.plan import PlannedPackage, StageOutput, TreePlan
from bedplate.compose.stages.base import file_output, output
from bedplate.model.package import FileFlag

DATABASE = "/var/lib/rpm/rpmdb.sqlite"


def left_out(packages: Iterable[PlannedPackage], plan: TreePlan) -> list[str]:
    """Paths of packages that are not in the tree, or that something else stands in for, sorted. Configuration that the
    definition owns is not among them: to the package manager it is a file the administrator changed."""
    tree = plan.by_path()
    missing = set()
    for package in packages:
        for entry in package.files:
            if entry.flags & FileFlag.GHOST:
                continue
            here = tree.get(entry.path)
            ours = here is not None and not here.owner.startswith("package:") and here.kind is entry.kind
            if here is None or (not here.owner.startswith("package:") and not (ours and entry.flags & FileFlag.CONFIG)):
                missing.add(entry.path)
    return sorted(missing)


def database(make: Callable[[Sequence[str]], bytes], packages: Iterable[PlannedPackage], plan: TreePlan) -> StageOutput:
    """The database as ``make`` gives it for the paths that are left out, and SQLite's two companions of it.

    Who may not write to the directory can read a database with a write-ahead log only when these are there, empty or
    not (https://sqlite.org/wal.html, "Read-Only Databases"): without them ``rpm -q`` fails for everybody but root.
    """
    companions = [file_output(f"{DATABASE}-{name}", b"") for name in ("wal", "shm")]
    return output("packages", [file_output(DATABASE, make(left_out(packages, plan))), *companions])
