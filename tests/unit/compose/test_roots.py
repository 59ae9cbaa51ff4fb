"""Kinds of root file systems at work on a small tree."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from uuid import UUID

import pytest
from tests.support.compose import EPOCH, contents_of, folder, package, plan

from bedplate.compose.roots.base import RootJob
from bedplate.compose.roots.erofs import ErofsRoot
from bedplate.compose.scripts import ScriptIndex
from bedplate.model.definition.track import Kernel, Limits, Slot, Track
from bedplate.model.progress import NoProgress
from bedplate.toolchain.run import Toolbox
from bedplate.toolchain.tree import ToolsTree

TRACK = Track(
    id="small",
    title="Small",
    packages=["one", "two"],
    kernel=Kernel(package="linux", command_line=[], initrd_modules=[]),
    slots=Slot(esp_mib=64, root_mib=16, verity_mib=1),
    limits=Limits(root_mib=16, uki_mib=16, packages=2),
)


def _job(cache: Path) -> RootJob:
    packages = (
        package("one", {"/usr/one": b"bedplate" * 4000, "/usr/script": b"#!/bin/sh\n"}, folder("/usr")),
        package("two", {"/usr/two": bytes(range(256)) * 100}, folder("/usr")),
    )
    contents = contents_of(*packages)
    return RootJob(
        track=TRACK,
        name="test-small",
        version="1",
        namespace=UUID(int=1),
        epoch=EPOCH,
        plan=plan(*packages),
        contents=contents,
        scripts=ScriptIndex(cache / "scripts", contents),
        cache=cache,
        toolbox=Toolbox(ToolsTree(cache / "no-tools")),
        jobs=2,
        progress=NoProgress(),
        step=lambda name: nullcontext(),
    )


def _write(cache: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    root = ErofsRoot(_job(cache))
    assert root.interpreters() == {"/usr/script": "/bin/sh"}
    written = root.write(folder)
    return {name: (folder / name).read_bytes() for name in written.artefacts}


def test_erofs_root_needs_no_program_and_is_the_same_every_time(tmp_path: Path) -> None:
    assert _write(tmp_path / "cache", tmp_path / "a") == _write(tmp_path / "other", tmp_path / "b")


@pytest.mark.parametrize("at", [0, 4100, -1, -60])
def test_erofs_root_is_whole_although_all_of_its_cache_was_damaged(tmp_path: Path, at: int) -> None:
    cache = tmp_path / "cache"
    wanted = _write(cache, tmp_path / "a")
    objects = sorted(cache.rglob("*.erofs-object"))
    assert len(objects) == 2
    for path in objects:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
    for path in (cache / "scripts").iterdir():
        path.write_bytes(b"")
    assert _write(cache, tmp_path / "b") == wanted
