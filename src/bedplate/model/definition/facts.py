"""``distro/packages/*.toml``: what is known about single packages: modes, links, drops, reviewed script verdicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import Field, model_validator

from bedplate.model.definition.base import Definition


class Mode(Definition):
    """An owner and mode that upstream sets by script only."""

    mode: str = Field(pattern=r"^[0-7]{3,4}$")
    user: str = "root"
    group: str = "root"
    capabilities: str = Field(default="", description="File capabilities as cap_to_text(3) writes them")


class Alternative(Definition):
    """A link that update-alternatives would have made."""

    link: str
    target: str
    priority: int = Field(default=0, description="Of several targets that are installed the highest one is linked")


class Edit(Definition):
    """A change of a text: ``old`` stands in it once, and becomes ``new``."""

    old: str = Field(min_length=1)
    new: str


class AddedFile(Definition):
    """A file that upstream's script would have made: it is part of our package.

    Either ``content``, or ``copy_of`` names a file of the same package that it is a copy of, which may be the file
    itself; ``edits`` change the copy. An edit that no longer fits is an error: upstream changed the file.
    """

    content: str = ""
    copy_of: str = ""
    edits: list[Edit] = []
    mode: Mode = Mode(mode="0644")
    config: bool = Field(default=True, description="An administrator may change it: kept on upgrade")

    @model_validator(mode="after")
    def _one_source(self) -> AddedFile:
        if self.content and self.copy_of:
            raise ValueError("give `content` or `copy_of`, not both")
        if self.edits and not self.copy_of:
            raise ValueError("`edits` change a copy: give `copy_of`")
        return self


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
    requires: list[str] = Field(
        default=[],
        description="RPM requirements to add: what it needs itself and another package stopped bringing along",
    )
    drop_requires: list[str] = Field(
        default=[], description="Names of requirements to leave out, with the reason beside them"
    )
    drop_conflicts: list[str] = Field(
        default=[], description="Names of conflicts to leave out, with the reason beside them"
    )
    drop: list[str] = Field(default=[], description="Glob patterns of paths that never enter our RPM")
    modes: dict[str, Mode] = {}
    alternatives: list[Alternative] = []
    users: list[str] = Field(
        default=[], description="Users of distro/ids.toml, with their own groups, that exist where this package is"
    )
    groups: list[str] = Field(default=[], description="Groups of distro/ids.toml that exist where this package is")
    directories: dict[str, Mode] = Field(default={}, description="Directories the script would have made")
    links: dict[str, str] = Field(default={}, description="Symbolic links the script would have made: path -> target")
    files: dict[str, AddedFile] = Field(default={}, description="Files the script would have made: path -> file")
    tmpfiles: list[str] = Field(default=[], description="Lines of a tmpfiles.d file of the package")
    absent: dict[str, str] = Field(
        default={},
        description="Programs that a unit or a log rotation of the package starts and that may be missing, or such "
        "files whose script is not understood: path or name -> why that is right",
    )
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

    def only(self, users: Collection[str], groups: Collection[str]) -> Ids:
        """The part of the table with these users, their own and their primary groups, and these groups."""
        kept = {name: user for name, user in self.users.items() if name in users}
        wanted = {*groups, *(user.group for user in kept.values() if user.group)}
        return Ids(
            users=kept,
            groups={name: number for name, number in self.groups.items() if name in wanted},
            members={
                group: chosen
                for group, members in self.members.items()
                if (chosen := [user for user in members if user in kept])
            },
        )


def accounts_of(ids: Ids, facts: Mapping[str, PackageFacts], packages: Collection[str]) -> Ids:
    """The accounts of a system with these ``packages`` (names): those no package brings, and those that one of these
    brings. A number is the same wherever the account exists."""
    brought_users = {name for fact in facts.values() for name in fact.users}
    brought_groups = {name for fact in facts.values() for name in fact.groups}
    here = [facts[name] for name in packages if name in facts]
    users = (ids.users.keys() - brought_users) | {name for fact in here for name in fact.users}
    groups = (ids.groups.keys() - brought_groups) | {name for fact in here for name in fact.groups}
    return ids.only(users, groups)
