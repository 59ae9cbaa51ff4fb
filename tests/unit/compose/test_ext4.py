"""The writable root: what mke2fs and debugfs make of a plan, read back with debugfs and checked with e2fsck."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from bedplate.compose.groups import Contents
from bedplate.compose.labels import XATTR, labelled
from bedplate.compose.plan import StageOutput, TreePlan, add_stages, plan_tree
from bedplate.compose.roots.base import RootJob
from bedplate.compose.roots.ext4 import ROOT, Ext4Root
from bedplate.compose.scripts import ScriptIndex
from bedplate.model.definition.facts import Ids, User
from bedplate.model.definition.track import Kernel, Limits, Root, Slot, Track
from bedplate.model.package import FileEntry, FileKind
from bedplate.model.progress import NoProgress
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.tools
IDS = Ids(users={"root": User(uid=0), "web": User(uid=33)}, groups={"mail": 8})
EPOCH = 1_767_225_600
LABEL = b"system_u:object_r:bin_t:s0\0"


def _file(path: str, data: bytes, mode: int = 0o644, **more: str) -> FileEntry:
    return FileEntry(path, FileKind.FILE, mode, size=len(data), sha256=hashlib.sha256(data).hexdigest(), **more)


CONTENTS: Mapping[str, bytes] = {
    "/usr/bin/tool": b"#!/bin/sh\n" + b"x" * 9000,
    "/usr/bin/setid": b"binary",
    "/etc/a file": b"",
    "/var/data": bytes(range(256)) * 5000,
}
FILES = (
    _file("/usr/bin/tool", CONTENTS["/usr/bin/tool"], 0o755),
    _file("/usr/bin/setid", CONTENTS["/usr/bin/setid"], 0o2755, group="mail"),
    _file("/etc/a file", b"", user="web", group="web"),
    _file("/var/data", CONTENTS["/var/data"]),
    FileEntry("/usr/bin/link", FileKind.SYMLINK, 0o777, target="tool"),
    FileEntry("/var/www", FileKind.DIRECTORY, 0o750, "web", "web"),
)


def _plan() -> tuple[TreePlan, Contents]:
    made = StageOutput("demo", FILES, CONTENTS)
    plan = add_stages(plan_tree([], [], {}, IDS, [], {}, EPOCH), [made], IDS, EPOCH)
    contents = Contents({})
    contents.add_stage(made.owner, CONTENTS)
    return plan, contents


def _write(folder: Path, toolbox: Toolbox, *, label: bytes = b"") -> Path:
    plan, contents = _plan()
    if label:
        plan = replace(plan, entries=tuple(replace(e, xattrs=((XATTR, label),)) for e in plan.entries))
    track = Track(
        id="demo", title="Demo", packages=[], root=Root(filesystem="ext4", verity=False, free_mib=128),
        kernel=Kernel(package="k", command_line=[], initrd_modules=[]), slots=Slot(esp_mib=64),
        limits=Limits(root_mib=1, uki_mib=1, packages=1),
    )  # fmt: skip

    def step(_: str) -> AbstractContextManager[None]:
        return nullcontext()

    folder.mkdir()
    job = RootJob(
        track=track, name="demo", version="1", namespace=UUID(int=3), epoch=EPOCH, plan=plan, contents=contents,
        scripts=ScriptIndex(folder / "scripts", contents), cache=folder, toolbox=toolbox, jobs=1, progress=NoProgress(),
        step=step,
    )  # fmt: skip
    writer = Ext4Root(job)
    assert writer.interpreters() == {"/usr/bin/tool": "/bin/sh"}
    written = writer.write(folder)
    assert (written.path, written.root_hash) == (folder / ROOT, "")
    return written.path


def _ask(toolbox: Toolbox, image: Path, question: str) -> str:
    return toolbox.run("debugfs", "-R", question, image).text


def test_owners_modes_links_and_contents_are_those_of_the_plan(tmp_path: Path, toolbox: Toolbox) -> None:
    image = _write(tmp_path / "one", toolbox)
    assert toolbox.run("e2fsck", "-f", "-n", image).code == 0
    for path, data in CONTENTS.items():
        _ask(toolbox, image, f'dump "{path}" {tmp_path / "out"}')
        assert (tmp_path / "out").read_bytes() == data
    assert "Mode:  02755" in _ask(toolbox, image, 'stat "/usr/bin/setid"')
    assert "Group:     8" in _ask(toolbox, image, 'stat "/usr/bin/setid"')
    owner = _ask(toolbox, image, 'stat "/var/www"')
    assert "User:    33   Group:    33" in owner
    assert "Mode:  0750" in owner
    assert 'Fast link dest: "tool"' in _ask(toolbox, image, 'stat "/usr/bin/link"')


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path, toolbox: Toolbox) -> None:
    one, two = (_write(tmp_path / name, toolbox, label=LABEL) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_every_path_carries_its_label(tmp_path: Path, toolbox: Toolbox) -> None:
    image = _write(tmp_path / "one", toolbox, label=LABEL)
    assert toolbox.run("e2fsck", "-f", "-n", image).code == 0
    for path in ("/", "/usr/bin", "/usr/bin/tool", "/usr/bin/link", "/etc/a file"):
        assert "bin_t" in _ask(toolbox, image, f'ea_get "{path}" {XATTR}')


def test_labels_follow_the_most_specific_pattern_and_the_kind(tmp_path: Path, toolbox: Toolbox) -> None:
    contexts = (
        b"/.*\tsystem_u:object_r:default_t:s0\n"
        b"/\t-d\tsystem_u:object_r:root_t:s0\n"
        b"/usr/bin(/.*)?\tsystem_u:object_r:bin_t:s0\n"
        b"/usr/bin/setid\t--\tsystem_u:object_r:setid_t:s0\n"
        b"/var/www(/.*)?\t-d\t<<none>>\n"
    )
    plan, _ = _plan()
    found = {
        entry.path: dict(entry.xattrs)[XATTR].rstrip(b"\0").decode().split(":")[2]
        for entry in labelled(plan, {"file_contexts": contexts}, toolbox, tmp_path / "cache").entries
    }
    assert found["/usr/bin/setid"] == "setid_t"
    assert found["/usr/bin/tool"] == found["/usr/bin"] == found["/usr/bin/link"] == "bin_t"
    assert found["/var/data"] == "default_t"
    assert found["/"] == "root_t"
    assert found["/var/www"] == "root_t"  # nothing is said of it: like a mount point
