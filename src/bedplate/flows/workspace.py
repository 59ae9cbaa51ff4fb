"""Where one run of Bedplate reads and writes: the definition, the cache, the keys, the images, and how it reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bedplate.model.errors import BadInput
from bedplate.model.progress import NoProgress, Progress


@dataclass(frozen=True)
class Workspace:
    """Directories and settings every flow needs.

    ``distro`` is the definition's directory, ``cache`` may be removed at any time, ``keys`` may not, ``output``
    receives images. ``mirrors`` are mirror options of the user (``kind=URL``, or one URL for the main archive).
    ``jobs`` is how many processes and threads heavy work may use.
    """

    distro: Path
    cache: Path
    keys: Path
    output: Path
    mirrors: tuple[str, ...] = ()
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    progress: Progress = field(default_factory=NoProgress)

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        distro: Path | None = None,
        output: Path | None = None,
        mirrors: tuple[str, ...] = (),
        jobs: int | None = None,
        progress: Progress | None = None,
    ) -> Workspace:
        """The workspace options and environment variables describe; see ``docs/reference/settings.md``.

        Raises:
            BadInput: there is no definition at the place named.
        """
        home = Path(environ.get("HOME", "/"))
        cache = environ.get("BEDPLATE_CACHE") or Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "bedplate"
        data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share")
        keys = environ.get("BEDPLATE_KEYS") or data / "bedplate" / "keys"
        place = (distro or Path(environ.get("BEDPLATE_DISTRO") or _default_distro())).absolute()
        if not (place / "distro.toml").is_file():
            raise BadInput(
                "no distribution is defined here (distro.toml is missing)",
                where=str(place),
                remedy="run in a checkout, or name the definition's directory with --distro",
            )
        return cls(
            distro=place,
            cache=Path(cache).absolute(),
            keys=Path(keys).absolute(),
            output=(output or Path(environ.get("BEDPLATE_OUTPUT") or "out")).absolute(),
            mirrors=mirrors,
            jobs=jobs or os.cpu_count() or 1,
            progress=progress or NoProgress(),
        )


def _default_distro() -> Path:
    here = Path("distro")
    return here if here.is_dir() else Path(__file__).resolve().parents[3] / "distro"
