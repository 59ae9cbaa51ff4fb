"""Sets up the virtual environment that bin/bedplate and bin/check run in: pinned, hashed requirements, made once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINIMUM = (3, 11)


def python_for(requirements: str) -> str:
    """The Python of an environment holding exactly ``requirements/<requirements>.txt``; made or renewed when stale."""
    if sys.version_info < MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"bedplate: Python {found} is too old, {'.'.join(map(str, MINIMUM))} or newer is needed")
    lock = ROOT / "requirements" / f"{requirements}.txt"
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    directory = Path(os.environ.get("BEDPLATE_VENV", ROOT / ".venv")) / requirements
    python, stamp = directory / "bin" / "python", directory / "bedplate-stamp"
    if _stamped(stamp, wanted):
        return str(python)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{requirements}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not _stamped(stamp, wanted):
            print(f"setting up the Python environment from requirements/{lock.name} …", file=sys.stderr, flush=True)
            venv.create(directory, clear=True, with_pip=True, symlinks=True)
            _install(str(python), lock)
            stamp.write_text(wanted)
    return str(python)


def _stamped(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _install(python: str, lock: Path) -> None:
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
    command += ["--only-binary", ":all:", "-r", str(lock)]
    # pip's words are shown only when it fails: its warnings about the host's index settings are not about us.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"{done.stderr.strip()}\n"
            "bedplate: the Python requirements could not be installed (pip's words are above)\n"
            "  what to do: check that pip reaches a package index (pip config list), then run the same command again"
        )


def environment() -> dict[str, str]:
    """The caller's environment with Bedplate's source on the Python path and byte code kept beside the environment."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    cache = str(Path(os.environ.get("BEDPLATE_VENV", ROOT / ".venv")) / "pycache")
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "PYTHONNOUSERSITE": "1", "PYTHONPYCACHEPREFIX": cache}
