"""The database of installed packages for an image, made by rpm itself without installing anything.

No script, trigger or sysusers helper runs and no file is written but the database. It is written into an empty
directory in the packages' order of name, and rpm takes its times from SOURCE_DATE_EPOCH: same packages, same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from bedplate.model.errors import BedplateError
from bedplate.toolchain.run import Toolbox

DATABASE = "rpmdb.sqlite"
"""The one file of rpm's sqlite database an image needs; the others are made when they are missing."""


def make_rpmdb(toolbox: Toolbox, packages: Sequence[Path], left_out: Sequence[str] = ()) -> bytes:
    """The content of ``rpmdb.sqlite`` with ``packages`` (signed or unsigned RPMs) installed.

    Args:
        toolbox: Gives rpm; its ``epoch`` becomes the install time.
        packages: RPM files, at most one of each name; their order does not matter.
        left_out: Paths of these packages that are not on the system: recorded as not installed, so that a
            verification does not miss them.

    Raises:
        ToolError: rpm refused a package.
        BedplateError: rpm made no database.
    """
    with tempfile.TemporaryDirectory(prefix="bedplate-rpmdb-") as name:
        directory = Path(name)
        # Names through a file: an argument list of some hundred paths may be too long.
        manifest = directory / "packages"
        manifest.write_text("".join(f"{path.resolve()}\n" for path in sorted(packages, key=lambda path: path.name)))
        database = directory / "rpm"
        database.mkdir()
        toolbox.run(
            "rpm",
            "--dbpath",
            database,
            "--define",
            "_db_backend sqlite",
            # rpm would start useradd or systemd-sysusers for the user(…) provides, even with --justdb.
            "--define",
            "__systemd_sysusers %{nil}",
            "--install",
            "--justdb",
            "--noscripts",
            "--notriggers",
            "--nodeps",
            "--nodigest",
            "--nosignature",
            "--ignoresize",
            "--ignorearch",
            "--ignoreos",
            manifest,
        )
        if left_out:
            names = "".join(f"{path}\n" for path in sorted(left_out)).encode()
            with as_file(files("bedplate.packages").joinpath("rpmdb_states.py")) as program:
                toolbox.run("python3", program, database / DATABASE, stdin=names)
        try:
            return (database / DATABASE).read_bytes()
        except OSError as error:
            raise BedplateError("rpm made no database", where=str(database / DATABASE)) from error
