"""Builds of the container host in processes and places of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bedplate.flows.build import BuildOutcome
from bedplate.flows.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


_THEN_RUN = "; os.execv(sys.argv[1], sys.argv[1:])"
# A user namespace without a mapping: nobody's id, no capability, no mount, no chroot, no chown (user_namespaces(7)).
PLAIN_USER = "import ctypes, os, sys; assert ctypes.CDLL(None).unshare(0x10000000) == 0" + _THEN_RUN
# As in a default container: user id 0 whose exec no longer gains CAP_SYS_ADMIN (prctl(2), capabilities(7)).
WITHOUT_SYS_ADMIN = (
    "import ctypes, os, sys; assert os.geteuid() or ctypes.CDLL(None).prctl(24, 21, 0, 0, 0) == 0" + _THEN_RUN
)


def start_build(workspace: Workspace, place: Path, become: str = "", output: str = "out") -> subprocess.Popen[str]:
    """``bedplate build container`` in another process, with the cache and keys below ``place``.

    ``become`` is a program that gives up rights before it runs the command.
    """
    command = [sys.executable, "-m", "bedplate", "build", "container", "--relock", "--json"]
    if become:
        command = [sys.executable, "-c", become, *command]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "PYTHONPATH": str(ROOT / "src"),
        "BEDPLATE_CACHE": str(place / "cache"),
        "BEDPLATE_KEYS": str(place / "keys"),
        "BEDPLATE_OUTPUT": str(place / output),
        "BEDPLATE_DISTRO": str(workspace.distro),
    }
    return subprocess.Popen(
        command,
        env=environ,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def root_digest(outcome: BuildOutcome) -> str:
    """SHA-256 of the root file system of a build."""
    return next(one.sha256 for one in outcome.build.artefacts if one.name == "root.erofs")


def require_root(process: subprocess.Popen[str], digest: str) -> None:
    """Wait for a build and fail unless it succeeded and made this root."""
    out, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors
    assert digest in out
