"""Looking into the root file system of an image: paths, packages, programs and what runs them."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping

from bedplate.compose.stages.identity import OS_RELEASE, PACKAGES
from bedplate.model.filesystem import FileNode, FileSystem, read_node
from bedplate.verify import contents
from bedplate.verify.contents import PathFact
from bedplate.verify.inspection import PackageFact, RootFact, parse_os_release

_MAX_LIST = 16 << 20
_MAX_PROGRAM = 256 << 20
_MAX_TARGET = 4096


def root_fact(system: FileSystem, owners: Mapping[str, str] | None) -> RootFact:
    """What the root file system holds: every path, the packages it names, programs and their interpreters.

    Args:
        owners: Path -> owner (``package:NAME`` …); None: not known.
    """
    facts = []
    kept: dict[str, bytes] = {}
    seen: set[int] = set()
    for node in system.walk():
        facts.append(_path_fact(system, node, seen))
        if node.path in (OS_RELEASE, PACKAGES) and node.is_file:
            kept[node.path] = read_node(system, node, _MAX_LIST)
    packages, problem = parse_packages(kept.get(PACKAGES))
    return RootFact(
        bytes=system.total_bytes,
        uuid=str(system.uuid),
        os_release=parse_os_release(kept.get(OS_RELEASE, b"").decode(errors="replace")),
        packages=packages,
        contents=contents.survey(facts, owners),
        packages_problem=problem,
    )


def _path_fact(system: FileSystem, node: FileNode, seen: set[int]) -> PathFact:
    stored, script, interpreter = 0, "", ""
    if node.is_file and node.number not in seen:
        seen.add(node.number)
        stored = system.stored(node)
    if node.is_file and node.mode & 0o111:
        script, interpreter = _classify(system, node)
    return PathFact(
        path=node.path,
        mode=node.mode,
        uid=node.uid,
        gid=node.gid,
        size=node.size if stat.S_ISREG(node.mode) else 0,
        stored=stored,
        target=read_node(system, node, _MAX_TARGET).decode(errors="replace") if node.is_symlink else "",
        xattrs=dict(system.xattrs(node)),
        script=script,
        interpreter=interpreter,
    )


def _classify(system: FileSystem, node: FileNode) -> tuple[str, str]:
    stream = system.stream(node)
    first = next(stream, b"")
    head, name = first[: contents.HEAD_BYTES], node.path.rpartition("/")[2]
    found = contents.classify(name, head)
    if any(found) or not contents.is_program(head) or node.size > _MAX_PROGRAM or contents.is_go_program(head):
        return found
    return contents.classify(name, head, first + b"".join(stream))


def parse_packages(text: bytes | None) -> tuple[tuple[PackageFact, ...], str]:
    """The packages of an image's own list, and what is wrong with it (empty when nothing is)."""
    if text is None:
        return (), "the image has no list of its packages"
    try:
        rows = json.loads(text)
        packages = tuple(_package(row) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return (), f"the list of packages is damaged ({type(error).__name__}: {error})"
    names = [package.name for package in packages]
    twice = sorted({name for name in names if names.count(name) > 1})
    return packages, f"packages are listed twice: {', '.join(twice)}" if twice else ""


def _package(row: Mapping[str, object]) -> PackageFact:
    name, evr, arch, source = (str(row[key]) for key in ("name", "evr", "arch", "source"))
    return PackageFact(name, evr, arch, source, str(row.get("source_evr", "")))
