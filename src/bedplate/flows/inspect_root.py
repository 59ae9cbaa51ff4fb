"""Looking into the root file system of an image: paths, packages, programs and what runs them."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from uuid import UUID

from bedplate.compose.erofs.format import BLOCK, Layout
from bedplate.compose.erofs.reader import ErofsImage, Node
from bedplate.compose.stages.identity import OS_RELEASE, PACKAGES
from bedplate.verify import contents
from bedplate.verify.contents import PathFact
from bedplate.verify.inspection import PackageFact, RootFact, parse_os_release

_MAX_LIST = 16 << 20
_MAX_PROGRAM = 256 << 20


def root_fact(image: ErofsImage, owners: Mapping[str, str] | None) -> RootFact:
    """What the root file system holds: every path, the packages it names, programs and their interpreters.

    Args:
        owners: Path -> owner (``package:NAME`` …); None: not known.
    """
    facts = []
    kept: dict[str, bytes] = {}
    seen: set[int] = set()
    for node in image.walk():
        facts.append(_path_fact(image, node, seen))
        if node.path in (OS_RELEASE, PACKAGES) and node.is_file:
            kept[node.path] = image.read(node, _MAX_LIST)
    packages, problem = parse_packages(kept.get(PACKAGES))
    return RootFact(
        bytes=image.superblock.blocks * BLOCK,
        uuid=str(UUID(bytes=image.superblock.uuid)),
        os_release=parse_os_release(kept.get(OS_RELEASE, b"").decode(errors="replace")),
        packages=packages,
        contents=contents.survey(facts, owners),
        packages_problem=problem,
    )


def _path_fact(image: ErofsImage, node: Node, seen: set[int]) -> PathFact:
    inode = node.inode
    stored, script, interpreter = 0, "", ""
    if node.is_file and node.nid not in seen:
        seen.add(node.nid)
        compressed = inode.layout in (Layout.COMPRESSED_FULL, Layout.COMPRESSED_COMPACT)
        stored = inode.value * BLOCK if compressed else inode.size
    if node.is_file and inode.mode & 0o111:
        script, interpreter = _classify(image, node)
    return PathFact(
        path=node.path,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        size=inode.size if stat.S_ISREG(inode.mode) else 0,
        stored=stored,
        target=image.read(node, BLOCK).decode(errors="replace") if node.is_symlink else "",
        xattrs=dict(image.xattrs(node)),
        script=script,
        interpreter=interpreter,
    )


def _classify(image: ErofsImage, node: Node) -> tuple[str, str]:
    stream = image.stream(node)
    first = next(stream, b"")
    if not contents.is_program(first[: contents.HEAD_BYTES]):
        return contents.classify(node.path.rpartition("/")[2], first[: contents.HEAD_BYTES])
    name = node.path.rpartition("/")[2]
    found = contents.classify(name, first[: contents.HEAD_BYTES])
    if any(found) or node.inode.size > _MAX_PROGRAM or contents.is_go_program(first[: contents.HEAD_BYTES]):
        return found
    return contents.classify(name, first[: contents.HEAD_BYTES], first + b"".join(stream))


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
