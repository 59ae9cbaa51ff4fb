"""Where stages work: in memory while it has room, and nothing stays."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from bedplate.compose.stages.scratch import scratch

_NO_MACHINE_HAS = 1 << 60


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A disk and a memory, as directories."""
    for name in ("disk", "memory"):
        (tmp_path / name).mkdir()
    return tmp_path / "disk", tmp_path / "memory"


def test_memory_with_room_is_taken(places: tuple[Path, Path]) -> None:
    disk, memory = places
    with scratch("x", disk, memory, room=0) as folder:
        assert folder.parent == memory
        (folder / "file").write_bytes(b"1")
    assert not list(memory.iterdir())


@pytest.mark.parametrize(("memory", "room"), [("memory", _NO_MACHINE_HAS), ("nowhere", 0)])
def test_the_disk_where_memory_has_no_room(tmp_path: Path, memory: str, room: int) -> None:
    (tmp_path / "memory").mkdir()
    with scratch("x", tmp_path / "disk", tmp_path / memory, room) as folder:
        assert folder.parent == tmp_path / "disk"
    assert not list((tmp_path / "disk").iterdir())


def test_nothing_stays_of_a_stage_that_fails(places: tuple[Path, Path]) -> None:
    disk, memory = places
    with pytest.raises(ZeroDivisionError), scratch("x", disk, memory, room=0) as folder:
        (folder / "file").write_bytes(b"1")
        raise ZeroDivisionError
    assert not list(memory.iterdir())


def test_what_a_killed_run_left_is_removed_and_what_is_at_work_is_not(places: tuple[Path, Path]) -> None:
    disk, memory = places
    left, working, fresh = (memory / f"bedplate-stage-{name}" for name in ("left", "working", "fresh"))
    for folder in (left, working, fresh):
        folder.mkdir()
        (folder / "file").write_bytes(b"1")
    long_ago = time.time() - 3600
    for folder in (left, working):
        os.utime(folder, (long_ago, long_ago))
    held = os.open(working, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with scratch("x", disk, memory, room=0):
            assert not left.exists()
            assert (working / "file").exists()
            assert (fresh / "file").exists()
    finally:
        os.close(held)


def test_a_link_of_that_name_is_not_followed(places: tuple[Path, Path], tmp_path: Path) -> None:
    disk, memory = places
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_bytes(b"1")
    os.utime(tmp_path / "precious", (0, 0))
    link = memory / "bedplate-stage-link"
    link.symlink_to(tmp_path / "precious")
    os.utime(link, (0, 0), follow_symlinks=False)
    with scratch("x", disk, memory, room=0):
        pass
    assert (tmp_path / "precious/file").exists()
