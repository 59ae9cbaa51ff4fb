"""``distro/distro.toml``: who the distribution is and where its packages come from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

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
    path: str = Field(
        default="",
        description="Root of the suite below its mirror; empty: dists/NAME for deb, the mirror itself for rpm",
    )


class MirrorKind(Definition):
    """One of an upstream's archives, and how its mirrors are recognised among a host's apt sources.

    A source is this archive when it names one of ``apt_suites`` and one of the upstream's components, and either its
    keyring's file name matches one of ``keyrings`` or the last segment of its URI is ``path``. When nothing names this
    archive, its address is that of ``derived_from`` with ``suffix`` appended.
    """

    apt_suites: list[str] = Field(default=[], description="Suite names a host may name, of any release")
    keyrings: list[str] = Field(default=[], description="Glob patterns of the file name in Signed-By")
    path: str = ""
    derived_from: str = ""
    suffix: str = ""


class Upstream(Definition):
    """A package archive: its format, its suites, and how its mirrors are found on a host."""

    id: str
    format: Literal["deb", "rpm"]
    suites: list[Suite]
    components: list[str] = ["main"]
    arch: str = "amd64"
    extra_arches: list[str] = Field(
        default=[], description="rpm: further architectures to offer beside `arch` and noarch, for instance i686"
    )
    file_lists: Literal["all", "primary"] = Field(
        default="all", description="rpm: whether packages carry all their paths or the ones of the primary index only"
    )
    mirrors: dict[str, MirrorKind] = Field(
        default_factory=dict, description="The archives the suites lie in, by the name that Suite.mirror uses"
    )

    @model_validator(mode="after")
    def _mirrors_exist(self) -> Self:
        for what, name in [
            *((f"suite {suite.name!r}", suite.mirror) for suite in self.suites),
            *((f"mirror {kind!r}", mirror.derived_from) for kind, mirror in self.mirrors.items()),
        ]:
            if name and name not in self.mirrors:
                raise ValueError(f"{what} refers to the mirror {name!r}, which is not in `mirrors`")
        return self


class AdvisoryPolicy(Definition):
    """What advisories are made from, and what is said in them."""

    prefix: str = Field(default="", description="Start of every id: PREFIX-YEAR:SOURCE-VERSION-RELEASE")
    suites: list[str] = Field(default=[], description="Upstream suites that carry security fixes and nothing else")
    reboot: list[str] = Field(
        default=[],
        description="Source packages (glob patterns) whose fix reaches all that runs by a reboot only",
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
    advisories: AdvisoryPolicy = AdvisoryPolicy()
