"""The image is the same whoever builds it: root, root without its powers, or a plain user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
_CAP_SYS_ADMIN = 21
_PR_CAPBSET_DROP = 24


def build(workspace, keys: Path, place: Path, become: Callable[[], None] | None) -> subprocess.CompletedProcess[str]:
    """``bedplate build container`` in a process of another user, with downloads at hand and nothing else."""
    command = [sys.executable, "-m", "bedplate", "build", "container", "--relock", "--json"]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "PYTHONPATH": str(ROOT / "src"),
        "BEDPLATE_CACHE": str(place / "cache"),
        "BEDPLATE_KEYS": str(keys),
        "BEDPLATE_OUTPUT": str(place / "out"),
        "BEDPLATE_DISTRO": str(workspace.distro),
    }
    return subprocess.run(
        command, env=environ, cwd=place, preexec_fn=become, capture_output=True, text=True, check=False
    )


@pytest.fixture
def place(workspace, container_build, tmp_path_factory):
    """A directory with a copy of the downloads and the keys, readable by its owner only."""
    directory = tmp_path_factory.mktemp("other")
    shutil.copytree(workspace.cache / "store", directory / "cache/store")
    if (workspace.cache / "locks").is_dir():
        shutil.copytree(workspace.cache / "locks", directory / "cache/locks")
    shutil.copytree(workspace.keys, directory / "keys")
    return directory


def root_digest(container_build) -> str:
    return next(one.sha256 for one in container_build.build.artefacts if one.name == "root.erofs")


def test_a_plain_user_builds_the_same_root(workspace, container_build, place):
    become = None
    if os.geteuid() == 0:
        # pytest's directories are private to root; a way through them is what a home directory would give.
        for parent in (place, *place.parents):
            if parent == Path(parent.anchor) or not str(parent).startswith(str(place.parents[1])):
                break
            parent.chmod(0o755)
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)

        def become() -> None:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    done = build(workspace, place / "keys", place, become)
    assert done.returncode == 0, done.stderr
    assert root_digest(container_build) in done.stdout


def test_root_without_cap_sys_admin_builds_the_same_root(workspace, container_build, place):
    def become() -> None:
        # As in a default container: uid 0 whose exec no longer gains CAP_SYS_ADMIN (capabilities(7)).
        import ctypes

        if os.geteuid() == 0 and ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_SYS_ADMIN, 0, 0, 0) != 0:
            raise OSError("cannot drop CAP_SYS_ADMIN")

    done = build(workspace, place / "keys", place, become)
    assert done.returncode == 0, done.stderr
    assert root_digest(container_build) in done.stdout
