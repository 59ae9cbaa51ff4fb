"""``distro/packages/*.toml``: what is known about single packages: modes, links, drops, reviewed script verdicts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bedplate.model.definition.base import Definition


class Mode(Definition):
    """An owner and mode that upstream sets by script only."""

    mode: str = Field(pattern=r"^[0-7]{3,4}$")
    user: str = "root"
    group: str = "root"


class Alternative(Definition):
    """A link that update-alternatives would have made."""

    link: str
    target: str


class Verdict(Definition):
    """A person's reading of one script: pinned to the digest of its text, so that a changed script asks again."""

    script: str = Field(description="preinst, postinst, prerm, postrm, config, %post …")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    verdict: Literal["not-needed", "replaced"]
    reason: str = Field(min_length=10, description="What replaces it, or why nothing is needed")


class PackageFacts(Definition):
    """All facts of one package; ``name`` is the binary package's name."""

    name: str
    provides: list[str] = Field(default=[], description="RPM provides to add")
    drop_requires: list[str] = Field(
        default=[], description="Names of requirements to leave out, with the reason beside them"
    )
    drop_conflicts: list[str] = Field(
        default=[], description="Names of conflicts to leave out, with the reason beside them"
    )
    drop: list[str] = Field(default=[], description="Glob patterns of paths that never enter our RPM")
    modes: dict[str, Mode] = {}
    alternatives: list[Alternative] = []
    scripts: list[Verdict] = []


class DroppedRequirement(Definition):
    """A requirement, or a conflict, left out of every package or of those that ``of`` names.

    Upstream packages require what their maintainer scripts call. None of those scripts is run, so what only they need
    is not needed. A requirement with alternatives falls as a whole when it offers ``name``.
    """

    name: str = Field(description="Name of the required package or capability")
    relation: Literal["requires", "conflicts"] = Field(default="requires", description="Which relation is dropped")
    of: list[str] = Field(default=[], description="Packages (glob patterns) it is dropped from; empty: all of them")
    keep: list[str] = Field(
        default=[], description="Packages (glob patterns) that keep it, for they call it at run time"
    )
    reason: str = Field(min_length=10, description="Why nothing of the package that requires it calls it")


class FactsFile(Definition):
    """One file of ``distro/packages``."""

    package: list[PackageFacts] = []
    drop_requires: list[DroppedRequirement] = Field(
        default=[], description="Requirements or conflicts dropped from many packages at once"
    )


class User(Definition):
    """A frozen user id and, unless ``group`` says otherwise, the group of the same name and number."""

    uid: int
    group: str = ""
    home: str = "/"
    shell: str = "/usr/sbin/nologin"
    gecos: str = ""


class Ids(Definition):
    """``distro/ids.toml``: every user and group id there is, frozen for ever."""

    users: dict[str, User]
    groups: dict[str, int]
    members: dict[str, list[str]] = Field(default={}, description="Group -> users that belong to it besides their own")
