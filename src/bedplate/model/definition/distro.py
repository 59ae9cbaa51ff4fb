"""``distro/distro.toml``: who the distribution is and where its packages come from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bedplate.model.definition.base import Definition


class Suite(Definition):
    """One suite of an upstream.

    ``companion`` suites (updates, security) are merged with the base suite by version. ``mirror`` names which of the
    mirror kinds carries it: Debian's main archive and its security archive lie under different roots.
    ``keys`` are files below ``distro/keys`` and any one valid signature by a listed fingerprint suffices.
    """

    name: str
    mirror: str
    keys: list[str]
    fingerprints: list[str] = Field(description="Primary key fingerprints (hex) whose signature is accepted")
    max_age_days: int | None = Field(
        default=None, description="Refuse an index older than this when it has no Valid-Until"
    )


class Upstream(Definition):
    """A package archive: its format, its suites, and how its mirrors are found on a host."""

    id: str
    format: Literal["deb", "rpm"]
    suites: list[Suite]
    components: list[str] = ["main"]
    arch: str = "amd64"
    mirrors: dict[str, str] = Field(
        default_factory=dict, description="Mirror kind -> path suffix below the host's apt mirror of the same archive"
    )


class Distro(Definition):
    """The distribution itself."""

    id: str = Field(pattern=r"^[a-z][a-z0-9._-]*$")
    name: str
    version: str
    home_url: str = ""
    stream: str
    upstreams: list[Upstream]
    source_date_epoch: int = Field(description="Seconds since the epoch; every time stamp in an image")
