"""SELinux labels of a tree: looked up by libselinux in the image's own file contexts, which takes no privilege.

Sources: selabel_file(5), matchpathcon(8). Lookups are kept under a digest of the paths and the file contexts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bedplate.compose.plan import TreePlan
from bedplate.compose.stages.cache import write_entry
from bedplate.model.digest import canonical_json, identity, sha256
from bedplate.model.errors import BedplateError
from bedplate.model.package import FileKind
from bedplate.toolchain.run import Toolbox

XATTR = "security.selinux"
# What a path without an entry of its own (a mount point such as /proc) gets: the label of the root directory.
FALLBACK = "system_u:object_r:root_t:s0"
_KINDS = {FileKind.FILE: "file", FileKind.DIRECTORY: "dir", FileKind.SYMLINK: "link"}
_CHUNK = 1500
_NONE = "<<none>>"


def contexts_folder(policy: str) -> str:
    """Where the file contexts of a policy lie in an image."""
    return f"/etc/selinux/{policy}/contexts/files"


def labelled(plan: TreePlan, contexts: Mapping[str, bytes], toolbox: Toolbox, cache: Path) -> TreePlan:
    """``plan`` with a label on every entry.

    Args:
        contexts: ``file_contexts`` and the files beside it (``.homedirs``, ``.subs_dist``), by name.
        cache: Directory in which lookups are kept.

    Raises:
        BedplateError: matchpathcon gave another number of labels than it was asked for.
    """
    asked = {kind: [e.path for e in plan.entries if e.kind is kind] for kind in _KINDS}
    key = identity(["labels", 1, [[k.value, p] for k, p in asked.items()], {n: sha256(d) for n, d in contexts.items()}])
    place = cache / key
    try:
        found: dict[str, str] = json.loads(place.read_bytes())
    except (FileNotFoundError, ValueError):
        found = _look_up(asked, contexts, toolbox)
        write_entry(place, canonical_json(found))
    entries = tuple(
        replace(e, xattrs=tuple(sorted({**dict(e.xattrs), XATTR: found[e.path].encode() + b"\0"}.items())))
        for e in plan.entries
    )
    return replace(plan, entries=entries)


def _look_up(
    asked: Mapping[FileKind, Sequence[str]], contexts: Mapping[str, bytes], toolbox: Toolbox
) -> dict[str, str]:
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bedplate-labels-") as name:
        folder = Path(name)
        for file, data in contexts.items():
            (folder / file).write_bytes(data)
        for kind, paths in asked.items():
            for at in range(0, len(paths), _CHUNK):
                chunk = paths[at : at + _CHUNK]
                done = toolbox.run(
                    "matchpathcon", "-n", "-m", _KINDS[kind], "-f", folder / "file_contexts", *chunk, ok=(0, 1)
                )
                lines = done.text.splitlines()
                if len(lines) != len(chunk):
                    raise BedplateError(
                        f"matchpathcon gave {len(lines)} labels for {len(chunk)} paths",
                        details=done.stderr.splitlines()[-6:],
                    )
                found.update(zip(chunk, (FALLBACK if line == _NONE else line for line in lines), strict=True))
    return found
