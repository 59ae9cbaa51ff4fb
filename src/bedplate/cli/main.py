"""The command line: arguments in, flows called, exit codes out. The only place that exits."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Annotated

import typer

from bedplate import __version__
from bedplate.cli import commands
from bedplate.cli.console import Output
from bedplate.cli.options import Json
from bedplate.cli.state import STATE
from bedplate.model.errors import BedplateError

app = typer.Typer(
    name="bedplate",
    help="Bedplate builds a Linux distribution's images from signed upstream packages: no root, no package script.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log every command that is run (-vv: its messages too)")
    ] = 0,
    distro: Annotated[str, typer.Option(help="Directory of the definition", show_default=False)] = "",
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="Mirror URL, or KIND=URL (main, security, archive); may be repeated", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes to use (0: one per processor)")] = 0,
) -> None:
    """Options every command takes."""
    STATE.verbose, STATE.distro, STATE.mirrors, STATE.jobs = verbose, distro, tuple(mirror or ()), jobs
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("bedplate").setLevel(level)


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version. Example: bedplate version"""
    Output(as_json=as_json).result({"version": __version__}, f"bedplate {__version__}")


commands.register(app)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=True)
    except BedplateError as error:
        STATE.output.failure(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nbedplate: interrupted; what is finished is kept, run the same command to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`bedplate … | head`); silence the flush at exit as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        STATE.output.failure(_from_os(error))
        sys.exit(1)


def _interrupt(number: int, frame: object) -> None:
    # As Ctrl-C: what is running (a machine, a half-written file) is ended and cleaned up on the way out.
    raise KeyboardInterrupt


def _from_os(error: OSError) -> BedplateError:
    import errno

    remedies = {
        errno.ENOSPC: "free some space (bedplate store gc removes what no lock needs) and run the command again",
        errno.EACCES: "check the permissions of this path",
        errno.EPERM: "check the permissions of this path",
        errno.EROFS: "choose a writable place with BEDPLATE_CACHE, BEDPLATE_KEYS or --output",
    }
    where = str(error.filename) if error.filename else ""
    return BedplateError(
        error.strerror or type(error).__name__, where=where, remedy=remedies.get(error.errno or 0, "run again with -v")
    )
